package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTargetsBelongToRows(t *testing.T) {
	known := make(map[string]bool)
	for _, short := range []bool{false, true} {
		for _, w := range workloads(sizes{short, 2_000}) {
			for _, m := range w.metrics {
				known[m.key(w.name)] = true
			}
		}
	}
	for key := range targets {
		if !known[key] {
			t.Errorf("the target of %q belongs to no row", key)
		}
	}
}

// All rows that need something of their own, with the smallest sizes.
func TestSmallRows(t *testing.T) {
	o := newTestOrigin(t)
	for _, test := range []struct {
		kind     string
		subjects []string
		params   Params
	}{
		{"hit", everyone, Params{Size: 1 << 10, Count: 4, Timeout: true}},
		{"revalidate", everyone, Params{Size: 1 << 10, Count: 4, Timeout: true}},
		{"revalidate", everyone, Params{Size: 1 << 10, Count: 4, TLS: true}},
		{"miss", everyone, Params{Size: 1 << 10, Timeout: true}},
		{"miss", everyone, Params{Size: 80 << 10, TLS: true}},
		{"crowd", []string{limit, cachetripDisk, cachetripMemory, noCache}, Params{Size: 300 << 10, Clients: 20}},
		{"churn", everyone[:len(everyone)-1], Params{Size: 4 << 10, Bound: 1 << 20, Time: 20 * time.Millisecond}},
		{"parallel", everyone, Params{Size: 4 << 10, Count: 20, Clients: 8}},
	} {
		for _, subject := range test.subjects {
			h := &harness{origin: o}
			w := &workload{name: test.kind, kind: test.kind, Params: test.params}
			j := h.job(w, subject, t.TempDir())
			j.Tag = t.Name() + j.Tag
			c, err := contestants[test.kind](&j)
			if err != nil {
				t.Errorf("%s, %s: %v", test.kind, subject, err)
				continue
			}
			before := o.tally(j.Tag).requests.Load()
			s := c.measure(8)
			s.judge(int(o.tally(j.Tag).requests.Load() - before))
			if err := c.close(); err != nil || s.Wrong+s.Errors > 0 {
				t.Errorf("%s, %s: %d wrong, %d errors (%s), %v", test.kind, subject, s.Wrong, s.Errors, s.First, err)
			}
			if s.Values["time"] <= 0 {
				t.Errorf("%s, %s: it took %v ns", test.kind, subject, s.Values["time"])
			}
		}
	}
}

func newTestOrigin(t *testing.T) *origin {
	o, err := startOrigin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	return o
}

