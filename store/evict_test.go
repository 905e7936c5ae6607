package store

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// TestEvictionKeepsCommittedBodies evicts a key while a new body of it is
// committed and not yet named by an entry. The Update that names it succeeds.
func TestEvictionKeepsCommittedBodies(t *testing.T) {
	t.Parallel()
	d := openTest(t, scratchDir(t), DiskOptions{MaxBytes: 4 << 20})
	key, body := testKey(1), pattern(2, 100_000)
	mustPut(t, d, key, pattern(1, 100_000))
	draft, err := d.Create(t.Context(), key, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	if _, err := draft.Write(body); err != nil {
		t.Fatal(err)
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.EvictTo(t.Context(), 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("eviction of everything: %v, want that a body stays", err)
	}
	if es := mustEntries(t, d, key); len(es) != 0 || d.Evictions() != 1 {
		t.Errorf("%d entries are left, %d keys were evicted", len(es), d.Evictions())
	}
	e := testHead(key)
	e.Length, e.Parts = blob.Size, []Part{{Length: blob.Size, Blob: blob}}
	if err := d.Update(t.Context(), key, func([]*Entry) []*Entry { return []*Entry{e} }); err != nil {
		t.Fatal(err)
	}
	if got, err := readBody(d, mustEntries(t, d, key)[0]); err != nil || string(got) != string(body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	u, err := d.Usage(t.Context())
	if err != nil || u.Bytes != diskBytes(t, d.Dir()) || u.Bodies != 1 {
		t.Errorf("%+v, %v; the files take %d bytes", u, err, diskBytes(t, d.Dir()))
	}
}

// TestUnknownSizeKeepsLargeBodies stores large bodies after the cache lost its
// usage file. Each body that is evicted makes room for one, although drafts
// grow in steps.
func TestUnknownSizeKeepsLargeBodies(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{MaxBytes: limit})
	body := make([]byte, limit/bodyShare-1000)
	for i := range 5 {
		mustPut(t, d, testKey(i), body)
	}
	d.Close() // Windows removes no open file
	if err := os.Remove(filepath.Join(dir, version, "usage")); err != nil {
		t.Fatal(err)
	}
	d = openTest(t, dir, DiskOptions{MaxBytes: limit})
	for i := range 5 {
		mustPut(t, d, testKey(10+i), body)
		if n := diskBytes(t, dir); n > limit*110/100 || n < limit*70/100 {
			t.Fatalf("after %d stores: %.1f %% of the limit", i+1, 100*float64(n)/limit)
		}
	}
}

// TestUnknownSizeLostAgain lets one caller free a large body for a small one.
// Before it uses the rest, another one learns the size, fills the cache, and
// the size is lost again.
func TestUnknownSizeLostAgain(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{MaxBytes: limit})
	other := openTest(t, dir, DiskOptions{MaxBytes: limit})
	lose := func() {
		t.Helper()
		if err := os.Truncate(filepath.Join(dir, version, "usage"), 0); err != nil {
			t.Fatal(err)
		}
	}
	body := make([]byte, limit/bodyShare-1000)
	fill := func(first int) {
		for i := range 5 {
			mustPut(t, other, testKey(first+i), body)
		}
	}
	fill(0)
	lose()
	mustPut(t, d, testKey(10), make([]byte, 3000))
	if n := diskBytes(t, dir); n > limit*80/100 {
		t.Fatalf("%.1f %% of the limit are left: no large body was evicted", 100*float64(n)/limit)
	}
	for shard := range shardCount {
		if _, err := other.scan(t.Context(), shard); err != nil {
			t.Fatal(err)
		}
	}
	fill(20)
	lose()
	before, need := diskBytes(t, dir), d.evictor.spare
	paid, err := d.evictUnknown(t.Context(), need)
	if err != nil {
		t.Fatal(err)
	}
	if n := diskBytes(t, dir); paid != math.MaxInt64 && n > before-need {
		t.Errorf("%d bytes may be added to %d, %d bytes were freed for them", paid, before, before-n)
	}
}
