//go:build linux || darwin

package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// Processes that store at the same time, are killed or meet a full disk: the
// size limit holds.

const churnBound = 4 << 20

// expected reports whether err is nil, or an error that storing beside another
// process may have. The other process may evict the key, with the body that is
// about to be named. On a busy machine it may keep a lock for long.
func expected(err error) bool {
	return err == nil || errors.Is(err, ErrTooLarge) || errors.Is(err, fs.ErrNotExist) || CauseOf(err) == CauseLocked
}

// childChurn stores, freshens and reads until it is killed. It writes a line
// once it works.
func childChurn(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{MaxBytes: churnBound})
	if err != nil {
		return err
	}
	fmt.Println("at work")
	for {
		key := testKey(rand.IntN(30))
		switch rand.IntN(6) {
		case 0, 1, 2:
			err := putBody(d, key, pattern(byte(rand.IntN(256)), []int{300, 10_000, 50_000, 200_000, 600_000}[rand.IntN(5)]))
			if !expected(err) {
				return fmt.Errorf("storing: %w", err)
			}
		case 3:
			err := d.Update(noContext, key, func(es []*Entry) []*Entry {
				for i := range es {
					es[i] = es[i].Clone()
					es[i].Status = 203
				}
				return es
			})
			if !expected(err) {
				return fmt.Errorf("freshening: %w", err)
			}
		default:
			es, err := d.Entries(noContext, key)
			if err != nil {
				return fmt.Errorf("looking up: %w", err)
			}
			for _, e := range es {
				b, err := readBody(d, e)
				if errors.Is(err, ErrDamaged) {
					continue // released meanwhile
				}
				if err != nil || len(b) == 0 || !bytes.Equal(b, pattern(b[0], int(e.Length))) {
					return fmt.Errorf("wrong bytes of %d, %w", e.Length, err)
				}
			}
		}
	}
}

// TestKilledProcesses has processes share a directory and kills them at random.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	stored := func() int {
		files, _ := filepath.Glob(filepath.Join(dir, version, "data", "*", strings.Repeat("?", keyLen)))
		return len(files)
	}
	const few = 5 // as many entries show something
	rounds := testtier.Pick(5, 25)
	for i, end := 0, time.Now().Add(time.Minute); i < rounds || stored() < few && time.Now().Before(end); i++ {
		var children []*exec.Cmd
		var errs []*bytes.Buffer
		for range 2 {
			c := child("churn", dir)
			var b bytes.Buffer
			c.Stderr = &b
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			children, errs = append(children, c), append(errs, &b)
			out.Read(make([]byte, 1)) // until it works, or has ended
		}
		time.Sleep(time.Duration(30+rand.IntN(120)) * time.Millisecond)
		for i, c := range children {
			c.Process.Kill()
			c.Wait()
			if errs[i].Len() > 0 {
				t.Errorf("process: %s", errs[i])
			}
		}
		if n := diskBytes(t, dir); n > churnBound*110/100 {
			t.Errorf("%d bytes, which is %.1f %% of the bound", n, 100*float64(n)/churnBound)
		}
	}
	d := openTest(t, dir, DiskOptions{MaxBytes: churnBound})
	var keys []string
	for e, err := range d.All(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, e.Key)
		b, err := readBody(d, e)
		if err != nil || !bytes.Equal(b, pattern(b[0], int(e.Length))) {
			t.Errorf("after all kills: %d bytes: %v or wrong", e.Length, err)
		}
	}
	if len(keys) < few {
		t.Errorf("%d entries are left", len(keys))
	}
	for _, key := range keys {
		mustPut(t, d, key, pattern(1, 30_000)) // no lock is left held
	}
}

// childWriters stores by several writers at once, until it is killed.
func childWriters(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{MaxBytes: churnBound})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for range 6 {
		go func() {
			for {
				key := testKey(rand.IntN(3000))
				switch rand.IntN(8) {
				case 0: // several variants, so that the file of a key gets long and is rewritten
					key = testKey(rand.IntN(3))
					draft, err := d.Create(noContext, key, -1)
					if !expected(err) {
						errs <- err
						return
					}
					if err != nil {
						continue
					}
					draft.Write(pattern(1, 15_000))
					blob, err := draft.Commit()
					draft.Close()
					if err == nil {
						err = d.Update(noContext, key, func(es []*Entry) []*Entry {
							e := testHead(key)
							e.Length, e.Parts = blob.Size, []Part{{Length: blob.Size, Blob: blob}}
							return append([]*Entry{e}, es[:min(len(es), 20)]...)
						})
					}
					if !expected(err) {
						errs <- err
						return
					}
				case 1: // a body that is given up
					if draft, err := d.Create(noContext, key, -1); err == nil {
						for range rand.IntN(10) {
							draft.Write(make([]byte, 40_000))
						}
						draft.Close()
					}
				default:
					err := putBody(d, key, make([]byte, []int{300, 10_000, 50_000, 200_000, 600_000, churnBound/bodyShare - 100_000}[rand.IntN(6)]))
					if !expected(err) {
						errs <- err
						return
					}
				}
			}
		}()
	}
	return <-errs
}

