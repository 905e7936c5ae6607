package gregjones_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/gregjones"
	"github.com/cachetrip/cachetrip/store/internal/golden"
)

// written returns the values that an earlier program has written to its cache.
func written(t *testing.T) map[string][]byte {
	return golden.File(t, "testdata/v1.gob", func() map[string][]byte {
		values := newMemory()
		golden.Fill(t, gregjones.New(values, gregjones.Options{}))
		return values.items
	})
}

func TestReadsValuesOfV1(t *testing.T) {
	golden.Check(t, gregjones.New(&memory{items: written(t)}, gregjones.Options{}))
}

// TestLeavesNewerVersions: this version neither reads, changes nor removes the
// values that a newer version has stored in the same cache.
func TestLeavesNewerVersions(t *testing.T) {
	values := newMemory()
	for name, value := range written(t) {
		rest, ok := strings.CutPrefix(name, "cachetrip1:")
		if !ok {
			t.Fatalf("the name %s does not tell the version", name)
		}
		values.items["cachetrip2:"+rest] = value
	}
	before := maps.Clone(values.items)
	s := gregjones.New(values, gregjones.Options{})
	golden.Fill(t, s)
	for _, key := range golden.Keys {
		if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for e := range s.All(t.Context(), "") {
		t.Errorf("an entry of %s is listed", e.URL)
	}
	maps.DeleteFunc(values.items, func(name string, _ []byte) bool { return strings.HasPrefix(name, "cachetrip1:") })
	if diff := cmp.Diff(before, values.items); diff != "" {
		t.Errorf("values of the newer version (-before +after):\n%s", diff)
	}
}
