//go:build linux || darwin

package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

const nobody = 65534

// reachable returns a directory that any user can reach, and that belongs to
// nobody.
func reachable(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root makes files for others")
	}
	dir, err := os.MkdirTemp("", "cachetrip-owner")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Skip(err)
	}
	return dir
}

// fillAs stores small and large bodies in d, and whatever else makes files.
func fillAs(d *Disk) error {
	for key := range 40 {
		if err := putBody(d, testKey(key), pattern(byte(key), 100+key%2*200_000)); err != nil {
			return fmt.Errorf("key %d: %w", key, err)
		}
		for range 2 { // one more record
			if err := d.Update(noContext, testKey(key), func(es []*Entry) []*Entry {
				e := es[0].Clone()
				e.Status++
				return []*Entry{e}
			}); err != nil {
				return fmt.Errorf("key %d: %w", key, err)
			}
		}
	}
	_, err := d.Secret(noContext)
	release, _ := d.Lease(noContext, testKey(1), "")
	release(false)
	return errors.Join(err, d.EvictTo(noContext, 3<<20))
}

// childOwner reads what is in a cache and stores in it.
func childOwner(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	defer d.Close()
	read := 0
	for key := range 40 {
		es, err := d.Entries(noContext, testKey(key))
		if err != nil {
			return fmt.Errorf("key %d: %w", key, err)
		}
		for _, e := range es {
			body, err := d.Open(noContext, e.Key, e.Parts[0].Blob)
			if errors.Is(err, ErrDamaged) {
				continue
			}
			if err != nil {
				return fmt.Errorf("body of key %d: %w", key, err)
			}
			got := make([]byte, e.Length)
			_, err = body.ReadAt(got, 0)
			body.Close()
			if want := pattern(byte(key), 100+key%2*200_000); !bytes.Equal(got, want) {
				return fmt.Errorf("key %d: another body, %v", key, err)
			}
			read++
		}
	}
	if _, err := d.Usage(noContext); err != nil {
		return err
	}
	fmt.Println("read:", read)
	return fillAs(d)
}

// TestRootsFilesBelongToTheUser: files that root makes in a user's cache, or in
// a user's directory, belong to the user. If files stay root's, the user's next
// run removes them.
func TestRootsFilesBelongToTheUser(t *testing.T) {
	for _, test := range []struct {
		name  string
		cache string
		spoil func(path string, d fs.DirEntry) bool // which files stay root's
		want  string
	}{
		{"the user has a cache", ".", nil, "read: %d\n"},
		{"root makes the cache", "a/b", nil, "read: %d\n"},
		{"files of keys stay root's", ".", func(path string, d fs.DirEntry) bool { return len(d.Name()) == keyLen }, "read: 0\n"},
		{"all files stay root's", ".", func(path string, d fs.DirEntry) bool { return !d.IsDir() }, "read: 0\n"},
		{"large bodies stay root's", ".", func(path string, d fs.DirEntry) bool { return len(d.Name()) > keyLen }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			above := reachable(t)
			dir := filepath.Join(above, test.cache)
			d := openTest(t, dir, DiskOptions{MemoryBytes: -1})
			if err := fillAs(d); err != nil {
				t.Fatal(err)
			}
			kept := 0
			for key := range 40 {
				kept += len(mustEntries(t, d, testKey(key)))
			}
			if err := filepath.WalkDir(above, func(path string, e fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := e.Info()
				if err != nil {
					return err
				}
				if s := info.Sys().(*syscall.Stat_t); s.Uid != nobody || s.Gid != nobody {
					t.Errorf("%s belongs to %d:%d", path, s.Uid, s.Gid)
				}
				if test.spoil != nil && test.spoil(path, e) {
					return os.Chown(path, 0, 0)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			c := child("owner", dir)
			unprivileged(t, c)
			out, err := c.Output()
			if err != nil {
				t.Fatalf("the user's run: %v\n%s", err, out)
			}
			if test.want != "" && string(out) != fmt.Sprintf(test.want, kept) && string(out) != test.want {
				t.Errorf("the user's run says %q, %d are there", out, kept)
			}
		})
	}
}

// TestRootGivesNothingElse: a user who links a file of root into a cache does
// not get it.
func TestRootGivesNothingElse(t *testing.T) {
	above := reachable(t)
	dir := filepath.Join(above, "cache")
	openTest(t, dir, DiskOptions{}).Close()
	roots := filepath.Join(above, "roots")
	if err := os.WriteFile(roots, []byte("a secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(roots, filepath.Join(dir, version, "leases")); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, dir, DiskOptions{})
	release, _ := d.Lease(noContext, testKey(1), "")
	release(true)
	fi, err := os.Stat(roots)
	if err != nil {
		t.Fatal(err)
	}
	if s := fi.Sys().(*syscall.Stat_t); s.Uid != 0 {
		t.Errorf("root's file belongs to %d", s.Uid)
	}
}
