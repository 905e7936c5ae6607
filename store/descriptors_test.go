//go:build linux || darwin

package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// Descriptors that a process has open.

// childDescriptors runs out of file descriptors.
func childDescriptors(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{MemoryBytes: -1})
	if err != nil {
		return err
	}
	if err := putBody(d, testKey(1), pattern(1, 100_000)); err != nil {
		return err
	}
	limit := syscall.Rlimit{Cur: 40, Max: 40}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	var open []*os.File
	for {
		f, err := os.Open(dir)
		if err != nil {
			break
		}
		open = append(open, f)
	}
	if err := putBody(d, testKey(1), pattern(2, 200_000)); !errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("storing: %w, want EMFILE", err)
	}
	if _, err := d.Entries(noContext, testKey(1)); !errors.Is(err, syscall.EMFILE) {
		return fmt.Errorf("looking up: %w, want EMFILE", err)
	}
	for _, f := range open {
		f.Close()
	}
	es, err := d.Entries(noContext, testKey(1))
	if err != nil || len(es) != 1 {
		return fmt.Errorf("afterwards: %v, %w", es, err)
	}
	if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, pattern(1, 100_000)) {
		return fmt.Errorf("afterwards: wrong bytes or %w", err)
	}
	return putBody(d, testKey(1), pattern(2, 200_000))
}

func TestNoDescriptorsLeft(t *testing.T) {
	if err := child("descriptors", t.TempDir()).Run(); err != nil {
		t.Error(err)
	}
}

func TestNoDescriptorLeaks(t *testing.T) {
	count := func() int {
		n := 0
		if f, err := os.Open("/proc/self/fd"); err == nil {
			names, _ := f.Readdirnames(-1)
			f.Close()
			n = len(names)
		}
		return n
	}
	dir := t.TempDir()
	before := count()
	d := openTest(t, dir, DiskOptions{MaxBytes: 2 << 20})
	for i := range 200 {
		putBody(d, testKey(i%20), pattern(byte(i), []int{100, 30_000, 100_000}[i%3]))
		for _, e := range mustEntries(t, d, testKey(i%20)) {
			readBody(d, e)
		}
		draft, err := d.Create(t.Context(), testKey(i), -1)
		if err == nil {
			draft.Write(make([]byte, 400_000))
			draft.Close()
		}
	}
	d.Close()
	if after := count(); after > before {
		t.Errorf("%d descriptors open, %d before", after, before)
	}
}
