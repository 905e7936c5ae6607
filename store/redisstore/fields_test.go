package redisstore

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/fill"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// Both halves of the codec must know every field of an entry.
func TestValueKnowsAllFields(t *testing.T) {
	want := new(store.Entry)
	fill.Fill(want)
	want.Key = storetest.Key(1, 1)
	for i := range want.Parts {
		p := &want.Parts[i]
		p.Length, p.Skip = 3, 2
		p.Blob.ID, p.Blob.Size = "0123456789abcdef0123456789abcdef", int64(len(p.Blob.Inline))
	}
	if zero := fill.Zero(want); len(zero) > 0 {
		t.Fatalf("fields %v are zero", zero)
	}
	encoded, err := encodeEntries([]*store.Entry{want})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeValue(want.Key, newValue(encoded, time.Now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*store.Entry{want}, got); diff != "" {
		t.Errorf("an entry that was encoded and decoded lost something (-want +got):\n%s", diff)
	}
}