// TestBoundAtEveryInstant stops processes at any moment, and measures the size
// of the cache just then.
func TestBoundAtEveryInstant(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	rounds := testtier.Pick(20, 150)
	var children []*exec.Cmd
	for range 2 {
		c := child("writers", dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Wait()
		defer c.Process.Kill()
		children = append(children, c)
	}
	var most, least int64
	// The rounds are counted from the moment the bound is nearly reached, however
	// long the processes take to get there.
	filled := time.Now().Add(time.Minute)
	for i := 0; i < rounds; {
		time.Sleep(time.Duration(rand.IntN(10_000)) * time.Microsecond)
		for _, c := range children {
			if err := c.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range children {
			var ws syscall.WaitStatus
			if _, err := syscall.Wait4(c.Process.Pid, &ws, syscall.WUNTRACED, nil); err != nil || !ws.Stopped() {
				t.Fatalf("the process did not stop but end: %v, %v", ws, err)
			}
		}
		all := diskBytes(t, dir)
		kept := all
		for path, mode := range tree(t, dir) {
			if fi, err := os.Stat(filepath.Join(dir, path)); err == nil && mode.IsRegular() && strings.Contains(path, "/tmp/") {
				kept -= allocated(fi.Size())
			}
		}
		if all > churnBound*110/100 {
			t.Errorf("round %d: %d bytes, which is %.1f %% of the bound", i, all, 100*float64(all)/churnBound)
		}
		var page usagePage
		if b, err := os.ReadFile(filepath.Join(dir, version, "usage")); err == nil && copy(page[:], b) == usageSize {
			newDisk(dir, DiskOptions{}).counts.addGrowth(&page, nil)
			if sum := page.sum(); sum < kept {
				t.Errorf("round %d: the files take %d bytes, and are said to take %d", i, kept, sum)
			}
		}
		most = max(most, all)
		if i == rounds/2 || i > rounds/2 && all < least {
			least = all
		}
		if most >= churnBound*80/100 {
			i++
		} else if time.Now().After(filled) {
			t.Fatalf("%.1f %% of the bound after a minute: too little to show anything", 100*float64(most)/churnBound)
		}
		for _, c := range children {
			c.Process.Signal(syscall.SIGCONT)
		}
	}
	t.Logf("at most %.1f %% of the bound, at least %.1f %% in the second half", 100*float64(most)/churnBound, 100*float64(least)/churnBound)
}

// childLimit meets a limit of the size of files, which looks as a full disk
// does.
func childLimit(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	kept := testKey(1)
	invalidated := testKey(2)
	for _, key := range []string{kept, invalidated} {
		if err := putBody(d, key, pattern(1, 3000)); err != nil {
			return err
		}
	}
	var old syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old)
	var st fileStat
	if err := statFile(d.path(kept), &st); err != nil {
		return err
	}
	limit := old
	limit.Cur = uint64(st.size + 100) // less than a head
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for i, size := range []int{10_000, 100_000, 1 << 20} {
		if err := putBody(d, testKey(10+i), pattern(1, size)); !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("storing %d bytes: %w, want EFBIG", size, err)
		}
	}
	for range 3 {
		err := d.Update(noContext, kept, func(es []*Entry) []*Entry {
			e := es[0].Clone()
			e.Status = 599
			return []*Entry{e}
		})
		if !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("freshening: %w, want EFBIG", err)
		}
	}
	err = d.Update(noContext, invalidated, func(es []*Entry) []*Entry {
		e := es[0].Clone()
		e.InvalidatedAt = time.Now()
		return []*Entry{e}
	})
	if !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("invalidating: %w, want EFBIG", err)
	}
	if es, err := d.Entries(noContext, invalidated); err != nil || len(es) != 0 {
		return fmt.Errorf("what could not be invalidated is still there: %v, %w", es, err)
	}
	for range 2 {
		es, err := d.Entries(noContext, kept)
		if err != nil || len(es) != 1 || es[0].Status != 200 || !bytes.Equal(es[0].Parts[0].Blob.Inline, pattern(1, 3000)) {
			return fmt.Errorf("what was stored before is %v, %w", es, err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			return err
		}
	}
	if err := putBody(d, testKey(10), pattern(1, 1<<20)); err != nil {
		return fmt.Errorf("storing when there is room again: %w", err)
	}
	return nil
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := child("limit", dir).Run(); err != nil {
		t.Error(err)
	}
	var files []string
	for path, mode := range tree(t, dir) {
		if mode.IsRegular() && strings.HasSuffix(path, tempSuffix) || strings.Contains(path, "/tmp/") {
			files = append(files, path)
		}
	}
	if len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
	d := openTest(t, dir, DiskOptions{})
	var page usagePage
	d.readUsage(&page)
	if got, want := page.sum(), diskBytes(t, dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

// childCut appends without the lock, and the system takes only a part of that:
// the beginning of another block.
func childCut(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	key := testKey(1)
	if err := putBody(d, key, pattern(1, 100)); err != nil {
		return err
	}
	freshen := func() bool {
		return d.Freshen(key, func(current []*Entry) []*Entry { return []*Entry{later(current[0], 1)} })
	}
	var st fileStat
	for statFile(d.path(key), &st) == nil && st.size+400 <= block {
		if !freshen() {
			return errors.New("not updated within a block")
		}
	}
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit)
	limit.Cur = block + 1
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	for range 4 {
		if !freshen() {
			break
		}
	}
	if err := statFile(d.path(key), &st); err != nil || st.size != block+1 {
		return fmt.Errorf("the file has %d bytes, %w; want %d", st.size, err, block+1)
	}
	if n := d.Bytes(); n != allocated(st.size) {
		return fmt.Errorf("%d bytes are counted, but the file takes %d", n, allocated(st.size))
	}
	return nil
}

// TestCutAppend: what an append without the lock adds counts, even if the disk
// has no room for all of it.
func TestCutAppend(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing is appended without the lock")
	}
	if err := child("cut", t.TempDir()).Run(); err != nil {
		t.Error(err)
	}
}
