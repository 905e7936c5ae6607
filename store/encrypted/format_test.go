package encrypted

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/golden"
)

// frozen is what an inner store holds. As a store it can only be read.
type frozen struct {
	store.Store
	Heads  map[string][]*store.Entry // by key
	Bodies map[string][]byte         // by the ID of the blob
	Inner  []byte                    // the secret of the inner store
	Outer  []byte                    // the secret that was derived from it
}

func (f *frozen) Entries(_ context.Context, key string) ([]*store.Entry, error) {
	return f.Heads[key], nil
}

func (f *frozen) Secret(context.Context) ([]byte, error) { return f.Inner, nil }

func (f *frozen) Open(_ context.Context, _ string, blob store.Blob) (store.Body, error) {
	return frozenBody{bytes.NewReader(f.Bodies[blob.ID])}, nil
}

type frozenBody struct{ io.ReaderAt }

func (frozenBody) Close() error { return nil }

var goldenKey = []byte("0123456789abcdef0123456789abcdef")

// freeze returns what golden.Fill makes an encrypted store keep in its inner
// store.
func freeze(t *testing.T) *frozen {
	disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	s, err := New(disk, goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	golden.Fill(t, s)
	f := &frozen{Heads: make(map[string][]*store.Entry), Bodies: make(map[string][]byte)}
	if f.Inner, err = disk.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.Outer, err = s.Secret(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range golden.Keys {
		if f.Heads[key], err = disk.Entries(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		for _, e := range f.Heads[key] {
			for _, p := range e.Parts {
				body, err := disk.Open(t.Context(), key, p.Blob)
				if err != nil {
					t.Fatal(err)
				}
				defer body.Close()
				f.Bodies[p.Blob.ID] = make([]byte, p.Blob.Size)
				if n, err := body.ReadAt(f.Bodies[p.Blob.ID], 0); int64(n) < p.Blob.Size {
					t.Fatal(err)
				}
			}
		}
	}
	return f
}

// TestReadsEntriesOfV1: what earlier programs have encrypted can be read.
func TestReadsEntriesOfV1(t *testing.T) {
	f := golden.File(t, "testdata/v1.gob", func() *frozen { return freeze(t) })
	s, err := New(f, goldenKey)
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, s)
	got, err := s.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.Outer, got); diff != "" {
		t.Errorf("another secret, so that no key is found again (-want +got):\n%s", diff)
	}
}

// TestVersionsDoNotMeet: programs with different formats have different
// secrets, and therefore different keys in the inner store. So none of them
// removes an entry of the other's. If they meet nevertheless, the other's count
// as missing.
func TestVersionsDoNotMeet(t *testing.T) {
	inner := store.NewMemory(0)
	secrets := make(map[string]int)
	for _, version := range []int{formatVersion, formatVersion + 1} {
		s, err := New(inner, goldenKey)
		if err != nil {
			t.Fatal(err)
		}
		s.version = version
		secret, err := s.Secret(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := secrets[string(secret)]; ok {
			t.Errorf("versions %d and %d have the same secret", other, version)
		}
		secrets[string(secret)] = version
		if found, err := s.Entries(t.Context(), golden.Keys[0]); len(found) > 0 || err != nil {
			t.Errorf("version %d finds %d entries of another one, %v", version, len(found), err)
		}
		golden.Fill(t, s)
		golden.Check(t, s)
	}
}
