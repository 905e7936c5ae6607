//go:build unix

package stores_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// withoutPrivileges runs the rest of a test as a user without root's
// privileges.
func withoutPrivileges(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	if err := syscall.Seteuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Seteuid(0); err != nil {
			panic(err) // no other test may run like this
		}
	})
}

const nobody = 65534

// giveAway makes dir and all in it nobody's, with the given modes, and lets
// nobody reach it.
func giveAway(t *testing.T, dir string, dirs, files fs.FileMode) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(path, nobody, nobody); err != nil {
				return err
			}
		}
		return os.Chmod(path, files)
	})
	for path := dir; err == nil && strings.HasPrefix(path, os.TempDir()) && path != os.TempDir(); path = filepath.Dir(path) {
		if path != dir && os.Geteuid() == 0 {
			err = os.Chmod(path, 0o755)
		}
	}
	// The directories last, as their modes may keep us out.
	if err == nil {
		var all []string
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
				err = os.Chmod(path, 0o700)
			}
			return err
		})
		t.Cleanup(func() {
			for _, path := range all {
				os.Chmod(path, 0o700)
			}
		})
		for i := len(all) - 1; err == nil && i >= 0; i-- {
			err = os.Chmod(all[i], dirs)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryThatCannotBeWritten(t *testing.T) {
	for _, test := range []struct {
		name        string
		fill        bool
		dirs, files fs.FileMode
		want        string // of the responses stored before
	}{
		{"with something stored", true, 0o500, 0o400, "200 body | hit"},
		{"with nothing stored", false, 0o500, 0o400, "200 body | fwd=bypass; fwd-status=200; detail=store-error"},
		{"nor read", true, 0, 0, "200 body | fwd=bypass; fwd-status=200; detail=store-error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
			w.Handle(harness.Tagged(`"1"`, "body", "Cache-Control", "max-age=60"))
			dir := filepath.Join(t.TempDir(), "cache")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if test.fill {
				cache, err := cachetrip.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				w.Client = cache.Client()
				w.Get("/stored")
				cache.Close()
			}
			giveAway(t, dir, test.dirs, test.files)
			withoutPrivileges(t)
			if os.WriteFile(filepath.Join(dir, "x"), nil, 0o600) == nil && test.dirs&0o200 == 0 {
				t.Skip("this system lets us write all the same")
			}
			cache, err := cachetrip.Open(dir)
			if err != nil {
				t.Fatalf("Open: %v, want a cache that stores nothing", err)
			}
			defer cache.Close()
			w.Client = cache.Client()
			for round := range 2 {
				want := test.want
				if round > 0 && strings.HasSuffix(want, " hit") { // the POST could not be noted on disk, so that it is shunned
					want = "200 body | fwd=uri-miss; fwd-status=200; detail=store-error"
				}
				w.WantGet(want, "/stored")
				if r := w.Get("/new"); r.Code != 200 || r.Body != "body" || r.Status.Hit && test.dirs&0o200 == 0 {
					t.Errorf("got %v", r)
				}
				if r := w.Get("/stored", "Cache-Control", "no-cache"); r.Code != 200 || r.Body != "body" {
					t.Errorf("got %v", r)
				}
				if r := w.Do(w.Request("POST", "/stored")); r.Code != 200 || r.Body != "body" {
					t.Errorf("got %v", r)
				}
			}
			if stats := cache.Stats(); stats.StoreErrors == 0 {
				t.Errorf("no errors were counted: %+v", stats)
			}
		})
	}
}

// TestFilesThatCannotBeRead: files that may be removed, but not read, count as
// damaged.
func TestFilesThatCannotBeRead(t *testing.T) {
	w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
	w.Handle(harness.Tagged(`"1"`, "body", "Cache-Control", "max-age=60"))
	dir := filepath.Join(t.TempDir(), "cache")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cache, err := cachetrip.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	w.Client = cache.Client()
	w.Get("/stored")
	cache.Close()
	giveAway(t, dir, 0o700, 0)
	withoutPrivileges(t)
	cache, err = cachetrip.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	w.Client = cache.Client()
	w.WantGet("200 body | fwd=uri-miss; fwd-status=200; stored", "/stored")
	w.WantGet("200 body | hit", "/stored")
	w.WantGet("200 body | fwd=uri-miss; fwd-status=200; stored", "/new")
}

func TestOpenWhereNothingCanBeMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "parent")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	giveAway(t, dir, 0o500, 0o400)
	withoutPrivileges(t)
	cache, err := cachetrip.Open(filepath.Join(dir, "cache"))
	if err == nil || cache != nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("Open: %v, %v, want an error that says why", cache, err)
	}
}
