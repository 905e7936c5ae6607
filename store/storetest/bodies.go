package storetest

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cachetrip/cachetrip/store"
)

func testBodies(t testing.TB, s store.Store) {
	for i, size := range []int{0, 1, 100, 1023, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 131072, 262144, 300_001, 1 << 20, 5<<20 + 3} {
		for j, announced := range []int64{int64(size), -1} {
			key := Key(i, j)
			body := content(uint64(i), size)
			e := whole(entry(key, i), stage(t, s, key, body, announced))
			update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
			got := entries(t, s, key)
			if len(got) != 1 || !got[0].Complete() {
				t.Fatalf("%d bytes: entries %v, want a complete one", size, got)
			}
			blob := blobIn(t, got[0])
			if blob.Inline != nil && !bytes.Equal(blob.Inline, body) {
				t.Errorf("%d bytes: kept with the entry, but wrong", size)
			}
			if !bytes.Equal(read(t, s, key, blob), body) {
				t.Errorf("%d bytes: read wrong bytes", size)
			}
		}
	}
}

func testRelease(t testing.TB, s store.Store) {
	for _, size := range []int{10, 20_000, 70_000, 3 << 20} {
		key := Key(size, 1)
		want := content(uint64(size), size)
		put(t, s, entry(key, 1), want)
		body, err := s.Open(t.Context(), key, blobOf(t, s, key))
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		defer body.Close()
		half := make([]byte, size/2)
		if _, err := body.ReadAt(half, 0); err != nil {
			t.Errorf("%d bytes: reading the first half: %v", size, err)
		}
		update(t, s, key, func([]*store.Entry) []*store.Entry { return nil })
		rest, err := io.ReadAll(io.NewSectionReader(body, int64(size/2), int64(size)))
		if err != nil || !bytes.Equal(append(half, rest...), want) {
			t.Errorf("%d bytes: released while open, then read wrong bytes or %v", size, err)
		}
	}
}

func testReleased(t testing.TB, s store.Store) {
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 200_000))
	blob := blobOf(t, s, key)
	blob.Inline = nil
	put(t, s, entry(key, 2), content(2, 200_000))
	update(t, s, key, func(current []*store.Entry) []*store.Entry { return current[:1] })
	if body, err := s.Open(t.Context(), key, blob); !errors.Is(err, store.ErrDamaged) {
		if err == nil {
			body.Close()
		}
		t.Errorf("Open of a released blob: %v, want ErrDamaged", err)
	}
	got := entries(t, s, key)
	if len(got) != 1 || !bytes.Equal(read(t, s, key, blobIn(t, got[0])), content(2, 200_000)) {
		t.Error("the other entry suffered")
	}
}

func testSharedBlob(t testing.TB, s store.Store) {
	for _, size := range []int{100, 100_000} {
		key := Key(size, 1)
		body := content(1, size)
		blob := stage(t, s, key, body, -1)
		a, b := whole(entry(key, 1), blob), whole(entry(key, 2), blob)
		update(t, s, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{a, b} })
		for left := 1; left >= 0; left-- {
			for _, e := range entries(t, s, key) {
				if !bytes.Equal(read(t, s, key, blobIn(t, e)), body) {
					t.Errorf("%d bytes: wrong bytes", size)
				}
			}
			update(t, s, key, func(current []*store.Entry) []*store.Entry { return current[:left] })
			if got := entries(t, s, key); len(got) != left {
				t.Errorf("%d entries left, want %d", len(got), left)
			}
		}
	}
}

func testMissingBlob(t testing.TB, s store.Store) {
	for _, id := range []string{"0123456789abcdef0123456789abcdef", "x"} {
		if _, err := s.Open(t.Context(), Key(1, 1), store.Blob{ID: id, Size: 5}); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Open of a blob that never was: %v, want ErrDamaged", err)
		}
	}
}

