package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// checkCache makes sure that all entries and bodies that the store returns are
// right.
func checkCache(t *testing.T, d *Disk, keys []string, what string) (found int) {
	t.Helper()
	for _, key := range keys {
		es, err := d.Entries(t.Context(), key)
		if err != nil {
			t.Errorf("%s: Entries: %v", what, err)
		}
		for _, e := range es {
			want, got := testHead(key), *e
			want.Length, got.Parts = e.Length, nil // the bytes are compared below
			if diff := cmp.Diff(want, &got); diff != "" {
				t.Errorf("%s: wrong entry:\n%s", what, diff)
			}
			b, err := readBody(d, e)
			switch {
			case errors.Is(err, ErrDamaged):
				if len(b) > 0 && !bytes.Equal(b, pattern(b[0], int(e.Length))[:len(b)]) {
					t.Errorf("%s: wrong bytes before the error", what)
				}
			case err != nil:
				t.Errorf("%s: reading: %v", what, err)
			case len(b) == 0 || !bytes.Equal(b, pattern(b[0], int(e.Length))):
				t.Errorf("%s: wrong bytes", what)
			default:
				found++
			}
		}
	}
	return found
}

// TestDamage damages every file of a cache in many ways and places.
func TestDamage(t *testing.T) {
	t.Parallel()
	pristine := scratchDir(t)
	d := openTest(t, pristine, DiskOptions{})
	var keys []string
	for i, size := range []int{40, 5000, 40_000, 150_000} {
		key := testKey(i)
		keys = append(keys, key)
		mustPut(t, d, key, pattern(byte(7+i), size+3)) // is replaced, and leaves a record behind
		mustPut(t, d, key, pattern(byte(i+1), size))
	}
	d.Close()
	if found := checkCache(t, openTest(t, pristine, DiskOptions{}), keys, "undamaged"); found != len(keys) {
		t.Fatalf("%d of %d entries found in the undamaged cache", found, len(keys))
	}
	var files []string
	for path, mode := range tree(t, filepath.Join(pristine, version)) {
		if mode.IsRegular() {
			files = append(files, filepath.Join(version, path))
		}
	}
	slices.Sort(files)
	content := map[string][]byte{}
	for _, f := range files {
		content[f], _ = os.ReadFile(filepath.Join(pristine, f))
	}

	type damage struct {
		name string
		do   func(b []byte) []byte
	}
	for fi, f := range files {
		b := content[f]
		var damages []damage
		offsets := []int{0, 5, 9, 13, 50}
		for i := range 4 {
			offsets = append(offsets, len(b)*(i+1)/5, len(b)-1-9*i)
		}
		for _, off := range offsets {
			if off < 0 || off >= len(b) {
				continue
			}
			damages = append(damages,
				damage{fmt.Sprint("bit flipped at ", off), func(b []byte) []byte { b[off] ^= 1 << (off % 8); return b }},
				damage{fmt.Sprint("cut at ", off), func(b []byte) []byte { return b[:off] }},
				damage{fmt.Sprint("zeros from ", off), func(b []byte) []byte { clear(b[off:]); return b }},
			)
		}
		damages = append(damages,
			damage{"a byte more", func(b []byte) []byte { return append(b, 0) }},
			damage{"extended by itself", func(b []byte) []byte { return append(b, b...) }},
			damage{"block of zeros in front", func(b []byte) []byte { return append(make([]byte, 4096), b...) }},
			damage{"another file in its place", func([]byte) []byte { return content[files[(fi+1)%len(files)]] }},
			damage{"removed", func([]byte) []byte { return nil }},
		)
		t.Run(filepath.Base(f), func(t *testing.T) {
			t.Parallel()
			scratch := scratchDir(t)
			for i, dm := range damages {
				if !testtier.Long() && i%4 != fi%4 {
					continue
				}
				dir := filepath.Join(scratch, strconv.Itoa(i))
				if err := os.CopyFS(dir, os.DirFS(pristine)); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, f)
				os.Remove(path)
				if damaged := dm.do(bytes.Clone(b)); damaged != nil {
					if err := os.WriteFile(path, damaged, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				d := openTest(t, dir, DiskOptions{})
				found := checkCache(t, d, keys, dm.name)
				if found < len(keys)-1 {
					t.Errorf("%s: %d of %d entries left, want all but one", dm.name, found, len(keys))
				}
				// The cache works on.
				for i, key := range keys {
					mustPut(t, d, key, pattern(byte(i+1), 20_000))
				}
				if found := checkCache(t, d, keys, dm.name+", stored again"); found != len(keys) {
					t.Errorf("%s: %d of %d entries found after storing again", dm.name, found, len(keys))
				}
				if _, err := d.Secret(t.Context()); err != nil {
					t.Errorf("%s: Secret: %v", dm.name, err)
				}
				d.Close()
				os.RemoveAll(dir)
			}
		})
	}
}

// TestDamageAfterVerification changes a body that was read before and is
// remembered as verified.
func TestDamageAfterVerification(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	key := testKey(1)
	for _, wait := range []time.Duration{0, 50 * time.Millisecond} {
		mustPut(t, d, key, pattern(1, 1<<20))
		time.Sleep(wait)
		for range 2 {
			if b, err := readBody(d, mustEntries(t, d, key)[0]); err != nil || !bytes.Equal(b, pattern(1, 1<<20)) {
				t.Fatalf("wrong bytes or %v", err)
			}
		}
		blob := mustEntries(t, d, key)[0].Parts[0].Blob
		f, err := os.OpenFile(d.path(blobName(key, blob.ID)), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt([]byte{0, 1, 2, 3, 4}, 700_000)
		f.Close()
		b, err := readBody(d, mustEntries(t, d, key)[0])
		if !errors.Is(err, ErrDamaged) || len(b) > 700_000 || !bytes.Equal(b, pattern(1, 1<<20)[:len(b)]) {
			t.Errorf("waiting %v: read %d bytes, %v, want ErrDamaged before byte 700000", wait, len(b), err)
		}
		if es := mustEntries(t, d, key); len(es) != 0 {
			t.Errorf("waiting %v: the damaged entry is still there", wait)
		}
	}
}

func TestTornAppendKeepsState(t *testing.T) {
	t.Parallel()
	d := openTest(t, t.TempDir(), DiskOptions{MemoryBytes: -1})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 100))
	before, _ := os.ReadFile(d.path(key))
	if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
		e := es[0].Clone()
		e.Status = 599
		return []*Entry{e}
	}); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(d.path(key))
	for n := range len(after) - len(before) {
		os.WriteFile(d.path(key), after[:len(before)+n], 0o600)
		es := mustEntries(t, d, key)
		if len(es) != 1 || es[0].Status != 200 || !bytes.Equal(es[0].Parts[0].Blob.Inline, pattern(1, 100)) {
			t.Fatalf("appended record cut to %d bytes: got %v, want the state before", n, es)
		}
	}
}

