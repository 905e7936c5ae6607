//go:build linux || darwin

package store

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// childLease takes the lease for testKey(1) and the variant "a", and keeps it
// until its standard input ends.
func childLease(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	release, granted := d.Lease(noContext, testKey(1), "a")
	fmt.Println("granted:", granted)
	io.Copy(io.Discard, os.Stdin)
	release(true)
	return d.Close()
}

// holdLease has another process hold the lease for testKey(1) and the variant
// "a". end has the process give it back.
func holdLease(t *testing.T, dir string) (process *exec.Cmd, end func()) {
	t.Helper()
	c := child("lease", dir)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "granted: true\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	return c, func() { in.Close() }
}

// whenWaiting calls do once a caller of d waits for the holder of testKey(1) and
// the variant "a", for whom nobody has waited before. It gives up when ctx ends.
func whenWaiting(ctx context.Context, d *Disk, do func()) {
	first := make([]byte, waitSize)
	for ctx.Err() == nil {
		d.leases.mu.Lock()
		if f := d.leases.file; f != nil {
			f.ReadAt(first, waitsAt+leaseOf(testKey(1), "a").slot*waitSize)
		}
		d.leases.mu.Unlock()
		if !bytes.Equal(first, make([]byte, waitSize)) {
			do()
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestLeaseOfAnotherProcess: a caller waits for the process that has the lease
// until that ends, but no longer than its context allows.
func TestLeaseOfAnotherProcess(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		do      func(holder *exec.Cmd, end func())
		context func() (context.Context, context.CancelFunc)
		granted bool
	}{
		{"gives back", func(_ *exec.Cmd, end func()) { end() }, nil, false},
		{"is killed", func(c *exec.Cmd, _ func()) { c.Process.Kill() }, nil, false},
		{"goes on, the deadline passes", nil, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 50*time.Millisecond)
		}, true},
		{"goes on, the caller leaves", nil, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, true},
		{"goes on, the context has ended", nil, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			return ctx, cancel
		}, true},
		{"goes on, there is no deadline", nil, func() (context.Context, context.CancelFunc) {
			return context.Background(), func() {}
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := openTest(t, dir, DiskOptions{})
			holder, end := holdLease(t, dir)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			if test.context != nil {
				ctx, cancel = test.context()
			}
			defer cancel()
			if test.do != nil {
				go whenWaiting(ctx, d, func() { test.do(holder, end) })
			}
			release, granted := d.Lease(ctx, testKey(1), "a")
			if granted != test.granted || granted != (release != nil) {
				t.Fatalf("granted is %v, release is %v, want %v", granted, release != nil, test.granted)
			}
			if granted {
				release(true) // which the caller does not have, so that the other process keeps it
				if free, _, err := d.leases.take(d, leaseOf(testKey(1), "a")); free || err != nil {
					t.Errorf("afterwards the lease is free: %v, %v", free, err)
				}
				return
			}
			if release, granted := d.Lease(ctx, testKey(1), "a"); !granted {
				t.Error("nobody has the lease, and it is not granted")
			} else {
				release(true)
			}
		})
	}
}

// storesExclude tells whether two Disks of one process exclude each other.
const storesExclude = runtime.GOOS == "linux"

// noteWait notes that somebody first waited at a time for the holder of
// testKey(1) and the variant "a".
func noteWait(t *testing.T, d *Disk, at time.Time) {
	t.Helper()
	wanted := leaseOf(testKey(1), "a")
	free, holder, err := d.leases.take(d, wanted)
	if free || err != nil {
		t.Fatalf("the lease is free, or %v", err)
	}
	if _, err := d.leases.file.WriteAt(make([]byte, waitSize), waitsAt+wanted.slot*waitSize); err != nil {
		t.Fatal(err)
	}
	d.leases.waitedSince(wanted, holder, at)
	if now := time.Now(); d.leases.waitedSince(wanted, holder, now).After(now) {
		t.Error("somebody first waited in the future")
	}
}

// TestLeaseOfTheHung: callers wait together for a process that goes on, and not
// one after another.
func TestLeaseOfTheHung(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, end := holdLease(t, dir)
	for _, test := range []struct {
		name  string
		first time.Duration // when somebody first waited for the holder; 0: nobody did
		limit time.Duration
		waits time.Duration
	}{
		{"the first", 0, time.Minute, time.Minute},
		{"the next one", -2 * time.Minute, time.Minute, 0},
		{"one that would wait longer", -time.Minute, time.Minute + time.Second, time.Second},
		{"the clock was set back", time.Hour, time.Minute, time.Minute},
		{"another holder", 0, time.Minute, time.Minute},
	} {
		if test.name == "another holder" {
			end()
			d := openTest(t, dir, DiskOptions{})
			for free := false; !free; {
				var err error
				if free, _, err = d.leases.take(d, leaseOf(testKey(1), "a")); err != nil {
					t.Fatal(err)
				}
			}
			d.Close()
			holdLease(t, dir)
		}
		synctest.Test(t, func(t *testing.T) {
			d := openTest(t, dir, DiskOptions{}) // as a process that begins
			if test.first != 0 {
				noteWait(t, d, time.Now().Add(test.first))
			}
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), test.limit)
			defer cancel()
			if _, granted := d.Lease(ctx, testKey(1), "a"); !granted {
				t.Errorf("%s: not granted", test.name)
			}
			if waited := time.Since(began); waited != test.waits {
				t.Errorf("%s: waited for %v, want %v", test.name, waited, test.waits)
			}
		})
	}
}

