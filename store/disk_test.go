package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

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

func TestUsesAreSeldomRecorded(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 100))
	seldomUsed(d)
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
	if statFile(d.path(key), &after); after.atime != long.UnixNano() && runtime.GOOS != "windows" { // there, reading may count
		t.Error("listing counts as use")
	}
	time.Sleep(lookEvery) // until the new times are seen
	mustEntries(t, d, key)
	if statFile(d.path(key), &after); time.Since(time.Unix(0, after.atime)) > time.Minute || after.mtime != long.UnixNano() {
		t.Error("a use is not recorded, or changes the time of change")
	}
}

// seldomUsed has the uses of a cache recorded once an hour until it is written
// to.
func seldomUsed(d *Disk) {
	d.evicted.Store(0)
	d.made.Store(0)
}

// TestUsesOfAYoungCache fills a cache at once, and then only reads. The older
// it gets, the less often is a use recorded.
func TestUsesOfAYoungCache(t *testing.T) {
	tests := []struct {
		name    string
		age     time.Duration // of the cache
		evicted time.Duration // for how long the key that was evicted last had not been used; 0: none was
		want    time.Duration
	}{
		{"new", 0, 0, time.Millisecond},
		{"from a time to come", -8 * time.Hour, 0, time.Millisecond},
		{"young", 8 * time.Second, 0, time.Second},
		{"older", 8 * time.Minute, 0, time.Minute},
		{"old", 8 * 24 * time.Hour, 0, time.Hour},
		{"that evicts", 8 * time.Hour, 8 * time.Second, time.Second},
		{"that evicted when the clock was wrong", 8 * time.Second, 8 * time.Hour, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := openTest(t, t.TempDir(), DiskOptions{})
			mustPut(t, d, testKey(1), pattern(1, 100))
			d.setResidence(tt.evicted)
			var page usagePage
			if err := d.readUsage(&page); err != nil {
				t.Fatal(err)
			}
			now := time.Unix(0, d.made.Load()).Add(tt.age)
			if got := time.Duration(d.touchAge(now.UnixNano())); got != tt.want {
				t.Errorf("uses are recorded after %v, want %v", got, tt.want)
			}
		})
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
