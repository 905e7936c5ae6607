package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

func TestSymlinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	check := func(what string) {
		t.Helper()
		b, err := os.ReadFile(victim)
		if err != nil || string(b) != "precious" {
			t.Fatalf("%s: the file outside is now %q, %v", what, b, err)
		}
		if got := tree(t, outside); len(got) != 2 {
			t.Fatalf("%s: outside there now are %v", what, got)
		}
	}
	os.WriteFile(victim, []byte("precious"), 0o600)
	key := testKey(1)
	use := func(dir string, rounds int) {
		d, err := OpenDisk(dir, DiskOptions{MaxBytes: 1 << 20})
		if err != nil {
			return
		}
		defer d.Close()
		for i := range rounds {
			d.Entries(t.Context(), key)
			putBody(d, key, pattern(1, 100))
			putBody(d, key, pattern(1, 40_000))
			putBody(d, testKey(2+i), pattern(1, 100_000))
			d.Secret(t.Context())
			for range d.All(t.Context(), "") {
			}
		}
		d.Verify(t.Context())
		d.EvictTo(t.Context(), 0)
		d.Clear(t.Context())
	}
	for _, rel := range []string{
		"CACHEDIR.TAG", version, version + "/data", version + "/tmp", version + "/usage", version + "/secret",
		version + "/data/" + key[:2], version + "/data/" + key[:2] + "/" + key,
		version + "/data/" + key[:2] + "/" + blobName(key, strings.Repeat("a", 32)), version + "/tmp/x",
	} {
		for _, target := range []string{victim, outside} {
			dir := filepath.Join(t.TempDir(), "cache")
			use(dir, 1)
			link := filepath.Join(dir, filepath.FromSlash(rel))
			os.RemoveAll(link)
			os.MkdirAll(filepath.Dir(link), 0o700)
			if err := os.Symlink(target, link); err != nil {
				if runtime.GOOS == "windows" {
					t.Skip(err) // it needs a privilege
				}
				t.Fatal(err)
			}
			use(dir, testtier.Pick(2, 3))
			check(rel + " -> " + filepath.Base(target))
		}
	}
}

// TestSymlinksPlantedLater moves parts of a cache out of it while it is open,
// and puts symbolic links in their places.
func TestSymlinksPlantedLater(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("what is open cannot be moved")
	}
	key := testKey(1)
	long := time.Now().Add(-2 * time.Hour)
	for _, rel := range []string{
		version, version + "/data", version + "/tmp", version + "/usage", version + "/secret", version + "/data/" + key[:2],
	} {
		for _, memory := range []int64{-1, 0} {
			dir := filepath.Join(t.TempDir(), "cache")
			d := openTest(t, dir, DiskOptions{MaxBytes: 1 << 20, MemoryBytes: memory})
			use := func() {
				for i := range 3 {
					es, _ := d.Entries(t.Context(), key)
					for _, e := range es {
						readBody(d, e)
					}
					putBody(d, key, pattern(1, 100))
					putBody(d, key, pattern(1, 40_000))
					putBody(d, testKey(2+i), pattern(1, 100_000))
					d.Secret(t.Context())
					for range d.All(t.Context(), "") {
					}
				}
			}
			use()
			d.Update(t.Context(), sameShard(key, 7), func([]*Entry) []*Entry { return []*Entry{testHead(sameShard(key, 7))} })
			os.WriteFile(filepath.Join(d.tmp, "left"), nil, 0o600)
			draft, err := d.Create(t.Context(), sameShard(key, 8), -1)
			if err != nil {
				t.Fatal(err)
			}
			draft.Write(make([]byte, 300_000))
			outside := filepath.Join(t.TempDir(), "outside")
			link := filepath.Join(dir, filepath.FromSlash(rel))
			if err := os.Rename(link, outside); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, link); err != nil {
				t.Fatal(err)
			}
			look := func() map[string]string {
				files := map[string]string{}
				for path, mode := range tree(t, outside) {
					var st fileStat
					if statFile(filepath.Join(outside, path), &st) == nil && !mode.IsDir() && !strings.HasSuffix(path, tempSuffix) { // which is open
						files[path] = fmt.Sprint(mode, st.size, time.Unix(0, st.mtime), time.Unix(0, st.atime))
					}
				}
				return files
			}
			for path := range look() {
				os.Chtimes(filepath.Join(outside, path), long, long)
			}
			before := look()
			time.Sleep(2 * checkDirsEvery)
			draft.Commit()
			draft.Close()
			use()
			d.Verify(t.Context())
			d.EvictTo(t.Context(), 0)
			d.Clear(t.Context())
			if diff := cmp.Diff(before, look()); diff != "" {
				t.Errorf("%s, memory %d: what is outside was changed:\n%s", rel, memory, diff)
			}
		}
	}
}

