package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
)

// A power cut loses or tears all data that is not yet on the device. The store
// flushes nothing, so that can be any data. A file may be missing, or be in any
// earlier state under any earlier name. It may be cut off, or have pages of
// zeros or of old data. The test records a script of operations, with the files
// after every step. Then it checks the possible states after each step.

// damage is what a power cut may do to a file.
type damage struct {
	name  string
	apply func(v fileVersion, r *rand.Rand, device []byte) (content []byte, there bool)
}

const page = 4 << 10

var damages = []damage{
	{"whole", func(v fileVersion, _ *rand.Rand, _ []byte) ([]byte, bool) { return v.content, true }},
	{"missing", func(fileVersion, *rand.Rand, []byte) ([]byte, bool) { return nil, false }},
	{"empty", func(fileVersion, *rand.Rand, []byte) ([]byte, bool) { return nil, true }},
	{"cut", func(v fileVersion, r *rand.Rand, _ []byte) ([]byte, bool) {
		return v.content[:r.IntN(len(v.content)+1)], true
	}},
	{"cut by a page", func(v fileVersion, r *rand.Rand, _ []byte) ([]byte, bool) {
		return v.content[:min(len(v.content), page*r.IntN(len(v.content)/page+1))], true
	}},
	{"zeros at the end", func(v fileVersion, r *rand.Rand, _ []byte) ([]byte, bool) {
		b := slices.Clone(v.content)
		clear(b[page*r.IntN((len(b)+page-1)/page+1)%(len(b)+1):])
		return b, true
	}},
	{"zeros all over", func(v fileVersion, _ *rand.Rand, _ []byte) ([]byte, bool) {
		return make([]byte, len(v.content)), true
	}},
	{"pages of zeros", func(v fileVersion, r *rand.Rand, _ []byte) ([]byte, bool) {
		b := slices.Clone(v.content)
		for at := 0; at < len(b); at += page {
			if r.IntN(2) == 0 {
				clear(b[at:min(len(b), at+page)])
			}
		}
		return b, true
	}},
	{"zeros beyond", func(v fileVersion, r *rand.Rand, _ []byte) ([]byte, bool) {
		return append(slices.Clone(v.content), make([]byte, r.IntN(2*page))...), true
	}},
	{"pages of others", func(v fileVersion, r *rand.Rand, device []byte) ([]byte, bool) {
		b := slices.Clone(v.content)
		for at := 0; at < len(b); at += page {
			if r.IntN(3) == 0 {
				copy(b[at:min(len(b), at+page)], device)
			}
		}
		return b, true
	}},
}

// candidates returns the possible contents of a file after a power cut: all
// earlier contents under its name, and all earlier contents of the same file
// under other names.
func candidates(steps []recorded, path string) (versions []fileVersion) {
	for _, s := range steps {
		if v, ok := s.files[path]; ok && !slices.ContainsFunc(versions, func(o fileVersion) bool { return o.sum == v.sum }) {
			versions = append(versions, v)
		}
	}
	last := versions[len(versions)-1]
	for _, s := range steps {
		for other, v := range s.files {
			if other != path && v.sum != last.sum && os.SameFile(v.info, last.info) {
				versions = append(versions, v)
			}
		}
	}
	return versions
}

// world is the state of the files when the power is back.
type world struct {
	files map[string][]byte
	story []string
}

func (w *world) add(path string, v fileVersion, d damage, r *rand.Rand, device []byte) {
	content, there := d.apply(v, r, device)
	if there {
		w.files[path] = content
	}
	if d.name != "whole" {
		w.story = append(w.story, path+": "+d.name)
	}
}