// TestLeaseBeside: leases for something else are granted while another process
// has one.
func TestLeaseBeside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	holdLease(t, dir)
	for _, test := range []struct{ key, variant string }{{testKey(1), "b"}, {testKey(1), ""}, {testKey(2), "a"}} {
		release, granted := d.Lease(t.Context(), test.key, test.variant)
		again, too := d.Lease(t.Context(), test.key, test.variant) // in this process nobody waits
		if !granted || !too {
			t.Fatalf("%v: granted is %v, and again %v", test, granted, too)
		}
		other := openTest(t, dir, DiskOptions{})
		wanted := leaseOf(test.key, test.variant)
		release(true)
		if free, _, _ := other.leases.take(other, wanted); free && storesExclude {
			t.Errorf("%v: one of two callers has released the lease, and it is free", test)
		}
		again(false)
		if free, _, err := other.leases.take(other, wanted); !free {
			t.Errorf("%v: both callers have released the lease, and it is not free: %v", test, err)
		}
	}
}

// TestLeaseWithoutFile: a cache that cannot be locked grants everything, and
// one that was removed gets another file.
func TestLeaseWithoutFile(t *testing.T) {
	t.Parallel()
	granted := func(t *testing.T, d *Disk) func(bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		release, granted := d.Lease(ctx, testKey(1), "a")
		if !granted || ctx.Err() != nil {
			t.Fatalf("granted is %v, %v", granted, ctx.Err())
		}
		return release
	}
	t.Run("closed", func(t *testing.T) {
		d := openTest(t, t.TempDir(), DiskOptions{})
		release := granted(t, d)
		d.Close()
		release(true)
		granted(t, d)(true)
	})
	t.Run("a directory in its place", func(t *testing.T) {
		dir := t.TempDir()
		d := openTest(t, dir, DiskOptions{})
		if err := os.Mkdir(filepath.Join(dir, version, "leases"), 0o700); err != nil {
			t.Fatal(err)
		}
		granted(t, d)(true)
	})
	t.Run("a symbolic link in its place", func(t *testing.T) {
		dir := t.TempDir()
		d := openTest(t, dir, DiskOptions{})
		target := filepath.Join(dir, "target")
		if err := os.Symlink(target, filepath.Join(dir, version, "leases")); err != nil {
			t.Fatal(err)
		}
		granted(t, d)(true)
		if _, err := os.Lstat(target); err == nil {
			t.Error("the target of the link was made")
		}
	})
	t.Run("not a key", func(t *testing.T) {
		d := openTest(t, t.TempDir(), DiskOptions{})
		for _, key := range []string{"", "x", strings.Repeat("g", 64)} {
			if _, granted := d.Lease(t.Context(), key, ""); !granted {
				t.Errorf("%q: not granted", key)
			}
		}
	})
	t.Run("removed", func(t *testing.T) {
		dir := t.TempDir()
		d := openTest(t, dir, DiskOptions{})
		granted(t, d)(true)
		if err := os.RemoveAll(filepath.Join(dir, version)); err != nil {
			t.Fatal(err)
		}
		mustPut(t, d, testKey(2), pattern(1, 10)) // makes the directory again
		granted(t, d)
		other := openTest(t, dir, DiskOptions{})
		if free, _, err := other.leases.take(other, leaseOf(testKey(1), "a")); free && storesExclude {
			t.Errorf("another store gets the lease: %v", err)
		}
	})
}

// TestLeaseOfTheNextProcess: a caller waits for one holder of a lease, not for
// the one after it.
func TestLeaseOfTheNextProcess(t *testing.T) {
	if !storesExclude {
		t.Skip("two stores of one process do not exclude each other here")
	}
	t.Parallel()
	dir := t.TempDir()
	first, next, waiter := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	release, granted := first.Lease(t.Context(), testKey(1), "a")
	if !granted {
		t.Fatal("the first lease is not granted")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	result := make(chan bool)
	go func() {
		_, granted := waiter.Lease(ctx, testKey(1), "a")
		result <- granted || ctx.Err() != nil
	}()
	whenWaiting(ctx, waiter, func() { release(true) })
	for { // between the waiter's looks
		if free, _, err := next.leases.take(next, leaseOf(testKey(1), "a")); err != nil {
			t.Fatal(err)
		} else if free {
			break
		}
	}
	if <-result {
		t.Error("the caller was granted the lease of another process, or waited until its deadline")
	}
}

// TestLeaseOfUselessResponses: no caller waits for a response that was of no
// use to others a moment ago.
func TestLeaseOfUselessResponses(t *testing.T) {
	if !storesExclude {
		t.Skip("two stores of one process do not exclude each other here")
	}
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { testUselessResponses(t, dir) })
}

func testUselessResponses(t *testing.T, dir string) {
	holder, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	for _, test := range []struct {
		shared bool
		key    string
		waits  bool
	}{
		{true, testKey(1), true},
		{false, testKey(1), false},
		{true, testKey(1), false}, // 10 s have not passed
		{true, testKey(2), true},
	} {
		release, _ := holder.Lease(t.Context(), test.key, "a")
		release(test.shared)
		release, _ = holder.Lease(t.Context(), test.key, "a")
		began, limit := time.Now(), time.Second
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		if _, granted := other.Lease(ctx, test.key, "a"); !granted {
			t.Errorf("%v: not granted", test)
		}
		want := time.Duration(0)
		if test.waits {
			want = limit
		}
		if waited := time.Since(began); waited != want {
			t.Errorf("%v: waited for %v, want %v", test, waited, want)
		}
		cancel()
		release(true)
	}
}