// TestReplacedDirectory moves an open cache away and makes another in its
// place: only what that takes counts.
func TestReplacedDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("what is open cannot be moved")
	}
	const bound = 4 << 20
	dir := filepath.Join(scratchDir(t), "cache")
	d := openTest(t, dir, DiskOptions{MaxBytes: bound})
	for i := range 50 {
		mustPut(t, d, testKey(i), pattern(1, 30_000))
	}
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	other := openTest(t, dir, DiskOptions{MaxBytes: bound})
	for i := range 200 {
		mustPut(t, []*Disk{d, other}[i%2], testKey(100+i), pattern(1, 50_000))
		if n := diskBytes(t, dir); n > bound*110/100 {
			t.Fatalf("%d bytes, which is %.1f %% of the bound", n, 100*float64(n)/bound)
		}
	}
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		t.Fatal(err)
	}
	if got, want := page.sum(), diskBytes(t, dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

func TestForeignThingsInTheWay(t *testing.T) {
	key := testKey(1)
	for what, plant := range map[string]func(path string) error{
		"directory":       func(path string) error { return os.Mkdir(path, 0o700) },
		"named pipe":      makePipe,
		"full directory":  func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) },
		"huge empty file": func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
	} {
		t.Run(what, func(t *testing.T) {
			d := openTest(t, t.TempDir(), DiskOptions{})
			mustPut(t, d, key, pattern(1, 100_000))
			blob := mustEntries(t, d, key)[0].Parts[0].Blob
			for _, path := range []string{d.path(blobName(key, blob.ID)), d.path(key)} {
				os.Remove(path)
				if err := plant(path); err != nil {
					t.Skip(err)
				}
				for _, e := range mustEntries(t, d, key) {
					if _, err := readBody(d, e); !errors.Is(err, ErrDamaged) {
						t.Errorf("reading the body: %v, want ErrDamaged", err)
					}
				}
				if es := mustEntries(t, d, key); len(es) != 0 {
					t.Errorf("there still are %d entries", len(es))
				}
				err := putBody(d, key, pattern(2, 100))
				if es := mustEntries(t, d, key); (err == nil) != (len(es) == 1) {
					t.Errorf("storing again: %v, and %d entries", err, len(es))
				}
				d.Update(t.Context(), key, func([]*Entry) []*Entry { return nil })
			}
		})
	}
}

func TestVanishedDirectory(t *testing.T) {
	for _, rels := range [][]string{{""}, {version}, {version + "/data"}, {version + "/data", version + "/secret"}, {version + "/tmp"}, {version + "/usage"}} {
		rel := strings.Join(rels, ", ")
		dir := filepath.Join(t.TempDir(), "cache")
		d := openTest(t, dir, DiskOptions{})
		mustPut(t, d, testKey(1), pattern(1, 100))
		secret, _ := d.Secret(t.Context())
		draft, err := d.Create(t.Context(), testKey(2), -1)
		if err != nil {
			t.Fatal(err)
		}
		draft.Write(make([]byte, 300_000))
		for _, rel := range rels {
			os.RemoveAll(filepath.Join(dir, rel))
		}
		if _, err := d.Entries(t.Context(), testKey(1)); err != nil {
			t.Errorf("%q vanished: Entries: %v", rel, err)
		}
		draft.Commit() // may fail, must not panic
		draft.Close()
		for i, size := range []int{100, 40_000, 400_000} {
			if err := putBody(d, testKey(i), pattern(1, size)); err != nil {
				t.Errorf("%q vanished: storing %d bytes: %v", rel, size, err)
				continue
			}
			es := mustEntries(t, d, testKey(i))
			if len(es) != 1 {
				t.Errorf("%q vanished: %d bytes stored are not found", rel, size)
				continue
			}
			if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, pattern(1, size)) {
				t.Errorf("%q vanished: wrong bytes or %v", rel, err)
			}
		}
		other, err := openTest(t, dir, DiskOptions{}).Secret(t.Context())
		mine, err2 := d.Secret(t.Context())
		// On Windows, the file of the draft keeps part of the directory there.
		if err != nil || err2 != nil || !bytes.Equal(other, mine) && runtime.GOOS != "windows" {
			t.Errorf("%q vanished: secrets %x (before %x) and %x differ, %v, %v", rel, mine, secret, other, err, err2)
		}
	}
}
