package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store/internal/fill"
)

// fullEntry returns an entry with every field set.
func fullEntry(t *testing.T) (e *Entry, inline []byte) {
	t.Helper()
	e = new(Entry)
	fill.Fill(e)
	e.Key = testKey(1)
	inline = []byte("the bytes of a blob")
	for i := range e.Parts {
		p := &e.Parts[i]
		p.Length, p.Skip = 3, 2
		p.Blob.ID, p.Blob.Size, p.Blob.Inline = blobID{byte(i + 1)}.String(), int64(len(inline)), inline
	}
	if zero := fill.Zero(e); len(zero) > 0 {
		t.Fatalf("fields %v are zero", zero)
	}
	return e, inline
}

// Both halves of the codec of the file of a key must know every field of an entry.
func TestEntryCodecKnowsAllFields(t *testing.T) {
	want, inline := fullEntry(t)
	payload, err := new(encodeBuffers).encodeEntries(want.Key, []*Entry{want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeEntries(want.Key, payload, func(blobID) ([]byte, bool) { return inline, true })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*Entry{want}, got); diff != "" {
		t.Errorf("an entry that was encoded and decoded lost something (-want +got):\n%s", diff)
	}
}

// The memory tier keeps entries as they would be read from the file.
func TestMemoryTierKnowsAllFields(t *testing.T) {
	want, _ := fullEntry(t)
	got := newItem(want.Key, "", []*Entry{want}, 0, new(written)).entries
	if diff := cmp.Diff([]*Entry{want}, got); diff != "" {
		t.Errorf("an entry in the memory tier lost something (-want +got):\n%s", diff)
	}
}

// A clone is equal, and a change of one of its maps or slices does not change the
// original.
func TestCloneKnowsAllFields(t *testing.T) {
	e, _ := fullEntry(t)
	c := e.Clone()
	if diff := cmp.Diff(e, c); diff != "" {
		t.Fatalf("the clone differs (-want +got):\n%s", diff)
	}
	fill.Scramble(c)
	if same, _ := fullEntry(t); !cmp.Equal(e, same) {
		t.Errorf("a change of the clone changed the original (-want +got):\n%s", cmp.Diff(same, e))
	}
}
