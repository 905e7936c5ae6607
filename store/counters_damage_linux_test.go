package store

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// Counters that are damaged, or do not tell of a change.

// TestOutsidersAreSeen: a look-up sees after lookEvery what other programs did
// to the files.
func TestOutsidersAreSeen(t *testing.T) {
	key := testKey(1)
	for name, test := range map[string]struct {
		change func(path string) error
		want   int
	}{
		"removed":               {os.Remove, 0},
		"renamed":               {func(path string) error { return os.Rename(path, path+".old") }, 0},
		"its directory removed": {func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, 0},
		"cut":                   {func(path string) error { return os.Truncate(path, 100) }, 0},
		"all removed": {func(path string) error {
			return os.RemoveAll(filepath.Join(path, "../../../.."))
		}, 0},
		"all replaced": {func(path string) error {
			dir := filepath.Join(path, "../../../..")
			if err := os.Rename(dir, dir+".old"); err != nil {
				return err
			}
			other, err := OpenDisk(dir, DiskOptions{})
			if err != nil {
				return err
			}
			defer other.Close()
			if err := putBody(other, key, pattern(3, 1000)); err != nil {
				return err
			}
			return freshen(other, key, 204)
		}, 204},
		"an old one put back": {func(path string) error { return os.Rename(path+".backup", path) }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "cache")
			d := openTest(t, dir, DiskOptions{})
			mustPut(t, d, key, pattern(1, 1000))
			b, err := os.ReadFile(d.path(key))
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(d.path(key)+".backup", b, 0o600)
			if err := freshen(d, key, 203); err != nil {
				t.Fatal(err)
			}
			mustTrust(t, d, key)
			if err := test.change(d.path(key)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lookEvery)
			checkStatus(t, d, key, test.want)
			// From then on all is as usual.
			other := openTest(t, dir, DiskOptions{MemoryBytes: -1})
			for status := 400; status < 410; status++ {
				mustPut(t, other, key, pattern(1, 100))
				if err := freshen(other, key, status); err != nil {
					t.Fatal(err)
				}
				checkStatus(t, d, key, status)
			}
		})
	}
}

// Nothing that happens to the file of the counters does any harm: not to the
// process, not to what look-ups find, and not for longer than a moment to what
// others are told.
func TestCountersDamaged(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"emptied":    func(t *testing.T, path string) { os.Truncate(path, 0) },
		"cut":        func(t *testing.T, path string) { os.Truncate(path, 4096) },
		"cut by one": func(t *testing.T, path string) { os.Truncate(path, countersSize-1) },
		"longer":     func(t *testing.T, path string) { os.Truncate(path, 2*countersSize) },
		"zeros":      func(t *testing.T, path string) { overwrite(t, path, make([]byte, countersSize)) },
		"about to overflow": func(t *testing.T, path string) {
			overwrite(t, path, bytes.Repeat([]byte{0xff}, countersSize))
		},
		"random":  func(t *testing.T, path string) { overwrite(t, path, pattern(7, countersSize)) },
		"removed": func(t *testing.T, path string) { os.Remove(path) },
		"replaced": func(t *testing.T, path string) {
			os.WriteFile(path+".new", pattern(7, countersSize), 0o600)
			os.Rename(path+".new", path)
		},
		"a directory": func(t *testing.T, path string) {
			os.Remove(path)
			os.Mkdir(path, 0o700)
		},
		"a link": func(t *testing.T, path string) {
			outside := filepath.Join(t.TempDir(), "outside")
			want := pattern(7, countersSize)
			os.WriteFile(outside, want, 0o600)
			os.Remove(path)
			os.Symlink(outside, path)
			t.Cleanup(func() {
				if b, err := os.ReadFile(outside); err != nil || !bytes.Equal(b, want) {
					t.Error("the file behind a link was changed")
				}
			})
		},
		"a pipe": func(t *testing.T, path string) {
			os.Remove(path)
			syscall.Mkfifo(path, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{MemoryBytes: -1})
			key := testKey(1)
			mustPut(t, other, key, pattern(1, 1000))
			mustTrust(t, d, key)
			damage(t, d.counts.path())
			d.counts.current(time.Now().UnixNano())
			checkStatus(t, d, key, 200)
			if err := freshen(other, key, 203); err != nil {
				t.Fatal(err)
			}
			checkStatus(t, other, key, 203)
			time.Sleep(lookEvery)
			for status := 203; status < testtier.Pick(240, 500); status++ {
				checkStatus(t, d, key, status)
				if err := freshen(other, key, status+1); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// overwrite changes the content of a file, and not the file.
func overwrite(t *testing.T, path string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// An access to a file that was truncated returns 0. The goroutine's own choice
// of what a fault does stays.
func TestTruncatedMapping(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	mustPut(t, d, testKey(1), pattern(1, 1000))
	mustTrust(t, d, testKey(1))
	for what, access := range map[string]func(*mapping) uint64{
		"load": func(m *mapping) uint64 { return m.load(counterCount - 1) },
		"add":  func(m *mapping) uint64 { return m.add(counterCount - 1) },
	} {
		now := time.Now().UnixNano() + int64(lookEvery)
		d.counts.suspect()
		m := d.counts.current(now)
		if m == nil || access(m) == 0 {
			t.Fatalf("%s: the file is not mapped any more", what)
		}
		if err := os.Truncate(d.counts.path(), 4096); err != nil {
			t.Fatal(err)
		}
		if v := access(m); v != 0 || !m.failed.Load() {
			t.Errorf("%s of a truncated file: %d, failed %v, want 0, true", what, v, m.failed.Load())
		}
		if debug.SetPanicOnFault(false) {
			t.Errorf("after a failed %s every fault is a panic", what)
		}
		if m.load(0) != 0 || m.add(0) != 0 {
			t.Errorf("after a failed %s the file is used further", what)
		}
	}
}

// A process may be killed between its two additions. Then its change is seen as
// that of an outsider.
func TestCountersOfAKilledProcess(t *testing.T) {
	dir := t.TempDir()
	d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, other, key, pattern(1, 1000))
	b, err := os.ReadFile(d.path(key))
	if err != nil {
		t.Fatal(err)
	}
	other.counts.begin(key)
	mustTrust(t, d, key) // right before the change
	if err := os.Remove(d.path(key)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(lookEvery)
	checkStatus(t, d, key, 0)
	if err := os.WriteFile(d.path(key), b, 0o600); err != nil {
		t.Fatal(err)
	}
	checkStatus(t, d, key, 200)
	if err := freshen(other, key, 203); err != nil {
		t.Fatal(err)
	}
	checkStatus(t, d, key, 203)
}
