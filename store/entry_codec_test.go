package store

import (
	"testing"
	"time"

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

// Both halves of the codec of the file of a key must know every field of an
// entry.
func TestEntryCodecKnowsAllFields(t *testing.T) {
	want, inline := fullEntry(t)
	payload, err := new(encodeBuffers).encodeEntries(want.Key, []*Entry{want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeEntries(want.Key, payload, nil, func(blobID) ([]byte, bool) { return inline, true })
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
	got := newItem(want.Key, []*Entry{want}, nil, 0, recordID{}, new(written)).entries
	if diff := cmp.Diff([]*Entry{want}, got); diff != "" {
		t.Errorf("an entry in the memory tier lost something (-want +got):\n%s", diff)
	}
}

// TestMemoryTierKeepsEntries: an entry that is like one that was read from a
// file is kept as it is, unless it would keep an old one in memory.
func TestMemoryTierKeepsEntries(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(e, old *Entry)
		kept   bool
	}{
		{"as read", func(e, old *Entry) {}, true},
		{"of another place", func(e, old *Entry) { e.RequestTime = e.RequestTime.In(time.FixedZone("", 3600)) }, false},
		{"with a monotonic time", func(e, old *Entry) { e.ResponseTime = time.Now() }, false},
		{"invalidated", func(e, old *Entry) { e.InvalidatedAt = time.Now() }, false},
		{"with the parts of the old entry", func(e, old *Entry) { e.Parts = old.Parts }, false},
		{"without parts", func(e, old *Entry) { e.Parts, old.Parts = nil, nil }, true},
		{"the old entry", func(e, old *Entry) {}, true},
	} {
		e, _ := fullEntry(t)
		e.RequestTime, e.ResponseTime, e.InvalidatedAt = asStored(e.RequestTime), asStored(e.ResponseTime), asStored(e.InvalidatedAt)
		old := []*Entry{e.Clone()}
		test.change(e, old[0])
		if test.name == "the old entry" {
			old[0] = e
		}
		got := asRead(e, old)
		if (got == e) != test.kept {
			t.Errorf("%s: kept %t, want %t", test.name, got == e, test.kept)
		}
		want := e.Clone()
		want.RequestTime, want.ResponseTime, want.InvalidatedAt = asStored(e.RequestTime), asStored(e.ResponseTime), asStored(e.InvalidatedAt)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// A clone is equal, and a change of one of its maps or slices does not change
// the original.
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
