//go:build linux || darwin

package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// openFiles counts the descriptors of this process that lead to a path that
// contains part.
func openFiles(part string) (n int) {
	names, _ := os.ReadDir("/proc/self/fd")
	for _, name := range names {
		if path, err := os.Readlink("/proc/self/fd/" + name.Name()); err == nil && strings.Contains(path, part) {
			n++
		}
	}
	return n
}

// childManyStores has many stores open that nobody closes, and few descriptors.
func childManyStores(dir string) error {
	const limit = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	use := func() error {
		for s := range 40 {
			d, err := OpenDisk(filepath.Join(dir, fmt.Sprint(s)), DiskOptions{})
			if err != nil {
				return err
			}
			for i := range 20 {
				key := sameShard(testKey(s), i)
				if err := putBody(d, key, pattern(1, 100)); err != nil {
					return err
				}
				for range 8 {
					if es, err := d.Entries(context.Background(), key); err != nil || len(es) != 1 {
						return fmt.Errorf("%d entries, %w", len(es), err)
					}
				}
			}
		}
		return nil
	}
	if err := use(); err != nil {
		return err
	}
	if n := openFiles("/data/"); n > limit/dirShare {
		return fmt.Errorf("%d directories are kept open, of %d descriptors", n, limit)
	}
	if !eventually(func() bool { runtime.GC(); return openFiles(dir) == 0 && dirsKept.Load() == 0 }) {
		return fmt.Errorf("%d files of stores that nobody uses are open", openFiles(dir))
	}
	return nil
}

func TestManyStoresLeftOpen(t *testing.T) {
	if err := child("manystores", t.TempDir()).Run(); err != nil {
		t.Error(err)
	}
}

// TestListingAfterTheDirectoryWasReplaced makes sure that a listing without a
// lock shows the present directory.
func TestListingAfterTheDirectoryWasReplaced(t *testing.T) {
	for what, vanish := range map[string]func(dir string) error{
		"removed": os.RemoveAll,
		"moved":   func(dir string) error { return os.Rename(dir, dir+".old") },
	} {
		dir := filepath.Join(t.TempDir(), "cache")
		d := openTest(t, dir, DiskOptions{})
		mustPut(t, d, testKey(1), pattern(1, 100))
		if err := vanish(dir); err != nil {
			t.Fatal(err)
		}
		mustPut(t, openTest(t, dir, DiskOptions{}), testKey(1), pattern(1, 50_000))
		u, err := d.Usage(t.Context())
		if want := (Usage{1, 1, diskBytes(t, dir)}); err != nil || u != want {
			t.Errorf("%s and made anew: usage %+v, %v, want %+v", what, u, err, want)
		}
	}
}

// TestHalfWritten looks at the file of a key that somebody is just making.
func TestHalfWritten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { testHalfWritten(t, dir) })
}

func testHalfWritten(t *testing.T, dir string) {
	writer := openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, writer, key, pattern(1, 5000))
	path := writer.path(key)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 16, 5000, len(whole) - 1} {
		var log bytes.Buffer
		reader := openTest(t, dir, DiskOptions{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		l, err := writer.lock(t.Context(), shardOf(key), lockWait)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		// A process that is stopped at this point only costs a miss.
		if es, err := reader.Entries(t.Context(), key); len(es) > 0 || err != nil {
			t.Errorf("%d bytes: %v, %v, want none", n, es, err)
		}
		if b, err := os.ReadFile(path); err != nil || len(b) != n {
			t.Errorf("%d bytes, of which a reader has left %d, %v", n, len(b), err)
		}
		if es := mustEntries(t, reader, testKey(2)); len(es) > 0 {
			t.Errorf("another key: %v", es)
		}
		// The reader waits for a writer that goes on in time.
		time.AfterFunc(discardWait/2, func() {
			os.WriteFile(path, whole, 0o600)
			l.unlock()
		})
		es, err := reader.Entries(t.Context(), key)
		if err != nil || len(es) != 1 || !bytes.Equal(es[0].Parts[0].Blob.Inline, pattern(1, 5000)) {
			t.Errorf("%d bytes, completed: %d entries, %v, want 1", n, len(es), err)
		}
		if strings.Contains(log.String(), "damage") && !strings.Contains(log.String(), "error=") {
			t.Errorf("%d bytes: logged\n%s", n, &log)
		}
	}
}
