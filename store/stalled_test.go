//go:build linux || darwin

package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// childStop takes the lock of the shard of a key and stops. It gives the lock
// back when it is continued.
func childStop(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	l, err := d.lock(noContext, shardOf(testKey(1)), lockWait)
	if err != nil {
		return err
	}
	defer l.unlock()
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	fmt.Println("locked")
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return err
	}
	<-continued // the signal may stop another thread first, while this one goes on
	return nil
}

// stopHolding has another process hold the lock of the shard of testKey(1),
// stopped, until the test ends.
func stopHolding(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	c := child("stop", dir)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the child says %q, %v", line, err)
	}
	var status syscall.WaitStatus
	for !status.Stopped() {
		if _, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestStoppedProcess has a process stop that holds a lock: nothing waits for it
// for ever, and all else goes on.
func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	const bound = 4 << 20
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{MaxBytes: bound})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 100))
	large := pattern(2, 500_000)
	begun, err := d.Create(t.Context(), sameShard(key, 2), int64(len(large)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { begun.Close() }) // after the stopped process was killed
	if n, err := begun.Write(large); n != len(large) || err != nil {
		t.Fatal(n, err)
	}
	stopped := stopHolding(t, dir)

	// within fails if do hangs. It does not test that do is quick.
	within := func(what string, do func() error) error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- do() }()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			t.Fatalf("%s hangs", what)
			return nil
		}
	}
	fails := func(what string, do func() error) {
		t.Helper()
		if err := within(what, do); CauseOf(err) != CauseLocked {
			t.Errorf("%s: %v (%v), want %v", what, err, CauseOf(err), CauseLocked)
		}
	}
	forever := context.WithoutCancel(t.Context())
	status := func(status int) func([]*Entry) []*Entry {
		return func(es []*Entry) []*Entry {
			e := testHead(key)
			e.Status = status
			return append(es, e)
		}
	}
	fails("Update", func() error { return d.Update(forever, key, status(201)) })
	fails("many at once", func() error {
		var errs [100]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() { errs[i] = d.Update(forever, key, status(202)) })
		}
		wg.Wait()
		for _, err := range errs {
			if CauseOf(err) != CauseLocked {
				return err
			}
		}
		return errs[0]
	})
	// A reader of the draft does not wait for the lock that its writer wants.
	reading, read := make(chan struct{}), make(chan error, 1)
	go func() {
		b := make([]byte, len(large))
		for once := false; ; once = true {
			if n, err := begun.ReadAt(b, 0); n != len(large) || err != nil && err != io.EOF || !bytes.Equal(b, large) {
				read <- fmt.Errorf("read %d bytes, %w", n, err)
				return
			}
			select {
			case <-reading:
				if once {
					read <- nil
					return
				}
			default:
			}
		}
	}()
	fails("Commit", func() error {
		_, err := begun.Commit()
		return err
	})
	close(reading)
	if err := within("reading a draft", func() error { return <-read }); err != nil {
		t.Error(err)
	}
	within("Close of a draft", begun.Close)
	fails("a new body", func() error { return putBody(d, sameShard(key, 3), pattern(1, 100_000)) })
	within("Verify", func() error { _, err := d.Verify(forever); return err })
	fails("Clear", func() error { return d.Clear(forever) })

	fails("invalidating", func() error {
		return d.Update(forever, key, func(es []*Entry) []*Entry {
			for i := range es {
				es[i] = es[i].Clone()
				es[i].InvalidatedAt = time.Now()
			}
			return es
		})
	})
	if es := mustEntries(t, d, key); len(es) != 0 {
		t.Errorf("what could not be invalidated is still there: %v", es)
	}

	// Other shards go on, eviction with them.
	for i := range 300 {
		other := testKey(10 + i)
		if shardOf(other) == shardOf(key) {
			continue
		}
		if err := within("storing in another shard", func() error { return putBody(d, other, pattern(1, 40_000)) }); err != nil {
			t.Fatalf("storing in another shard: %v", err)
		}
	}
	if n := diskBytes(t, dir); n > bound*110/100 {
		t.Errorf("%d bytes, which is %.1f %% of the bound", n, 100*float64(n)/bound)
	}

	stopped.Process.Kill()
	stopped.Wait()
	if err := within("after the end of the stopped process", func() error { return putBody(d, key, pattern(3, 100_000)) }); err != nil {
		t.Errorf("storing after the stopped process has ended: %v", err)
	}
}

// childDenied stores in a cache with a shard that may not be entered.
func childDenied(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{MaxBytes: 4 << 20})
	if err != nil {
		return err
	}
	for _, mode := range []os.FileMode{0, 0o400, 0o500} {
		for i := range 150 {
			if err := putBody(d, testKey(i), make([]byte, 40_000)); err != nil {
				return err
			}
		}
		inside := testKey(149)
		closed := shardOf(inside)
		if err := os.Chmod(d.shardDir(closed), mode); err != nil {
			return err
		}
		for i := range 300 {
			key := testKey(1000 + i)
			if i%50 == 0 {
				key = sameShard(inside, i)
			}
			err := putBody(d, key, make([]byte, 40_000))
			if in := shardOf(key) == closed; in != (CauseOf(err) == CauseDenied) || !in && err != nil {
				return fmt.Errorf("shard closed to mode %o: storing in it (%t): %w", mode, in, err)
			}
		}
		if mode == 0 { // the other shards are still examined
			_, err := d.Usage(noContext)
			_, err2 := d.Verify(noContext)
			all := 0
			var err3 error
			for e, err := range d.All(noContext, "") {
				if err3 = err; e != nil {
					all++
				}
			}
			purged, err4 := d.Purge(noContext, "", func(*Entry) bool { return true })
			err5 := d.Clear(noContext)
			err6 := d.EvictTo(noContext, 0)
			for i, err := range []error{err, err2, err3, err4, err5, err6} {
				if CauseOf(err) != CauseDenied {
					return fmt.Errorf("call %d in a cache with a closed shard: %w", i, err)
				}
			}
			if all < 50 || purged != all {
				return fmt.Errorf("listed %d, purged %d", all, purged)
			}
		}
		if err := os.Chmod(d.shardDir(closed), 0o700); err != nil {
			return err
		}
		u, err := d.Usage(noContext)
		if err != nil || u.Bytes > d.max*11/10 {
			return errors.Join(err, errors.New(strconv.FormatInt(u.Bytes, 10)+" bytes"))
		}
	}
	return nil
}

// TestShardDenied closes a shard's directory to the process: eviction goes on
// in the others.
func TestShardDenied(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "cachetrip") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	c := child("denied", dir)
	unprivileged(t, c)
	if os.Getuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Skip(err)
		}
	}
	if err := c.Run(); err != nil {
		t.Error(err)
	}
}
