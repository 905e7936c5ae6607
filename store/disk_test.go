package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// pattern returns a body that can be checked: the first byte determines all
// others.
func pattern(seed byte, size int) []byte {
	b := make([]byte, size+32)
	var s [32]byte
	s[0], s[1], s[2], s[3] = seed, byte(size), byte(size>>8), byte(size>>16)
	rand.NewChaCha8(s).Read(b)
	b = b[:size]
	if size > 0 {
		b[0] = seed
	}
	return b
}

// readBody returns the whole body of an entry.
func readBody(s Store, e *Entry) ([]byte, error) {
	var out []byte
	for _, p := range e.Parts {
		body, err := s.Open(context.Background(), e.Key, p.Blob)
		if err != nil {
			return out, err
		}
		b, err := io.ReadAll(io.NewSectionReader(body, p.Skip, p.Length))
		body.Close()
		out = append(out, b...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

func mustEntries(tb testing.TB, s Store, key string) []*Entry {
	tb.Helper()
	es, err := s.Entries(context.Background(), key)
	if err != nil {
		tb.Fatalf("Entries: %v", err)
	}
	return es
}

// tree returns the paths of all files below dir with their modes.
func tree(tb testing.TB, dir string) map[string]fs.FileMode {
	tb.Helper()
	out := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		out[rel] = fi.Mode()
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// diskBytes returns what the cache's files take, as its bound counts them.
func diskBytes(tb testing.TB, dir string) (n int64) {
	tb.Helper()
	for _, sub := range []string{"data", "tmp"} {
		filepath.WalkDir(filepath.Join(dir, version, sub), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil // vanished meanwhile
			}
			if fi, err := e.Info(); err == nil {
				n += allocated(fi.Size())
			}
			return nil
		})
	}
	return n
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	sizes := []int{0, 10, 16 << 10, 17 << 10, 64 << 10, 65<<10 + 1, 3 << 20}
	d := openTest(t, dir, DiskOptions{})
	for i, size := range sizes {
		mustPut(t, d, testKey(i), pattern(byte(i), size))
	}
	secret, err := d.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = openTest(t, dir, DiskOptions{})
	for i, size := range sizes {
		es := mustEntries(t, d, testKey(i))
		want := testHead(testKey(i))
		want.Length = int64(size)
		if len(es) != 1 {
			t.Fatalf("%d bytes: %d entries after reopening", size, len(es))
		}
		if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, pattern(byte(i), size)) {
			t.Errorf("%d bytes: wrong bytes or %v", size, err)
		}
		want.Parts = es[0].Parts
		if diff := cmp.Diff(want, es[0]); diff != "" {
			t.Errorf("%d bytes (-want +got):\n%s", size, diff)
		}
	}
	if again, err := d.Secret(t.Context()); err != nil || !bytes.Equal(again, secret) {
		t.Errorf("secret after reopening: %x, %v, want %x", again, err, secret)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	for _, mask := range []int{0, 0o077, 0o277, 0o777} {
		t.Run(fmt.Sprintf("umask %o", mask), func(t *testing.T) {
			parent := t.TempDir()
			setUmask(t, mask)
			testModes(t, parent)
		})
	}
}

func testModes(t *testing.T, parent string) {
	dir := filepath.Join(parent, "a", "cache")
	d := openTest(t, dir, DiskOptions{})
	mustPut(t, d, testKey(1), pattern(1, 100))
	mustPut(t, d, testKey(2), pattern(1, 100_000))
	if _, err := d.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	draft, err := d.Create(t.Context(), testKey(3), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	draft.Write(make([]byte, 1<<20))
	for path, mode := range tree(t, dir) {
		want := fs.FileMode(0o600)
		if mode.IsDir() {
			want = 0o700
		}
		if mode.Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, mode.Perm(), want)
		}
	}
	tag, _ := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG"))
	if !strings.HasPrefix(string(tag), "Signature: 8a477f597d28d172789f06886806bc55") {
		t.Errorf("CACHEDIR.TAG is %q", tag)
	}
	for _, torn := range []string{"", "Signature: 8a477f59"} {
		os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(torn), 0o600)
		openTest(t, dir, DiskOptions{})
		if again, _ := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG")); string(again) != string(tag) {
			t.Errorf("a tag that was torn to %q is now %q", torn, again)
		}
	}
	own := string(tag) + "# mine\n"
	os.WriteFile(filepath.Join(dir, "CACHEDIR.TAG"), []byte(own), 0o600)
	openTest(t, dir, DiskOptions{})
	if again, _ := os.ReadFile(filepath.Join(dir, "CACHEDIR.TAG")); string(again) != own {
		t.Errorf("somebody's own tag is now %q", again)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	inUse := filepath.Join(dir, "inuse")
	os.Mkdir(inUse, 0o700)
	os.WriteFile(filepath.Join(inUse, version), nil, 0o600)
	for _, path := range []string{"", file, filepath.Join(file, "a", "b"), inUse, filepath.Join(dir, "nul\x00")} {
		d, err := OpenDisk(path, DiskOptions{})
		if err == nil {
			d.Close()
			t.Errorf("OpenDisk(%q) is no error", path)
		} else if !strings.HasPrefix(err.Error(), errorPrefix) {
			t.Errorf("OpenDisk(%q): %q does not say where it comes from", path, err)
		}
	}
}

