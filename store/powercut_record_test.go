package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// This file records what a program does with a cache, step by step, for
// TestPowerCut.

// fileVersion is what a file was at some time.
type fileVersion struct {
	info    os.FileInfo
	content []byte
	sum     uint64 // of the content
}

// recorder records what a store in a directory does.
type recorder struct {
	t     *testing.T
	dir   string
	steps []recorded
	held  map[string]string // what the keys hold, as text
	seed  uint64
	hash  maphash.Seed
}

// recorded is the state after one step.
type recorded struct {
	what  string
	files map[string]fileVersion // by path within the directory
	held  map[string]string      // by key
}

// step records what the files are now.
func (r *recorder) step(what string) {
	r.t.Helper()
	rec := recorded{what: what, files: make(map[string]fileVersion), held: maps.Clone(r.held)}
	err := filepath.WalkDir(r.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		rel, _ := filepath.Rel(r.dir, path)
		rec.files[rel] = fileVersion{info, content, maphash.Bytes(r.hash, content)}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.steps = append(r.steps, rec)
}

// content returns the bytes of a blob, which follow from where and when it was
// stored.
func content(seed uint64, size int) []byte {
	var from [32]byte
	binary.LittleEndian.PutUint64(from[:], seed)
	binary.LittleEndian.PutUint64(from[8:], uint64(size))
	b := make([]byte, size)
	rand.NewChaCha8(from).Read(b) // in large pieces, which the race detector does not look at one by one
	return b
}

// put stores a response as the only one of its variant, recording every step.
func (r *recorder) put(d *store.Disk, key, variant string, size int) {
	r.t.Helper()
	ctx := r.t.Context()
	name := fmt.Sprintf("put %s %s, %d bytes", key[:2], variant, size)
	r.seed++
	body := content(r.seed, size)
	draft, err := d.Create(ctx, key, int64(size))
	if err != nil {
		r.t.Fatal(err)
	}
	defer draft.Close()
	r.step(name + ": created")
	for half := range slices.Chunk(body, max(1, (size+1)/2)) {
		if _, err := draft.Write(half); err != nil {
			r.t.Fatal(err)
		}
		r.step(name + ": written")
	}
	blob, err := draft.Commit()
	if err != nil {
		r.t.Fatal(err)
	}
	r.step(name + ": committed")
	now := time.Now().UTC().Round(0)
	e := &store.Entry{
		Key: key, URL: "https://example.org/", Method: "GET", Status: 200, Proto: "HTTP/1.1",
		Header:      http.Header{"Seed": {fmt.Sprint(r.seed)}, "Cache-Control": {"max-age=60"}},
		Selecting:   map[string]string{"Accept": variant},
		RequestTime: now, ResponseTime: now, Length: int64(size),
	}
	if size > 0 {
		e.Parts = []store.Part{{Length: int64(size), Blob: blob}}
	}
	r.update(d, name, key, func(entries []*store.Entry) []*store.Entry {
		return append([]*store.Entry{e}, slices.DeleteFunc(entries, func(old *store.Entry) bool {
			return old.Selecting["Accept"] == variant
		})...)
	})
}

// freshen does what a 304 does.
func (r *recorder) freshen(d *store.Disk, key string) {
	r.update(d, "freshen "+key[:2], key, func(entries []*store.Entry) []*store.Entry {
		for i, e := range entries {
			e = e.Clone()
			e.ResponseTime = e.ResponseTime.Add(time.Second)
			e.Header.Set("Freshened", e.ResponseTime.Format(time.RFC3339Nano))
			entries[i] = e
		}
		return entries
	})
}

func (r *recorder) update(d *store.Disk, name, key string, change func([]*store.Entry) []*store.Entry) {
	r.t.Helper()
	if err := d.Update(r.t.Context(), key, change); err != nil {
		r.t.Fatal(err)
	}
	r.note(d, key)
	r.step(name)
}

// note takes down what a key holds.
func (r *recorder) note(d *store.Disk, key string) {
	entries, err := d.Entries(r.t.Context(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	r.held[key] = text(entries)
}

// powerCutKeys are in three shards, two of one URL.
var powerCutKeys = []string{
	strings.Repeat("a1", 32), strings.Repeat("a1", 16) + strings.Repeat("b2", 16),
	strings.Repeat("c3", 32), strings.Repeat("d4", 32),
}

const powerCutBound = 8 << 20

// record runs the script.
func record(t *testing.T) *recorder {
	r := &recorder{t: t, dir: filepath.Join(store.ScratchDir(t), "cache"), held: make(map[string]string), hash: maphash.MakeSeed()}
	open := func() *store.Disk {
		d, err := store.OpenDisk(r.dir, store.DiskOptions{MaxBytes: powerCutBound})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	d := open()
	r.step("opened")
	if _, err := d.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.step("secret made")
	a, b, c, e := powerCutKeys[0], powerCutKeys[1], powerCutKeys[2], powerCutKeys[3]
	r.put(d, a, "text", 300)
	r.put(d, b, "text", 20<<10)
	r.put(d, c, "text", 200<<10)
	r.freshen(d, a)
	r.freshen(d, c)
	r.put(d, a, "image", 5000)
	r.put(d, c, "image", 600<<10)
	r.put(d, a, "text", 400)      // in the place of another, inline
	r.put(d, c, "text", 64<<10+1) // in files
	r.put(d, e, "text", 0)
	r.put(d, b, "text", 100) // inline after a file
	r.put(d, b, "text", 30<<10)
	for range 4 {
		r.put(d, a, "text", 15<<10) // until the key's file is rewritten
	}
	r.update(d, "invalidate", a, func(entries []*store.Entry) []*store.Entry {
		for i, e := range entries {
			entries[i] = e.Clone()
			entries[i].InvalidatedAt = time.Now().UTC().Round(0)
		}
		return entries
	})
	r.freshen(d, a)
	r.update(d, "drop a variant", c, func(entries []*store.Entry) []*store.Entry { return entries[:1] })
	r.update(d, "purge", b, func([]*store.Entry) []*store.Entry { return nil })
	d = open() // as another process would
	r.put(d, b, "image", 70<<10)
	r.freshen(d, b)
	if err := d.EvictTo(t.Context(), 128<<10); err != nil {
		t.Fatal(err)
	}
	for _, key := range powerCutKeys {
		r.note(d, key)
	}
	r.step("evicted")
	r.put(d, c, "text", 90<<10)
	r.put(d, a, "text", 10)
	return r
}

// store stores a response with the content of the next seed.
func (r *recorder) store(d *store.Disk, key string, size int) error {
	ctx := context.Background()
	r.seed++
	draft, err := d.Create(ctx, key, int64(size))
	if err != nil {
		return err
	}
	defer draft.Close()
	if _, err := draft.Write(content(r.seed, size)); err != nil {
		return err
	}
	blob, err := draft.Commit()
	if err != nil {
		return err
	}
	e := &store.Entry{
		Key: key, URL: "https://example.org/", Method: "GET", Status: 200, Proto: "HTTP/1.1",
		Header: http.Header{"Seed": {fmt.Sprint(r.seed)}}, RequestTime: time.Now(), ResponseTime: time.Now(),
		Length: int64(size), Parts: []store.Part{{Length: int64(size), Blob: blob}},
	}
	return d.Update(ctx, key, func(entries []*store.Entry) []*store.Entry {
		return append([]*store.Entry{e}, entries...)
	})
}

// text returns all that entries say.
func text(entries []*store.Entry) string {
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%+v\n", *e)
	}
	return b.String()
}