func testReaderAt(t testing.TB, s store.Store) {
	for i, size := range []int{1, 5000, 40_000, 65_536, 200_000, 1 << 20} {
		key := Key(i, 1)
		want := content(uint64(i), size)
		put(t, s, entry(key, 1), want)
		body, err := s.Open(t.Context(), key, blobOf(t, s, key))
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		defer body.Close()
		r := rand.New(rand.NewPCG(1, uint64(size)))
		var wg sync.WaitGroup
		for range 2 {
			var offs, lens []int
			for range 20 {
				off := r.IntN(size)
				offs, lens = append(offs, off), append(lens, r.IntN(2*(size-off)+1))
			}
			wg.Go(func() {
				for i, off := range offs {
					p := make([]byte, lens[i])
					n, err := body.ReadAt(p, int64(off))
					left := min(len(p), size-off)
					if n != left || !bytes.Equal(p[:n], want[off:off+n]) || (n < len(p)) != (err == io.EOF) || err != nil && err != io.EOF {
						t.Errorf("ReadAt of %d at %d of %d: %d, %v", len(p), off, size, n, err)
					}
				}
			})
		}
		wg.Wait()
		for _, off := range []int64{int64(size), int64(size) + 1, 1 << 50} {
			if n, err := body.ReadAt(make([]byte, 1), off); n != 0 || err != io.EOF {
				t.Errorf("ReadAt at %d of %d: %d, %v, want 0, io.EOF", off, size, n, err)
			}
		}
		if _, err := body.ReadAt(make([]byte, 1), -1); err == nil || err == io.EOF {
			t.Errorf("ReadAt at -1: %v, want an error", err)
		}
	}
}

// rangeWriter is what a body may be besides.
type rangeWriter interface {
	WriteRangeTo(w io.Writer, offset, length int64) (int64, error)
}

// testWriteRange concerns stores whose bodies have the optional method
// WriteRangeTo.
func testWriteRange(t testing.TB, s store.Store) {
	for i, size := range []int{1, 5000, 40_000, 65_536, 200_000, 1<<20 + 1} {
		key := Key(i, 1)
		want := content(uint64(i), size)
		put(t, s, entry(key, 1), want)
		for range 2 { // once before it was read, and once after
			body, err := s.Open(t.Context(), key, blobOf(t, s, key))
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			defer body.Close()
			w, ok := body.(rangeWriter)
			if !ok {
				continue
			}
			for _, r := range [][2]int{{0, size}, {0, 0}, {size, 0}, {size / 2, size - size/2}, {size / 3, size / 3}} {
				var got bytes.Buffer
				n, err := w.WriteRangeTo(&got, int64(r[0]), int64(r[1]))
				if n != int64(r[1]) || err != nil || !bytes.Equal(got.Bytes(), want[r[0]:r[0]+r[1]]) {
					t.Errorf("WriteRangeTo of %d bytes at %d of %d: %d, %v, or wrong bytes", r[1], r[0], size, n, err)
				}
			}
			for _, r := range [][2]int64{{-1, 1}, {0, int64(size) + 1}, {int64(size) + 1, 0}, {0, -1}} {
				if n, err := w.WriteRangeTo(io.Discard, r[0], r[1]); n != 0 || err == nil {
					t.Errorf("WriteRangeTo of %d bytes at %d of %d: %d, %v, want an error", r[1], r[0], size, n, err)
				}
			}
			full := errors.New("full")
			if n, err := w.WriteRangeTo(failing{full}, 0, int64(size)); n != 0 || !errors.Is(err, full) {
				t.Errorf("WriteRangeTo a writer that fails: %d, %v, want its error", n, err)
			}
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// testNamedMissing names a blob that was released.
func testNamedMissing(t testing.TB, s store.Store) {
	for _, size := range []int{100_000, 2 << 20} {
		key := Key(size, 1)
		want := content(1, size)
		putApart(t, s, entry(key, 1), want)
		blob := blobOf(t, s, key)
		if blob.Inline != nil {
			continue // the bytes come with the name
		}
		update(t, s, key, func([]*store.Entry) []*store.Entry { return nil })
		e := whole(entry(key, 2), blob)
		err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
		if err == nil {
			// The store need not look, and may still have the bytes. Otherwise Open says
			// that the blob is missing.
			if err := tryRead(t, s, key, blob, want); err != nil && !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%d bytes: reading a blob that an entry names, but that was released: %v, want ErrDamaged or the bytes", size, err)
			}
		}
		update(t, s, key, func([]*store.Entry) []*store.Entry { return nil })
		put(t, s, entry(key, 3), want)
		if !bytes.Equal(read(t, s, key, blobOf(t, s, key)), want) {
			t.Errorf("%d bytes: stored again, then read wrong bytes", size)
		}
	}
}