// TestPowerCut cuts the power after every step of a script of operations.
// Afterwards the store returns nothing wrong, and can be used.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	r := record(t)
	random, cuts, found, lost := testtier.Pick(1, 4), 0, 0, 0
	seed := rand.Uint64()
	check := func(i int, w world) {
		cuts++
		n := r.check(t, i, cuts, w)
		if found += n; n == 0 && cuts%4 != 1 {
			lost++
		}
		if t.Failed() {
			t.Fatalf("seed %d, after step %d (%s), with %s", seed, i, r.steps[i].what, strings.Join(w.story, ", "))
		}
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	device := func(steps []recorded) []byte { // a page that was something else's before
		s := steps[rnd.IntN(len(steps))]
		for _, v := range s.files {
			if len(v.content) > 0 {
				at := page * rnd.IntN((len(v.content)+page-1)/page)
				return v.content[at:min(len(v.content), at+page)]
			}
		}
		return nil
	}
	for i, s := range r.steps {
		// The short tier leaves out half of the steps, others each time.
		if !testtier.Long() && rnd.IntN(2) == 0 {
			continue
		}
		// Each of the files that this step changed, alone, in each way.
		for path, v := range s.files {
			if i > 0 && r.steps[i-1].files[path].sum == v.sum {
				continue
			}
			for n, d := range damages {
				// Each step changes the usage file, so a quarter of its damages is enough.
				if filepath.Base(path) == "usage" && n%4 != i%4 || !testtier.Long() && n != i%len(damages) {
					continue
				}
				w := world{files: make(map[string][]byte)}
				for other, v := range s.files {
					if other != path {
						w.files[other] = v.content
					}
				}
				w.add(path, v, d, rnd, device(r.steps[:i+1]))
				check(i, w)
			}
		}
		// Any subset of everything that was ever written.
		for range random {
			w := world{files: make(map[string][]byte)}
			paths := make(map[string]bool)
			for _, before := range r.steps[:i+1] {
				for path := range before.files {
					paths[path] = true
				}
			}
			calm := rnd.Float64() // share of files of which nothing is lost
			for _, path := range slices.Sorted(maps.Keys(paths)) {
				now, there := s.files[path]
				switch {
				case rnd.Float64() < calm:
					if there {
						w.files[path] = now.content
					}
				case !there && rnd.IntN(2) == 0: // its removal is not lost
				default:
					versions := candidates(r.steps[:i+1], path)
					n := rnd.IntN(len(versions))
					w.story = append(w.story, fmt.Sprintf("%s: version %d of %d", path, n+1, len(versions)))
					w.add(path, versions[n], damages[rnd.IntN(len(damages))], rnd, device(r.steps[:i+1]))
				}
			}
			check(i, w)
		}
	}
	t.Logf("%d power cuts after %d steps: %d bodies were still whole, nothing at all was left after %d", cuts, len(r.steps), found, lost)
	if found == 0 || lost == 0 {
		t.Error("the cuts lose all, or nothing: they show nothing")
	}
}

