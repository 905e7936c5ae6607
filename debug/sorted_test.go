package debug

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// However many places are added, few are kept.
func TestNearest(t *testing.T) {
	k := nearest{n: 50, compare: (*place).compare}
	for _, i := range rand.Perm(10_000) {
		k.add(place{number: int64(i)})
		if len(k.places) > 2*k.n || cap(k.places) > 4*k.n {
			t.Fatalf("%d places are kept, with room for %d", len(k.places), cap(k.places))
		}
	}
	got := k.sorted()
	if len(got) != 50 || !slices.IsSortedFunc(got, func(p, q place) int { return p.compare(&q) }) || got[49].number != 49 {
		t.Errorf("kept %v", got)
	}
}