func TestClosed(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	mustPut(t, d, testKey(1), pattern(1, 200_000))
	es := mustEntries(t, d, testKey(1))
	body, err := d.Open(t.Context(), testKey(1), es[0].Parts[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	draft, err := d.Create(t.Context(), testKey(2), -1)
	if err != nil {
		t.Fatal(err)
	}
	draft.Write(pattern(2, 100))
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	ctx := t.Context()
	errs := map[string]error{}
	_, errs["Entries"] = d.Entries(ctx, testKey(1))
	errs["Update"] = d.Update(ctx, testKey(1), func([]*Entry) []*Entry { return nil })
	_, errs["Open"] = d.Open(ctx, testKey(1), es[0].Parts[0].Blob)
	_, errs["Create"] = d.Create(ctx, testKey(1), 1)
	_, errs["Secret"] = d.Secret(ctx)
	_, errs["Usage"] = d.Usage(ctx)
	_, errs["Verify"] = d.Verify(ctx)
	_, errs["Purge"] = d.Purge(ctx, "", func(*Entry) bool { return true })
	errs["EvictTo"] = d.EvictTo(ctx, 0)
	errs["Clear"] = d.Clear(ctx)
	_, errs["Commit"] = draft.Commit()
	_, errs["Write"] = draft.Write([]byte("x"))
	for _, err := range d.All(ctx, "") {
		errs["All"] = err
	}
	for name, err := range errs {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	if len(errs) != 13 {
		t.Errorf("%d methods tried, want 13: All yields nothing after Close", len(errs))
	}
	if b, err := io.ReadAll(io.NewSectionReader(body, 0, 200_000)); err != nil || !bytes.Equal(b, pattern(1, 200_000)) {
		t.Errorf("a body opened before Close: wrong bytes or %v", err)
	}
	p := make([]byte, 100)
	if n, err := draft.ReadAt(p, 0); n != 100 || err != nil && err != io.EOF {
		t.Errorf("a draft made before Close: %d, %v", n, err)
	}
	draft.Close()
}

// TestSeenByOthers has two stores on one directory, as in two processes.
func TestSeenByOthers(t *testing.T) {
	dir := t.TempDir()
	a, b := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	for i := range 200 {
		// Nothing is slept here: what changes twice within a tick of the clock must be seen as well.
		mustPut(t, a, key, pattern(byte(i), 100+i%2))
		for _, d := range []*Disk{a, b, b} {
			es := mustEntries(t, d, key)
			if len(es) != 1 || es[0].Parts[0].Blob.Inline[0] != byte(i) {
				t.Fatalf("round %d: the last store is not seen", i)
			}
		}
		if err := b.Update(t.Context(), key, func(es []*Entry) []*Entry {
			e := es[0].Clone()
			e.Status = i
			return []*Entry{e}
		}); err != nil {
			t.Fatal(err)
		}
		if es := mustEntries(t, a, key); len(es) != 1 || es[0].Status != i {
			t.Fatalf("round %d: the last freshening is not seen", i)
		}
		if i%3 == 0 {
			if err := b.Update(t.Context(), key, func([]*Entry) []*Entry { return nil }); err != nil {
				t.Fatal(err)
			}
			if es := mustEntries(t, a, key); len(es) != 0 {
				t.Fatalf("round %d: the removal is not seen", i)
			}
		}
	}
	sa, err := a.Secret(t.Context())
	sb, err2 := b.Secret(t.Context())
	if err != nil || err2 != nil || !bytes.Equal(sa, sb) {
		t.Errorf("secrets %x and %x, %v, %v", sa, sb, err, err2)
	}
}

func TestNoLostUpdateBetweenStores(t *testing.T) {
	dir := t.TempDir()
	key := testKey(1)
	const stores, rounds = 4, 30
	var wg sync.WaitGroup
	for range stores {
		d := openTest(t, dir, DiskOptions{})
		wg.Go(func() {
			for range rounds {
				err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
					e := testHead(key)
					if len(es) > 0 {
						e = es[0].Clone()
					}
					e.Length++
					return []*Entry{e}
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	es := mustEntries(t, openTest(t, dir, DiskOptions{}), key)
	if len(es) != 1 || es[0].Length != stores*rounds {
		t.Errorf("got %v, want one entry that counts %d", es, stores*rounds)
	}
}

func TestAppendInsteadOfRewriting(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	for _, size := range []int{1 << 10, 1 << 20} {
		key := testKey(size)
		mustPut(t, d, key, pattern(1, size))
		path := d.path(key)
		var first, st fileStat
		if err := statFile(path, &first); err != nil {
			t.Fatal(err)
		}
		rewritten := 0
		var most int64
		last := first
		for i := range 100 {
			if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
				e := es[0].Clone()
				e.Status = i
				return []*Entry{e}
			}); err != nil {
				t.Fatal(err)
			}
			statFile(path, &st)
			if st.size < last.size {
				rewritten++
			} else if st.size-last.size > 4096 {
				t.Errorf("freshening a head of %d bytes appended %d", first.size, st.size-last.size)
			}
			most = max(most, st.size)
			last = st
		}
		if rewritten == 0 || rewritten > 10 {
			t.Errorf("the file was rewritten %d times in 100 updates, want some 5", rewritten)
		}
		if most > 2*first.size+2*compactSlack {
			t.Errorf("the file grew to %d bytes, from %d", most, first.size)
		}
		es := mustEntries(t, d, key)
		if b, err := readBody(d, es[0]); err != nil || !bytes.Equal(b, pattern(1, size)) || es[0].Status != 99 {
			t.Errorf("after all, status %d and wrong bytes or %v", es[0].Status, err)
		}
	}
}

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

// TestDamageAfterVerification changes a body that was read before and is remembered as verified.
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

func TestSymlinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need privileges")
	}
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
	use := func(dir string) {
		d, err := OpenDisk(dir, DiskOptions{MaxBytes: 1 << 20})
		if err != nil {
			return
		}
		defer d.Close()
		for i := range 3 {
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
			use(dir)
			link := filepath.Join(dir, filepath.FromSlash(rel))
			os.RemoveAll(link)
			os.MkdirAll(filepath.Dir(link), 0o700)
			if err := os.Symlink(target, link); err != nil {
				t.Fatal(err)
			}
			use(dir)
			check(rel + " -> " + filepath.Base(target))
		}
	}
}

// TestSymlinksPlantedLater moves parts of a cache out of it while it is open, and puts symbolic links in their places.
func TestSymlinksPlantedLater(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need privileges")
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

// TestReplacedDirectory moves an open cache away and makes another in its place: only what that takes counts.
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
	if runtime.GOOS == "windows" {
		t.Skip("no pipes")
	}
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

func TestRedactedURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com/a":                "https://example.com/a",
		"https://example.com/a?":               "https://example.com/a?",
		"https://example.com/?key=abc&q=%20&x": "https://example.com/?key=xxxxx&q=xxxxx&xxxxx",
		"https://u:p@example.com/?a=b=c&&d":    "https://example.com/?a=xxxxx&&xxxxx",
		"https://u:p%@example.com/a":           "https://example.com/a",
		"https://u:a@b@example.com:x/a":        "https://example.com:x/a",
		"http://ahttp://u:p@a/b?c=d":           "http://ahttp://a/b?c=xxxxx",
	} {
		if got := (&Entry{URL: raw}).RedactedURL(); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
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

func TestVanishedDirectory(t *testing.T) {
	for _, rel := range []string{"", version, version + "/data", version + "/tmp", version + "/usage"} {
		dir := filepath.Join(t.TempDir(), "cache")
		d := openTest(t, dir, DiskOptions{})
		mustPut(t, d, testKey(1), pattern(1, 100))
		secret, _ := d.Secret(t.Context())
		draft, err := d.Create(t.Context(), testKey(2), -1)
		if err != nil {
			t.Fatal(err)
		}
		draft.Write(make([]byte, 300_000))
		os.RemoveAll(filepath.Join(dir, rel))
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
		if err != nil || err2 != nil || !bytes.Equal(other, mine) {
			t.Errorf("%q vanished: secrets %x (before %x) and %x differ, %v, %v", rel, mine, secret, other, err, err2)
		}
	}
}

func TestLeftoversAreSwept(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 100_000))
	orphan := blobName(key, strings.Repeat("a", 32))
	alone := blobName(testKey(2), strings.Repeat("b", 32))
	old, young := []string{
		d.path(orphan), d.path(alone), d.path(blobName(testKey(3), strings.Repeat("c", 32))) + tempSuffix, filepath.Join(d.tmp, "12345"),
		d.path(key) + ".junk",
		filepath.Join(dir, "v0", "usage"), filepath.Join(dir, "v0", "data", "aa", "x"), filepath.Join(dir, "v22", "usage"), filepath.Join(dir, "v22", "y"),
	}, []string{
		d.path(blobName(key, strings.Repeat("d", 32))), filepath.Join(d.tmp, "6789"),
		filepath.Join(dir, "v33", "usage"), filepath.Join(dir, "v33", "data", "z"),
	}
	unused := time.Now().Add(-unusedAfter - time.Hour)
	foreign := []string{filepath.Join(dir, "v2", "mine"), filepath.Join(dir, "notes.txt"), filepath.Join(dir, "v2.txt")}
	long := time.Now().Add(-2 * time.Hour)
	for _, path := range slices.Concat(old, young, foreign) {
		os.MkdirAll(filepath.Dir(path), 0o700)
		os.WriteFile(path, []byte(usageMagic), 0o600)
		if !slices.Contains(young, path) {
			os.Chtimes(path, long, long)
		}
		if slices.Contains(old, path) && filepath.Base(path) == "usage" {
			os.Chtimes(path, unused, unused)
		}
	}
	blob := mustEntries(t, d, key)[0].Parts[0].Blob
	os.Chtimes(d.path(blobName(key, blob.ID)), long, long)
	// Make the listing of every shard due.
	os.Truncate(filepath.Join(dir, version, "usage"), usageHeader)
	for i := range 2 * shardCount {
		mustPut(t, d, testKey(100+i%3), pattern(1, 30_000))
		if err := d.Update(t.Context(), testKey(100+i%3), func([]*Entry) []*Entry { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range old {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range slices.Concat(young, foreign) {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("%s was removed", path)
		}
	}
	if b, err := readBody(d, mustEntries(t, d, key)[0]); err != nil || !bytes.Equal(b, pattern(1, 100_000)) {
		t.Errorf("a body in use: wrong bytes or %v", err)
	}
	var page usagePage
	d.readUsage(&page)
	// One young temporary file of diskv is not counted.
	if got, want := page.sum(), diskBytes(t, dir)-4096; got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

// TestBound has the cache churn, by one store and by many short-lived ones, and looks at its size all the time.
func TestBound(t *testing.T) {
	t.Parallel()
	const (
		bound   = 4 << 20
		largest = bound/bodyShare - 100_000
	)
	for _, tt := range []struct {
		name    string
		reopen  int // stores per opened Disk
		workers int
	}{
		{"one daemon", 1 << 30, 1},
		{"short-lived processes", 1, 1},
		{"concurrent", 50, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := scratchDir(t)
			var wg sync.WaitGroup
			var storing sync.RWMutex // nothing changes while files are counted
			for w := range tt.workers {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(3, uint64(w)))
					var d *Disk
					for i := range 800 / tt.workers {
						if i%tt.reopen == 0 {
							var err error
							if d, err = OpenDisk(dir, DiskOptions{MaxBytes: bound}); err != nil {
								t.Error(err)
								return
							}
							// It is not closed, as in a process that ends.
							t.Cleanup(func() { d.Close() })
						}
						size := []int{100, 3000, 15_000, 40_000, 150_000}[r.IntN(5)]
						if r.IntN(50) == 0 {
							size = largest
						}
						storing.RLock()
						err := putBody(d, testKey(r.IntN(4000)), make([]byte, size))
						storing.RUnlock()
						if err != nil && !errors.Is(err, ErrTooLarge) {
							t.Errorf("storing: %v", err)
						}
						if i%8 != 0 { // counting takes longer than storing
							continue
						}
						storing.Lock()
						n := diskBytes(t, dir)
						storing.Unlock()
						if n > bound*110/100 {
							t.Errorf("after %d stores: %d bytes, which is %.1f %% of the bound", i, n, 100*float64(n)/bound)
							return
						}
					}
				})
			}
			wg.Wait()
			d := openTest(t, dir, DiskOptions{MaxBytes: bound})
			// Even exact LRU may evict a body of that size to free a few bytes.
			if n := diskBytes(t, dir); n < bound*95/100-largest {
				t.Errorf("%d bytes in the end, which is %.1f %% of the bound: too much is evicted", n, 100*float64(n)/bound)
			}
			var page usagePage
			if err := d.readUsage(&page); err != nil {
				t.Fatal(err)
			}
			if got, want := page.sum(), diskBytes(t, dir); got != want {
				t.Errorf("usage says %d bytes, the files take %d", got, want)
			}
		})
	}
}

// TestBoundWithoutUsage has it forgotten how much a full cache takes.
func TestBoundWithoutUsage(t *testing.T) {
	t.Parallel()
	const bound = 4 << 20
	for name, lose := range map[string]func(path string) error{
		"removed":   os.Remove,
		"empty":     func(path string) error { return os.Truncate(path, 0) },
		"torn":      func(path string) error { return os.Truncate(path, usageSize/2+3) },
		"zeros":     func(path string) error { return errors.Join(os.Truncate(path, 0), os.Truncate(path, usageSize)) },
		"rewritten": func(path string) error { return os.WriteFile(path, pattern(3, usageSize), 0o600) },
	} {
		for _, size := range []int{3000, bound/bodyShare - 1000} {
			for _, reopen := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %d bytes, %t", name, size, reopen), func(t *testing.T) {
					t.Parallel()
					dir := scratchDir(t)
					d := openTest(t, dir, DiskOptions{MaxBytes: bound})
					for i := range bound / 8192 * 11 / 10 {
						mustPut(t, d, testKey(i), pattern(1, 7000))
					}
					if n := diskBytes(t, dir); n < bound*90/100 {
						t.Fatalf("only %d bytes to begin with", n)
					}
					if err := lose(filepath.Join(dir, version, "usage")); err != nil {
						t.Fatal(err)
					}
					for i := range 40 {
						if reopen {
							d = openTest(t, dir, DiskOptions{MaxBytes: bound})
						}
						mustPut(t, d, testKey(10_000+i), make([]byte, size))
						n := diskBytes(t, dir)
						if n > bound*110/100 {
							t.Fatalf("after %d stores: %d bytes, which is %.1f %% of the bound", i+1, n, 100*float64(n)/bound)
						}
						if n < bound*70/100 {
							t.Fatalf("after %d stores: %.1f %% of the bound are left: too much is evicted", i+1, 100*float64(n)/bound)
						}
					}
					var page usagePage
					for i := range shardCount { // each lists some shards, as many as there is time for
						if err := d.readUsage(&page); err != nil {
							t.Fatal(err)
						}
						if !page.unknown() {
							break
						}
						mustPut(t, d, testKey(20_000+i), make([]byte, 3000))
					}
					if got, want := page.sum(), diskBytes(t, dir); got != want || page.unknown() {
						t.Errorf("usage says %d bytes, the files take %d", got, want)
					}
				})
			}
		}
	}
}