// check makes the files those of w and uses the cache. It returns how many
// whole bodies it found. Every eighth time it is thorough: opening a file may
// take a millisecond.
func (r *recorder) check(t *testing.T, last, turn int, w world) (whole int) {
	t.Helper()
	thorough := turn%8 == 0
	dir := filepath.Join(store.ScratchDir(t), "cut")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for path, content := range w.files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	d, err := store.OpenDisk(dir, store.DiskOptions{MaxBytes: powerCutBound})
	if err != nil {
		t.Errorf("open: %v", err)
		return 0
	}
	defer d.Close()

	if secret, err := d.Secret(ctx); err != nil || len(secret) < 32 || bytes.Equal(secret, make([]byte, len(secret))) {
		t.Errorf("secret of %d bytes, %v", len(secret), err)
	}
	for _, key := range powerCutKeys {
		if turn%4 == 1 { // nobody looks before something else is stored
			break
		}
		entries, err := d.Entries(ctx, key)
		if err != nil {
			t.Errorf("entries of %s: %v", key[:2], err)
			continue
		}
		held := text(entries)
		if len(entries) > 0 && !slices.ContainsFunc(r.steps[:last+1], func(s recorded) bool { return s.held[key] == held }) {
			t.Errorf("%s holds what it never held: (-last, +now)\n%s", key[:2], cmp.Diff(r.steps[last].held[key], held))
		}
		for _, e := range entries {
			whole += r.checkBody(t, d, e)
		}
		// Damaged entries are removed by those who find them.
		again, err := d.Entries(ctx, key)
		if err != nil || len(again) > len(entries) {
			t.Errorf("entries of %s, once more: %d after %d, %v", key[:2], len(again), len(entries), err)
		}
		if slices.ContainsFunc(again, func(e *store.Entry) bool { return r.checkBody(t, d, e) == 0 }) {
			t.Errorf("a damaged entry of %s was kept", key[:2])
		}
	}

	// It can write, in any state of the files.
	for i, key := range powerCutKeys {
		if !thorough && i != turn%len(powerCutKeys) {
			continue
		}
		fresh := &recorder{t: t, seed: uint64(1000 * (i + 1)), held: make(map[string]string)}
		for _, size := range []int{100, 80 << 10} {
			if err := fresh.store(d, key, size); err != nil {
				t.Errorf("storing %d bytes under %s afterwards: %v", size, key[:2], err)
				continue
			}
			entries, err := d.Entries(ctx, key)
			if err != nil || len(entries) == 0 || entries[0].Header.Get("Seed") != fmt.Sprint(fresh.seed) {
				t.Errorf("%s has not kept what was stored afterwards: %d entries, %v", key[:2], len(entries), err)
				continue
			}
			if fresh.checkBody(t, d, entries[0]) == 0 {
				t.Errorf("the body stored afterwards under %s can't be read", key[:2])
			}
		}
	}
	if !thorough {
		return whole
	}
	if _, err := d.Verify(ctx); err != nil { // the cut may have left other files
		t.Errorf("verify: %v", err)
	}
	if report, err := d.Verify(ctx); err != nil || report.Damaged > 0 || report.Entries < len(powerCutKeys) {
		t.Errorf("verify, once more: %+v, %v", report, err)
	}
	ageBodies(t, d.Dir()) // young ones that no entry names stay
	if err := d.EvictTo(ctx, 0); err != nil {
		t.Errorf("evict: %v", err)
	}
	for e, err := range d.All(ctx, "") {
		t.Errorf("after eviction of all there is %v, %v", e, err)
	}
	return whole
}

// ageBodies makes the files of large bodies two minutes old.
func ageBodies(t *testing.T, dir string) {
	bodies, err := filepath.Glob(filepath.Join(dir, "v1", "data", "*", "*-*"))
	if err != nil {
		t.Error(err)
	}
	at := time.Now().Add(-2 * time.Minute)
	for _, path := range bodies {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Error(err)
		}
	}
}

// checkBody reads a body as callers do and returns 1 if it was whole, 0 if it
// said that it was not.
func (r *recorder) checkBody(t *testing.T, d *store.Disk, e *store.Entry) int {
	t.Helper()
	var seed uint64
	if _, err := fmt.Sscan(e.Header.Get("Seed"), &seed); err != nil {
		t.Errorf("%s has the header %v", e.Key[:2], e.Header)
		return 0
	}
	want := content(seed, int(e.Length))
	var got []byte
	for _, p := range e.Parts {
		body, err := d.Open(context.Background(), e.Key, p.Blob)
		if errors.Is(err, store.ErrDamaged) {
			return 0
		}
		if err != nil {
			t.Errorf("open the body of %s: %v", e.Key[:2], err)
			return 0
		}
		b, err := io.ReadAll(io.NewSectionReader(body, p.Skip, p.Length))
		body.Close()
		got = append(got, b...)
		switch {
		case !bytes.HasPrefix(want, got):
			t.Errorf("%s gives wrong bytes, of %d", e.Key[:2], e.Length)
			return 0
		case errors.Is(err, store.ErrDamaged):
			return 0
		case err != nil:
			t.Errorf("read the body of %s: %v", e.Key[:2], err)
			return 0
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s ends cleanly after %d of %d bytes", e.Key[:2], len(got), len(want))
		return 0
	}
	return 1
}
