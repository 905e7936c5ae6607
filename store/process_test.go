//go:build linux || darwin

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// The tests of this file run the test binary again, as another process, which does what childEnv says.
const childEnv = "CACHETRIP_TEST_CHILD"

// noContext is for code that runs outside of a test.
var noContext = context.Background()

// children are the roles of such processes.
var children = map[string]func(dir string) error{
	"count": childCount, "churn": childChurn, "limit": childLimit, "writers": childWriters, "short": childShort, "readonly": childReadOnly, "descriptors": childDescriptors,
	"stop": childStop, "lease": childLease, "denied": childDenied, "owner": childOwner, "manystores": childManyStores,
}

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		dir := os.Getenv(childEnv + "_DIR")
		err := children[role](dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(role, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+role, childEnv+"_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

const countRounds = 100

// childCount adds to the counters of two keys.
func childCount(dir string) error {
	for i := range countRounds {
		d, err := OpenDisk(dir, DiskOptions{}) // and never closes it
		if err != nil {
			return err
		}
		key := testKey(i % 2)
		err = d.Update(noContext, key, func(es []*Entry) []*Entry {
			e := testHead(key)
			if len(es) > 0 {
				e = es[0].Clone()
			}
			e.Length++
			return []*Entry{e}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestNoLostUpdateBetweenProcesses(t *testing.T) {
	dir := t.TempDir()
	var children []*exec.Cmd
	for range 4 {
		c := child("count", dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, c)
	}
	for _, c := range children {
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	}
	d := openTest(t, dir, DiskOptions{})
	sum := int64(0)
	for i := range 2 {
		for _, e := range mustEntries(t, d, testKey(i)) {
			sum += e.Length
		}
	}
	if sum != 4*countRounds {
		t.Errorf("%d updates counted, want %d", sum, 4*countRounds)
	}
}

const churnBound = 4 << 20

// childChurn stores, freshens, reads and drops until it is killed. It tells by a line what went wrong, and
// which version of a key is stored for good.
func childChurn(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{MaxBytes: churnBound})
	if err != nil {
		return err
	}
	for {
		key := testKey(rand.IntN(30))
		switch rand.IntN(6) {
		case 0, 1, 2:
			err := putBody(d, key, pattern(byte(rand.IntN(256)), []int{300, 10_000, 50_000, 200_000, 600_000}[rand.IntN(5)]))
			// The other process may evict the key, with the body that is about to be named.
			if err != nil && !errors.Is(err, ErrTooLarge) && !errors.Is(err, fs.ErrNotExist) {
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
			if err != nil {
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
	for range testtier.Pick(5, 25) {
		var children []*exec.Cmd
		var errs []*bytes.Buffer
		for range 2 {
			c := child("churn", dir)
			var b bytes.Buffer
			c.Stderr = &b
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			children, errs = append(children, c), append(errs, &b)
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
	if len(keys) < 5 {
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
					if err != nil {
						errs <- err
						return
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
					if err != nil && !errors.Is(err, ErrTooLarge) {
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
					if err != nil && !errors.Is(err, ErrTooLarge) && !errors.Is(err, fs.ErrNotExist) {
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
	rounds := testtier.Pick(40, 150)
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
	for i := range rounds {
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
			if sum := page.sum(); sum < kept {
				t.Errorf("round %d: the files take %d bytes, and are said to take %d", i, kept, sum)
			}
		}
		most = max(most, all)
		if i == rounds/2 || i > rounds/2 && all < least {
			least = all
		}
		for _, c := range children {
			c.Process.Signal(syscall.SIGCONT)
		}
	}
	t.Logf("at most %.1f %% of the bound, at least %.1f %% in the second half", 100*float64(most)/churnBound, 100*float64(least)/churnBound)
	if most < churnBound*80/100 {
		t.Errorf("%.1f %% of the bound at most: too little to show anything", 100*float64(most)/churnBound)
	}
}

// childLimit meets a limit of the size of files, which looks as a full disk does.
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

// childReadOnly uses a directory that it may read and not write.
func childReadOnly(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	for range 2 {
		es, err := d.Entries(noContext, testKey(1))
		if err != nil || len(es) != 1 {
			return fmt.Errorf("entries %v, %w", es, err)
		}
		if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, pattern(1, 100_000)) {
			return fmt.Errorf("wrong bytes or %w", err)
		}
	}
	if _, err := d.Secret(noContext); err != nil {
		return err
	}
	if err := d.Update(noContext, testKey(1), func([]*Entry) []*Entry { return nil }); !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("Update: %w, want a permission error", err)
	}
	// An entry that cannot be removed is not used any more.
	for range 2 {
		if es, err := d.Entries(noContext, testKey(1)); err != nil || len(es) != 0 {
			return fmt.Errorf("entries %v, %w, after they were to be removed", es, err)
		}
	}
	for e, err := range d.All(noContext, "") {
		return fmt.Errorf("there is %v, %w, after it was to be removed", e, err)
	}
	if _, err := d.Create(noContext, testKey(2), 10); !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("Create: %w, want a permission error", err)
	}
	if _, err := OpenDisk(filepath.Join(dir, "below"), DiskOptions{}); !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("OpenDisk below a read-only directory: %w, want a permission error", err)
	}
	return nil
}

func TestReadOnlyDirectory(t *testing.T) {
	dir, err := os.MkdirTemp("", "cachetrip") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	d := openTest(t, dir, DiskOptions{})
	mustPut(t, d, testKey(1), pattern(1, 100_000))
	if _, err := d.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	modes := map[string]fs.FileMode{}
	for rel, mode := range tree(t, dir) {
		path := filepath.Join(dir, rel)
		modes[path] = mode.Perm()
		if mode.IsDir() {
			os.Chmod(path, 0o555)
		} else {
			os.Chmod(path, 0o444)
		}
	}
	defer func() {
		for path, mode := range modes {
			os.Chmod(path, mode)
		}
	}()
	c := child("readonly", dir)
	unprivileged(t, c)
	if err := c.Run(); err != nil {
		if errors.Is(err, fs.ErrPermission) {
			t.Skip(err)
		}
		t.Error(err)
	}
}

// unprivileged has c run as a user that permissions stop.
func unprivileged(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	// Another user runs a copy of this program that they can reach.
	exe := filepath.Join(os.TempDir(), "cachetrip-test-"+strconv.Itoa(os.Getpid())+"-"+filepath.Base(t.Name()))
	b, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(exe, b, 0o755)
	}
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.Remove(exe) })
	c.Path, c.Args[0], c.Dir = exe, exe, "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
}

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
