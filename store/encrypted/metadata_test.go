package encrypted

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/fill"
)

// Both halves of the codec must know every field of an entry. The key and the
// bytes of blobs are kept by the inner store.
func TestHeadKnowsAllFields(t *testing.T) {
	want := new(store.Entry)
	fill.Fill(want)
	if zero := fill.Zero(want); len(zero) > 0 {
		t.Fatalf("fields %v are zero", zero)
	}
	got, ok := parseHead(appendHead(nil, want))
	if !ok {
		t.Fatal("the metadata cannot be parsed")
	}
	elsewhere := cmp.Options{
		cmpopts.IgnoreFields(store.Entry{}, "Key"),
		cmpopts.IgnoreFields(store.Blob{}, "Inline"),
	}
	if diff := cmp.Diff(want, got, elsewhere); diff != "" {
		t.Errorf("an entry that was encoded and decoded lost something (-want +got):\n%s", diff)
	}
}
