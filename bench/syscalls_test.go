package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

const straceSummary = `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.10    0.000011           5      2016           fstat
 38.90    0.000007           3        20        10 openat
  0.00    0.000000           0       300           futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.000018           7      2336        10 total
`

func TestCallsAreCountedPerOperation(t *testing.T) {
	many, err := parseCalls(strings.NewReader(straceSummary))
	if err != nil {
		t.Fatal(err)
	}
	few := calls{"fstat": 16, "openat": 20, "futex": 100, "read": 3}
	each := many.since(few, 1000)
	if each.sum(false) != 2 || each.sum(true) != 0.2 || each.text() != "fstat 2.0" {
		t.Errorf("%.2f calls (%s), %.2f of the scheduler; want 2 (fstat 2.0), 0.2", each.sum(false), each.text(), each.sum(true))
	}
	if _, err := parseCalls(strings.NewReader("strace: ptrace: Operation not permitted\n")); err == nil {
		t.Error("an empty summary was taken for no calls")
	}
}

// The limit of a hit makes four calls, whatever else the process does.
func TestSystemCallsOfTheLimit(t *testing.T) {
	if exec.Command("strace", "-c", "-o", t.TempDir()+"/summary", "true").Run() != nil {
		t.Skip("strace cannot trace here")
	}
	var out bytes.Buffer
	err := run(t.Context(), []string{"-syscalls", "-short", "-run", "^hit-1k$", "-subject", "^nobody$", "-dir", t.TempDir()}, &out, t.Output())
	if err != nil || !strings.Contains(out.String(), "| hit, 1 KiB | limit | 4.0 | 4.0 |") {
		t.Errorf("%v\n%s", err, &out)
	}
}