// TestDamagedTailIsNoTornOne damages each bit of the last append. The entries
// that it replaced do not come back.
func TestDamagedTailIsNoTornOne(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{MemoryBytes: -1})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 100))
	before, _ := os.ReadFile(d.path(key))
	if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
		e := es[0].Clone()
		e.InvalidatedAt = time.Now()
		return []*Entry{e}
	}); err != nil {
		t.Fatal(err)
	}
	after, _ := os.ReadFile(d.path(key))
	if !bytes.HasPrefix(after, before) || len(after) == len(before) {
		t.Fatal("the file was not appended to")
	}
	came := 0
	for bit := 8 * len(before); bit < 8*len(after); bit += 1 + 4*min(1, bit/8/(len(before)+recordHeader)) { // all of its beginning
		b := bytes.Clone(after)
		b[bit/8] ^= 1 << (bit % 8)
		os.WriteFile(d.path(key), b, 0o600)
		for _, e := range mustEntries(t, d, key) {
			if came++; came < 5 {
				t.Errorf("bit %d of byte %d flipped: there is %+v", bit%8, bit/8-len(before), e)
			}
		}
	}
	for n := 1; n < len(after)-len(before); n++ { // as a file system may that writes the length before the bytes
		b := bytes.Clone(after)
		clear(b[len(before)+n:])
		os.WriteFile(d.path(key), b, 0o600)
		if es := mustEntries(t, d, key); len(es) > 0 && es[0].InvalidatedAt.IsZero() {
			t.Fatalf("%d bytes appended and zeros after: there is %+v", n, es[0])
		}
	}
}

// TestShunned has more files than are remembered be not to be used.
func TestShunned(t *testing.T) {
	var s unusableFiles
	now := time.Now().UnixNano()
	st := fileStat{ino: 1, size: 2, mtime: now - int64(time.Minute), regular: true}
	changed := fileStat{ino: 1, size: 3, mtime: now + int64(time.Minute), regular: true}
	for i := range 2 * maxUnusable {
		if s.has(testKey(i), &changed) {
			t.Fatalf("file %d is not to be used before it is said", i)
		}
		s.add(testKey(i), &st)
	}
	for i := range 2 * maxUnusable {
		if !s.has(testKey(i), &st) || s.has(testKey(i), &changed) {
			t.Fatalf("file %d: to be used as it is %t, when changed %t", i, !s.has(testKey(i), &st), !s.has(testKey(i), &changed))
		}
	}
	if len(s.files) > maxUnusable {
		t.Errorf("%d are remembered", len(s.files))
	}
}
