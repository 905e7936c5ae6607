//go:build linux || darwin

package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// The tests of this file run the test binary again, as another process, which
// does what childEnv says.
const childEnv = "CACHETRIP_TEST_CHILD"

// children are the roles of such processes.
var children = map[string]func(dir string) error{
	"count": childCount, "churn": childChurn, "limit": childLimit, "cut": childCut, "writers": childWriters, "short": childShort, "readonly": childReadOnly, "descriptors": childDescriptors,
	"stop": childStop, "mark": childMark, "lease": childLease, "denied": childDenied, "owner": childOwner, "manystores": childManyStores,
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
		if err := count(d, testKey(i%2)); err != nil {
			return err
		}
	}
	return nil
}

func TestNoLostUpdateBetweenProcesses(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	for i := range 2 {
		mustPut(t, d, testKey(i), pattern(1, 100))
	}
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
	if sum := counted(t, d, testKey(0)) + counted(t, d, testKey(1)); sum != 4*countRounds {
		t.Errorf("%d updates counted, want %d", sum, 4*countRounds)
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
	// The same holds for one whose body is damaged.
	for want := range 2 {
		es, err := d.Entries(noContext, testKey(3))
		if err != nil || len(es) != 1-want {
			return fmt.Errorf("entries %v, %w; their body is damaged", es, err)
		}
		for _, e := range es {
			if _, err := readBody(d, e); !errors.Is(err, ErrDamaged) {
				return fmt.Errorf("a damaged body: %w, want ErrDamaged", err)
			}
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
	mustPut(t, d, testKey(3), pattern(3, 100_000))
	if err := os.Truncate(d.path(blobName(testKey(3), mustEntries(t, d, testKey(3))[0].Parts[0].Blob.ID)), 500); err != nil {
		t.Fatal(err)
	}
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

// childMark invalidates a key again and again, and numbers the invalidations.
// It fails if a number was undone.
func childMark(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	for last := range 300 {
		var seen string
		if err := patiently(func() error {
			return d.Update(noContext, testKey(1), func(es []*Entry) []*Entry {
				e := testHead(testKey(1))
				seen = strconv.Itoa(last)
				if len(es) > 0 { // else this process has waited for a lock in vain, and removed the entry
					e = es[0].Clone()
					seen = e.Header.Get("Mark")
				}
				e.Header.Set("Mark", strconv.Itoa(last+1))
				e.InvalidatedAt = time.Now()
				return []*Entry{e}
			})
		}); err != nil {
			return err
		}
		if seen != strconv.Itoa(last) {
			return fmt.Errorf("mark %s after mark %d", seen, last)
		}
	}
	return nil
}

// TestFreshenBesideInvalidations: a process that freshens an entry without a
// lock does not undo the invalidation that another process makes meanwhile.
func TestFreshenBesideInvalidations(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 100))
	if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
		e := es[0].Clone()
		e.Header.Set("Mark", "0")
		return []*Entry{e}
	}); err != nil {
		t.Fatal(err)
	}
	c := child("mark", dir)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	for i := 1; ; i++ {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			t.Logf("freshened %d times", i)
			return
		default:
		}
		mustEntries(t, d, key)
		if err := patiently(func() error {
			return d.Update(t.Context(), key, func(es []*Entry) []*Entry {
				if len(es) == 0 {
					return es
				}
				e := later(es[0], 1)
				e.InvalidatedAt = time.Time{}
				return []*Entry{e}
			})
		}); err != nil {
			t.Fatal(err)
		}
	}
}
