package store

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

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

// TestDraftSweptWhileClosing has a draft taken for left behind just when it is
// given up.
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
	// On Windows, reading may count as use, and Verify has read all of them.
	if (len(mustEntries(t, d, testKey(38))) != 1 || len(mustEntries(t, d, testKey(6))) != 0) && runtime.GOOS != "windows" {
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
		var r Report
		err := patiently(func() (err error) {
			r, err = d.Verify(t.Context())
			return err
		})
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

// TestEvictToAfterPowerCut has the usage file say that there is less than there
// is.
func TestEvictToAfterPowerCut(t *testing.T) {
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{})
	for i := range 40 {
		mustPut(t, d, testKey(i), pattern(1, 7000))
	}
	for shard := range shardCount {
		if _, err := d.scan(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
	}
	understate(t, d)
	for _, most := range []int64{100_000, 0} {
		if err := d.EvictTo(t.Context(), most); err != nil {
			t.Fatal(err)
		}
		if n := diskBytes(t, dir); n > most || most > 0 && n < most/2 {
			t.Errorf("EvictTo(%d) leaves %d bytes", most, n)
		}
	}
}

// understate has the usage file say that d is empty, as it may after a power
// cut.
func understate(t *testing.T, d *Disk) {
	t.Helper()
	f, err := d.usageOpen()
	if err != nil {
		t.Fatal(err)
	}
	for shard := range shardCount {
		var b [usageSlot]byte
		slot{listed: uint32(time.Now().Unix() / 60)}.encode(b[:])
		if _, err := f.WriteAt(b[:], (&locked{d: d, shard: shard}).slotAt()); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.Bytes(); n != 0 {
		t.Fatalf("the cache is said to have %d bytes", n)
	}
}

// endingContext ends when it was asked for its error a number of times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestEvictToEnds: EvictTo does not say that it is done if its context ends
// while it looks at the files.
func TestEvictToEnds(t *testing.T) {
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{})
	mustPut(t, d, testKey(1), pattern(1, 7000))
	for shard := range shardCount {
		if _, err := d.scan(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 20 {
		understate(t, d)
		if err := d.EvictTo(&endingContext{t.Context(), n}, 0); err == nil && diskBytes(t, dir) > 0 {
			t.Errorf("with %d questions about its context, EvictTo said that it evicted all", n)
		}
	}
}