func TestDraftsAreWithinTheBound(t *testing.T) {
	const bound = 8 << 20
	t.Parallel()
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{MaxBytes: bound})
	for i := range 500 {
		mustPut(t, d, testKey(1000+i), make([]byte, 3000))
	}
	var drafts []Draft
	refused := 0
	for i := range 12 {
		draft, err := d.Create(t.Context(), testKey(i), -1)
		if err != nil {
			t.Fatal(err)
		}
		drafts = append(drafts, draft)
		for range 15 {
			if _, err := draft.Write(make([]byte, 100_000)); err != nil {
				if !errors.Is(err, ErrTooLarge) {
					t.Errorf("Write: %v", err)
				}
				refused++
				break
			}
			if n := diskBytes(t, dir); n > bound*110/100 {
				t.Fatalf("%d bytes, which is %.1f %% of the bound", n, 100*float64(n)/bound)
			}
		}
	}
	if refused == 0 {
		t.Error("12 drafts of 1.5 MB fit into 8 MiB")
	}
	for _, draft := range drafts {
		draft.Close()
	}
	if err := putBody(d, testKey(1), make([]byte, 1<<20)); err != nil {
		t.Errorf("after all drafts are closed: %v", err)
	}
	var page usagePage
	d.readUsage(&page)
	if got, want := page.sum(), diskBytes(t, dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

func TestTooLarge(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{MaxBytes: 4 << 20})
	if _, err := d.Create(t.Context(), testKey(1), 1<<20+1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Create of more than a quarter of the bound: %v, want ErrTooLarge", err)
	}
	draft, err := d.Create(t.Context(), testKey(1), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	draft.Write(pattern(1, 1<<20))
	if _, err := draft.Write([]byte{1}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Write of more than a quarter of the bound: %v, want ErrTooLarge", err)
	}
	got := make([]byte, 1<<20)
	if n, err := draft.ReadAt(got, 0); n != len(got) || !bytes.Equal(got, pattern(1, 1<<20)) {
		t.Errorf("what was written before is not readable: %d, %v", n, err)
	}
	if _, err := draft.Commit(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("Commit: %v, want ErrTooLarge", err)
	}
}

func TestHitRatio(t *testing.T) {
	t.Parallel()
	const bound = 4 << 20
	d := openTest(t, scratchDir(t), DiskOptions{MaxBytes: bound})
	got := runTrace(t, d, bound, zipfTrace(testtier.Pick(3000, 8000)), func(n int) int { return []int{1000, 9000}[n%2] })
	t.Logf("hit ratio %.1f %%, exact LRU %.1f %%, offline optimum %.1f %%", 100*got.store, 100*got.lru, 100*got.optimum)
	if got.store < got.lru-0.03 {
		t.Errorf("hit ratio %.1f %%, more than 3 points below exact LRU's %.1f %%", 100*got.store, 100*got.lru)
	}
	if got.lru > got.optimum {
		t.Errorf("exact LRU hits %.1f %%, the optimum %.1f %%", 100*got.lru, 100*got.optimum)
	}
	if d.Evictions() == 0 {
		t.Error("no evictions counted")
	}
}

// TestLargeShard has so many keys in one shard that only samples of it are looked at.
func TestLargeShard(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{})
	const keys = 6 * sampleAll
	key := func(i int) string { return "ab" + testKey(i)[2:] }
	for i := range keys {
		mustPut(t, d, key(i), make([]byte, 100+20_000*((i+2)%5/4))) // some with a body in a file of its own
	}
	now := time.Now()
	for i := range keys {
		at := now.Add(time.Duration(i-keys) * time.Minute)
		if err := os.Chtimes(d.path(key(i)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	before := diskBytes(t, dir)
	if err := d.EvictTo(t.Context(), before*2/3); err != nil {
		t.Fatal(err)
	}
	if n := diskBytes(t, dir); n > before*2/3 || n < before*6/10 {
		t.Errorf("EvictTo two thirds of %d bytes left %d", before, n)
	}
	var kept [4]int // by age, the oldest quarter first
	for i := range keys {
		es := mustEntries(t, d, key(i))
		kept[i*4/keys] += len(es)
		for _, e := range es {
			if _, err := readBody(d, e); err != nil {
				t.Error(err)
			}
		}
	}
	if kept[0] > keys/4/5 || kept[3] < keys/4*98/100 {
		t.Errorf("by age, of %d each, %v are left", keys/4, kept)
	}
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		t.Fatal(err)
	}
	if got, want := page.sum(), diskBytes(t, dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

// TestSurvey has a shard of so many files that it is listed in parts, while others store.
func TestSurvey(t *testing.T) {
	t.Parallel()
	const (
		keys  = 8 * sampleAll
		wrong = 1 << 20 // what the shard is said to take too much
	)
	inside := func(i int) string { return "ab" + testKey(i)[2:] }
	outside := func(i int) string { return "cd" + testKey(i)[2:] }
	shard := shardOf(inside(0))
	for _, tt := range []struct {
		name string
		// during is called before each part of the listing with its number.
		during func(t *testing.T, d *Disk, n int)
		exact  bool // the count is right then
	}{
		{"nothing else happens", func(*testing.T, *Disk, int) {}, true},
		{"replaced by as much", func(t *testing.T, d *Disk, n int) {
			if n > 0 {
				mustPut(t, d, inside(5*n+4), make([]byte, 20_100))
			}
		}, false},
		{"appended to", func(t *testing.T, d *Disk, n int) {
			if n != 1 {
				return
			}
			err := d.Update(t.Context(), inside(0), func(es []*Entry) []*Entry {
				e := testHead(inside(0))
				e.URL += strings.Repeat("x", 4000)
				return append(es, e)
			})
			if err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a body grows as another shrinks", func() func(*testing.T, *Disk, int) {
			var drafts [2]*diskDraft
			return func(t *testing.T, d *Disk, n int) {
				for i := range drafts {
					if n == 0 {
						dr, err := d.Create(t.Context(), inside(i), 1<<20)
						if err != nil {
							t.Fatal(err)
						}
						drafts[i] = dr.(*diskDraft)
						t.Cleanup(func() { dr.Close() })
					}
					if _, err := drafts[i].resize(4096*int64(2+(n+i)%2), anyRoom); err != nil {
						t.Fatal(err)
					}
				}
				if n == 0 {
					time.Sleep(50 * time.Millisecond) // so that the directory stays as it is
				}
			}
		}(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := scratchDir(t)
			d := openTest(t, dir, DiskOptions{})
			for i := range keys {
				mustPut(t, d, inside(i), make([]byte, 100+20_000*(i%5/4))) // some with a body in a file of its own
			}
			long := time.Now().Add(-2 * time.Hour)
			orphan := d.path(blobName(inside(1), strings.Repeat("a", 32)))
			leftovers := []string{orphan, orphan + tempSuffix, d.path(inside(2)) + ".junk"}
			for _, path := range leftovers {
				if err := os.WriteFile(path, make([]byte, 10_000), 0o600); err != nil {
					t.Fatal(err)
				}
				os.Chtimes(path, long, long)
			}
			// Leftovers are counted. So are files that were reserved but not
			// written, because their process was killed.
			var page usagePage
			say := func() int64 {
				t.Helper()
				var off int64
				err := d.inShard(t.Context(), shard, &page, func(l *locked) error {
					list, err := d.listShard(shard)
					if err != nil {
						return err
					}
					off = page.slot(shard).bytes - list.bytes
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return off
			}
			off := say()
			err := d.inShard(t.Context(), shard, &page, func(l *locked) error {
				s := page.slot(shard)
				return l.setSlot(slot{bytes: s.bytes - off + wrong, listed: 0}, &page)
			})
			if err != nil {
				t.Fatal(err)
			}

			parts, stored := 0, 0
			// survey stores elsewhere until a survey has ended, and tells whether it was not in vain.
			survey := func(during func(*testing.T, *Disk, int)) bool {
				for n := range 10_000 {
					during(t, d, n)
					stored++
					mustPut(t, d, outside(stored), make([]byte, 100))
					s := &d.evictor.survey
					if s.from != nil {
						parts++
					} else if !s.rest.IsZero() || d.readUsage(&page) == nil && page.due(0, time.Now()) < 0 {
						vain := !s.rest.IsZero()
						s.rest = time.Time{}
						return !vain
					}
				}
				t.Fatal("no survey ends")
				return false
			}
			time.Sleep(50 * time.Millisecond)
			if survey(func(*testing.T, *Disk, int) {}) {
				t.Error("the count is set right by a survey that removed something")
			}
			for _, path := range leftovers {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s is still there", path)
				}
			}
			if got := say(); got != wrong {
				t.Errorf("what was removed is counted: %d bytes too many, want %d", got, wrong)
			}
			time.Sleep(50 * time.Millisecond)
			if got := survey(tt.during); got != tt.exact {
				t.Errorf("a survey says it is exact: %t, want %t", got, tt.exact)
			}
			if got := say(); tt.exact && got != 0 || !tt.exact && got != wrong {
				t.Errorf("%d bytes too many", got)
			}
			if parts == 0 {
				t.Error("the shard was not listed in parts")
			}
			for i := range keys {
				for _, e := range mustEntries(t, d, inside(i)) {
					if _, err := readBody(d, e); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// checkUsage makes sure that the recorded size of a cache with one shard is
// right.
func checkUsage(t *testing.T, d *Disk, shard int) {
	t.Helper()
	var page usagePage
	if err := d.readUsage(&page); err != nil {
		t.Fatal(err)
	}
	if got, want := page.slot(shard).bytes, diskBytes(t, d.dir); got != want {
		t.Errorf("usage says %d bytes, the files take %d", got, want)
	}
}

// TestShrinkingUnknown removes a file that was not counted.
func TestShrinkingUnknown(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{})
	key, other := testKey(1), sameShard(testKey(1), 2)
	mustPut(t, d, key, make([]byte, 100))
	mustPut(t, d, other, make([]byte, 100))
	if err := os.Truncate(filepath.Join(dir, version, "usage"), usageHeader); err != nil {
		t.Fatal(err)
	}
	if err := d.Update(t.Context(), key, func([]*Entry) []*Entry { return nil }); err != nil {
		t.Fatal(err)
	}
	checkUsage(t, d, shardOf(key))
}

// TestDraftSweptWhileClosing has a draft taken for left behind just when it is given up.
func TestDraftSweptWhileClosing(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, d, sameShard(key, 2), make([]byte, 50_000))
	draft, err := d.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := draft.Write(make([]byte, 500_000)); err != nil {
		t.Fatal(err)
	}
	draft.(*diskDraft).file.Close() // as Close does first: it is nobody's then
	if _, err := other.scan(t.Context(), shardOf(key)); err != nil {
		t.Fatal(err)
	}
	if err := draft.Close(); err != nil {
		t.Fatal(err)
	}
	checkUsage(t, d, shardOf(key))
}

func TestMaintenance(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	ctx := t.Context()
	for i := range 40 {
		mustPut(t, d, testKey(i), pattern(byte(i), 100+2000*i))
		time.Sleep(time.Millisecond)
	}
	u, err := d.Usage(ctx)
	if err != nil || u.Keys != 40 || u.Bodies != 31 || u.Bytes != diskBytes(t, d.Dir()) {
		t.Errorf("Usage: %+v, %v, want 40 keys, 31 bodies and %d bytes", u, err, diskBytes(t, d.Dir()))
	}
	r, err := d.Verify(ctx)
	if err != nil || r.Entries != 40 || r.Damaged != 0 {
		t.Errorf("Verify: %+v, %v, want 40 entries", r, err)
	}
	blob := mustEntries(t, d, testKey(39))[0].Parts[0].Blob
	path := d.path(blobName(testKey(39), blob.ID))
	b, _ := os.ReadFile(path)
	b[70_000] ^= 1
	os.WriteFile(path, b, 0o600)
	os.WriteFile(d.path(testKey(5)), []byte("nonsense"), 0o600)
	r, err = d.Verify(ctx)
	if err != nil || r.Entries != 38 || r.Damaged != 2 {
		t.Errorf("Verify of two damaged keys: %+v, %v", r, err)
	}
	if r, err = d.Verify(ctx); err != nil || r.Damaged != 0 || r.Entries != 38 {
		t.Errorf("Verify again: %+v, %v, want no damage", r, err)
	}
	n, err := d.Purge(ctx, "", func(e *Entry) bool { return e.Length < 10_000 })
	if err != nil || n != 5 {
		t.Errorf("Purge: %d, %v, want 5", n, err)
	}
	if err := d.EvictTo(ctx, 1<<20); err != nil {
		t.Errorf("EvictTo: %v", err)
	}
	if n := diskBytes(t, d.Dir()); n > 1<<20 || n < 1<<19 {
		t.Errorf("EvictTo(1 MiB) left %d bytes", n)
	}
	if len(mustEntries(t, d, testKey(38))) != 1 || len(mustEntries(t, d, testKey(6))) != 0 {
		t.Error("EvictTo took the wrong ones")
	}
	if err := d.Clear(ctx); err != nil {
		t.Errorf("Clear: %v", err)
	}
	if u, err := d.Usage(ctx); err != nil || u != (Usage{}) {
		t.Errorf("Usage after Clear: %+v, %v", u, err)
	}
	var page usagePage
	if d.readUsage(&page); page.sum() != 0 {
		t.Errorf("usage file after Clear says %d", page.sum())
	}
	mustPut(t, d, testKey(1), pattern(1, 100))
}

// TestVerifyBesideWriters verifies while everything is replaced, freshened,
// dropped and evicted. None of that counts as damage, and real damage is found.
func TestVerifyBesideWriters(t *testing.T) {
	t.Parallel()
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{MaxBytes: 4 << 20})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()
	for w := range 3 {
		mine := openTest(t, dir, DiskOptions{MaxBytes: 4 << 20}) // as another process
		wg.Go(func() {
			r := rand.New(rand.NewPCG(5, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				key := testKey(r.IntN(20))
				switch r.IntN(4) {
				case 0:
					mine.Update(t.Context(), key, func([]*Entry) []*Entry { return nil })
				case 1:
					mine.Update(t.Context(), key, func(es []*Entry) []*Entry {
						for i := range es {
							es[i] = es[i].Clone()
						}
						return es
					})
				default:
					putBody(mine, key, pattern(1, []int{200, 30_000, 90_000, 900_000}[r.IntN(4)]))
				}
			}
		})
	}
	entries := 0
	for range 25 {
		r, err := d.Verify(t.Context())
		if err != nil || r.Damaged != 0 {
			t.Fatalf("%+v, %v, want no damage", r, err)
		}
		entries += r.Entries
	}
	if entries == 0 {
		t.Error("nothing was verified")
	}
	end() // otherwise the entries below may be evicted before they are verified
	for i, damage := range []func(path string) error{
		func(path string) error { return os.Truncate(path, 5000) },
		os.Remove,
		func(path string) error {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b[80_000] ^= 4
			return os.WriteFile(path, b, 0o600)
		},
	} {
		key := testKey(100 + i)
		mustPut(t, d, key, pattern(1, 100_000))
		if err := damage(d.path(blobName(key, mustEntries(t, d, key)[0].Parts[0].Blob.ID))); err != nil {
			t.Fatal(err)
		}
		r, err := d.Verify(t.Context())
		if err != nil || r.Damaged != 1 {
			t.Errorf("damage %d: %+v, %v, want it found", i, r, err)
		}
		if len(mustEntries(t, d, key)) != 0 {
			t.Errorf("damage %d: the entry is still there", i)
		}
	}
}

func TestInSynctestBubble(t *testing.T) {
	dir := t.TempDir()
	outside := openTest(t, dir, DiskOptions{MaxBytes: 1 << 20})
	synctest.Test(t, func(t *testing.T) {
		inside, err := OpenDisk(dir, DiskOptions{MaxBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer inside.Close()
		for _, d := range []*Disk{inside, outside} {
			var wg sync.WaitGroup
			for w := range 3 {
				wg.Go(func() {
					for i := range 60 {
						if err := putBody(d, testKey(i), pattern(byte(w), 30_000)); err != nil {
							t.Error(err)
						}
						mustEntries(t, d, testKey(i))
						time.Sleep(time.Hour)
					}
				})
			}
			wg.Wait()
		}
		if n := diskBytes(t, dir); n > 1<<20*110/100 {
			t.Errorf("%d bytes kept, bound 1 MiB", n)
		}
	})
}

func TestManyDraftsTakeLittleMemory(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	var drafts []Draft
	for i := range 300 {
		draft, err := d.Create(t.Context(), testKey(i), -1)
		if err != nil {
			t.Fatal(err)
		}
		defer draft.Close()
		drafts = append(drafts, draft)
	}
	for range 10 {
		for _, draft := range drafts {
			if _, err := draft.Write(make([]byte, 20_000)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := d.staging.Load(); n > stagingMax+300*stagingMin {
		t.Errorf("300 drafts gather %d bytes in memory, want %d at most", n, stagingMax+300*stagingMin)
	}
	for _, draft := range drafts {
		if _, err := draft.Commit(); err != nil {
			t.Fatal(err)
		}
		draft.Close()
	}
	if n := d.staging.Load(); n != 0 {
		t.Errorf("%d bytes are counted as gathered after all drafts were closed", n)
	}
}

func TestUsesAreSeldomRecorded(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 100))
	d.touchAfter.Store(int64(time.Hour))
	var before, after fileStat
	statFile(d.path(key), &before)
	for range 100 {
		mustEntries(t, d, key)
	}
	if statFile(d.path(key), &after); before.ctime != after.ctime {
		t.Error("a use was recorded that need not be")
	}
	long := time.Now().Add(-2 * time.Hour)
	os.Chtimes(d.path(key), long, long)
	for range d.All(t.Context(), "") {
	}
	if statFile(d.path(key), &after); after.atime != long.UnixNano() {
		t.Error("listing counts as use")
	}
	mustEntries(t, d, key)
	if statFile(d.path(key), &after); time.Since(time.Unix(0, after.atime)) > time.Minute || after.mtime != long.UnixNano() {
		t.Error("a use is not recorded, or changes the time of change")
	}
}

func TestUnchanged(t *testing.T) {
	at := time.Date(2031, 5, 6, 7, 8, 9, 123_000_000, time.UTC).UnixNano()
	whole := time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC).UnixNano()
	base := fileStat{ino: 1, size: 10, mtime: at, regular: true}
	for _, tt := range []struct {
		name   string
		change func(*fileStat)
		mtime  int64
		after  time.Duration // from the change to the reading
		want   bool
	}{
		{"same, long since", func(*fileStat) {}, at, time.Second, true},
		{"same, but read in the tick of its change", func(*fileStat) {}, at, time.Millisecond, false},
		{"same, clock behind the file's", func(*fileStat) {}, at, -time.Hour, false},
		{"same, on a file system that counts seconds", func(*fileStat) {}, whole, time.Second, false},
		{"same, long since, on such a one", func(*fileStat) {}, whole, 4 * time.Second, true},
		{"longer", func(st *fileStat) { st.size++ }, at, time.Second, false},
		{"replaced", func(st *fileStat) { st.ino++ }, at, time.Second, false},
		{"changed later", func(st *fileStat) { st.mtime++ }, at, time.Second, false},
		{"no file any more", func(st *fileStat) { st.regular = false }, at, time.Second, false},
		{"used since", func(st *fileStat) { st.atime++; st.ctime++ }, at, time.Second, true},
	} {
		old := base
		old.mtime = tt.mtime
		now := old
		tt.change(&now)
		if got := now.unchanged(&old, tt.mtime+int64(tt.after)); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// FuzzKeyFile is best run with -fuzzminimizetime=1x. Otherwise package testing
// spends a minute on minimizing each new input, and reports 0 execs/sec
// meanwhile.
func FuzzKeyFile(f *testing.F) {
	key := testKey(1)
	e := testHead(key)
	id := blobID{1, 2, 3}
	e.Length = 5
	e.Trailer = http.Header{"X": {"y"}}
	e.Parts = []Part{{Length: 5, Blob: Blob{ID: id.String(), Size: 5, Inline: []byte("hello")}}}
	heads, err := new(encodeBuffers).encodeEntries(key, []*Entry{e, testHead(key)})
	if err != nil {
		f.Fatal(err)
	}
	whole := appendRecord(appendRecord(nil, recordBlob, id[:], []byte("hello")), recordEntries, heads)
	f.Add(whole, true)
	f.Add(whole[:len(whole)-3], false)
	f.Add(heads, true)
	f.Add(append(bytes.Clone(whole), whole[30:]...), false)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap { // so that the fuzzer gets past the checksums
			b = appendRecord(nil, recordEntries, b)
		}
		given := bytes.Clone(b)
		st := decodeKeyFile(key, b)
		if !bytes.Equal(b, given) {
			t.Fatal("decoding changes the bytes")
		}
		// Decoded entries can be encoded, and are the same then.
		for _, e := range st.entries {
			if err := checkEntry(key, e); err != nil {
				t.Fatal(err)
			}
		}
		again, err := new(encodeBuffers).encodeEntries(key, st.entries)
		if err != nil {
			return
		}
		blobs, _, err := inlineBlobs(st.entries)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for _, b := range blobs {
			out = appendRecord(out, recordBlob, b.id[:], b.data)
		}
		st2 := decodeKeyFile(key, appendRecord(out, recordEntries, again))
		if st2.damaged {
			t.Fatal("what was encoded does not decode")
		}
		if diff := cmp.Diff(st.entries, st2.entries, cmpopts.EquateEmpty(), cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzFooter(f *testing.F) {
	f.Add(appendFooter(nil, blobID{1}, 100_000, []uint32{1, 2}), int64(100_000))
	f.Add([]byte{}, int64(-5))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		table, ok := checkFooter(b, blobID{1}, size)
		if ok && int64(len(table)) != 4*chunks(size) {
			t.Fatalf("a table of %d bytes for %d", len(table), size)
		}
	})
}

func TestDecoderBoundsMemory(t *testing.T) {
	// A head that lies about how much follows.
	for _, lie := range []uint64{1 << 20, 1 << 40, 1<<63 - 1} {
		heads := append([]byte{entriesVersion}, make([]byte, keyLen/2)...)
		heads = append(heads, 1)
		e := []byte{flagHeader | flagSelecting, 0, 0, 0, 0}
		for lie := lie; ; lie >>= 7 {
			if lie < 0x80 {
				e = append(e, byte(lie))
				break
			}
			e = append(e, byte(lie)|0x80)
		}
		heads = append(heads, byte(len(e)))
		heads = append(heads, e...)
		b := appendRecord(nil, recordEntries, heads)
		allocs := testing.AllocsPerRun(1, func() {
			if st := decodeKeyFile(strings.Repeat("0", 64), b); len(st.entries) > 0 || !st.damaged {
				t.Errorf("lie of %d: accepted", lie)
			}
		})
		if allocs > 50 {
			t.Errorf("lie of %d: %v allocations", lie, allocs)
		}
	}
}