func TestAnotherProtocolIsNoHTTP2(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	req, err := newRequest(plain.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (onlyHTTP2{http.DefaultTransport}).RoundTrip(req); err == nil || !strings.Contains(err.Error(), "instead of HTTP/2") {
		t.Errorf("HTTP/1.1 was taken for HTTP/2: %v", err)
	}
}

// The limit of the churn must remove what is too much, too.
func TestTheLimitOfChurnKeepsTheBound(t *testing.T) {
	j := &job{Kind: "churn", Subject: limit, Dir: t.TempDir(), Params: Params{Size: 4 << 10, Bound: 1 << 20, Time: time.Minute}}
	c, err := contestants["churn"](j)
	if err != nil {
		t.Fatal(err)
	}
	if s := c.measure(500); s.Errors+s.Wrong > 0 {
		t.Fatal(s.First)
	}
	if _, files, err := walkSize(j.Dir); err != nil || files != 256 {
		t.Errorf("%d files are left, want 256; %v", files, err)
	}
}

func TestEntriesAreCounted(t *testing.T) {
	o := newTestOrigin(t)
	h := &harness{dir: t.TempDir(), origin: o, rounds: 3, log: t.Output(), results: make(map[string]map[string]map[string][]float64)}
	i := slices.IndexFunc(workloads(sizes{true, 60}), func(w *workload) bool { return w.name == "entries" })
	w := workloads(sizes{true, 60})[i]
	if err := runEntries(t.Context(), h, w); err != nil {
		t.Fatal(err)
	}
	if len(h.faults) > 0 {
		t.Errorf("faults: %+v", h.faults)
	}
	for _, m := range w.metrics {
		for _, subject := range w.subjects {
			if n := len(h.results["entries"][m.name][subject]); n != 3 {
				t.Errorf("%s, %s: %d samples, want 3", m.name, subject, n)
			}
		}
	}
}

// The rounds must not hit what earlier ones have removed, or list its host.
func TestRoundsOfEntriesDoNotMeet(t *testing.T) {
	for _, count := range []int{2_000, 100_000, 1_000_000} {
		hosts := hostsOf(count)
		listed, removed := make(map[int]bool), make(map[int]bool)
		for round := range 9 {
			at := entryOfRound(round, count, hosts)
			if at >= count || removed[at] || removed[(at+1)%count] {
				t.Errorf("%d entries, round %d: entry %d is gone or beyond the end", count, round, at)
			}
			listed[at%hosts], removed[(at+1)%count] = true, true
		}
		for i := range removed {
			if listed[i%hosts] {
				t.Errorf("%d entries: entry %d was removed, and its host is listed", count, i)
			}
		}
	}
}

// A peer that cannot even be opened must appear in the tables.
func TestAFailedPeerIsShown(t *testing.T) {
	h := &harness{results: make(map[string]map[string]map[string][]float64)}
	w := &workload{name: "w", kind: "hit", subjects: []string{limit, cachetripDisk, bartventerDisk}, metrics: []metric{timed("time", "limit")}}
	for _, s := range w.subjects[:2] {
		h.record(w, s, sample{Values: map[string]float64{"time": 100}})
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if h.excused(t.Context(), w, cachetripDisk, errors.New("broken")) || h.excused(canceled, w, bartventerDisk, io.EOF) {
		t.Error("something other than a fault of a peer was excused")
	}
	if !h.excused(t.Context(), w, bartventerDisk, errors.New("no directory")) {
		t.Fatal("a fault of a peer was not excused")
	}
	r := h.report([]*workload{w})
	if table := r.markdown(); !strings.Contains(table, "| failed |") || !strings.Contains(table, "no directory") || r.failures() != 0 {
		t.Errorf("%d failures, and the table:\n%s", r.failures(), table)
	}
}

func TestTheBestPeerIsNamed(t *testing.T) {
	h := &harness{results: make(map[string]map[string]map[string][]float64)}
	w := &workload{name: "w", kind: "hit", subjects: everyone, metrics: []metric{timed("time", "limit")}}
	for s, v := range map[string]float64{limit: 100, cachetripDisk: 150, gregjonesDisk: 200, sandrolainMemory: 120, bartventerDisk: 90} {
		h.record(w, s, sample{Values: map[string]float64{"time": v}})
	}
	h.record(w, bartventerDisk, sample{Wrong: 1}) // fast, but wrong
	r := h.report([]*workload{w})
	if got := r.Figures[0].bestPeer(); got != "**sandrolain, memory 1.20x**" {
		t.Errorf("the best peer is %q", got)
	}
}

// The test binary stands for both builds.
func TestBeforeAndAfterTakeTurns(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = run(t.Context(), []string{
		"-short", "-n", "2", "-time", "2ms", "-run", "^(hit-1k|start-10|herd|crawler)$", "-subject", "^cachetrip$",
		"-before", self, "-dir", t.TempDir(),
	}, &out, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| cachetrip, before |", "| after / before |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing:\n%s", want, &out)
		}
	}
}

func TestTablesArePasted(t *testing.T) {
	const document = "a\n<!-- bench:peers -->\nold\n<!-- /bench:peers -->\nb\n<!-- bench:tools -->\nkept\n<!-- /bench:tools -->\n"
	got := paste(document, map[string]string{"peers": "| new |\n", "tools": "", "traces": "| lost |\n"})
	want := strings.Replace(document, "old\n", "\n| new |\n\n", 1)
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if again := paste(got, map[string]string{"peers": "| new |\n"}); again != got {
		t.Errorf("the second time it is %q, want %q", again, got)
	}
}
