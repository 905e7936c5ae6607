package memo

import (
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// values returns the values in the place for a hash.
func values(t *Table[int], hash uint64) (found []int) {
	p := t.At(hash)
	if p == nil {
		return nil
	}
	for i := range p {
		if v := p[i].Load(); v != nil {
			found = append(found, *v)
		}
	}
	return found
}

func TestTable(t *testing.T) {
	var table Table[int]
	const other = pages // another place on the same page
	steps := []struct {
		hash       uint64
		value      int
		displaced  int // 0: none
		wantValues []int
	}{
		{0, 1, 0, []int{1}},
		{0, 2, 0, []int{2, 1}},
		{other, 9, 0, []int{9}},
		{0, 3, 0, []int{3, 2, 1}},
		{0, 4, 0, []int{4, 3, 2, 1}},
		{0, 5, 1, []int{5, 4, 3, 2}},
		{pages * pageSets, 6, 2, []int{6, 5, 4, 3}}, // the same place as hash 0
		{other, 8, 0, []int{8, 9}},
	}
	if got := values(&table, 0); got != nil {
		t.Errorf("an empty table has %v", got)
	}
	for _, s := range steps {
		displaced := 0
		if d := table.Put(s.hash, &s.value); d != nil {
			displaced = *d
		}
		if displaced != s.displaced {
			t.Errorf("putting %d displaces %d, want %d", s.value, displaced, s.displaced)
		}
		if diff := cmp.Diff(s.wantValues, values(&table, s.hash)); diff != "" {
			t.Errorf("after %d (-want +got):\n%s", s.value, diff)
		}
	}
}

// TestSizes: an unused Table or Set takes hardly any memory.
func TestSizes(t *testing.T) {
	for name, size := range map[string]uintptr{"Table": unsafe.Sizeof(Table[int]{}), "Set": unsafe.Sizeof(Set{})} {
		if size > 1<<10 {
			t.Errorf("an empty %s takes %d bytes", name, size)
		}
	}
}

// TestAgain: a hash is new once, and others are hardly taken for it.
func TestAgain(t *testing.T) {
	const hashes = 256
	var table Table[int]
	mistaken := 0
	for i := range uint64(hashes) {
		hash := i * 0x9e3779b97f4a7c15
		if table.Again(hash) {
			mistaken++
		}
		if !table.Again(hash) {
			t.Fatalf("hash %d is new again", i)
		}
	}
	if mistaken > hashes/10 {
		t.Errorf("%d of %d new hashes were taken for others", mistaken, hashes)
	}
}

// TestDrop: a dropped value leaves room for another one, and Drop drops no
// other values.
func TestDrop(t *testing.T) {
	var table Table[int]
	for i := 1; i <= ways; i++ {
		table.Put(0, new(i))
		table.Put(pages, new(10*i)) // in another place
	}
	dropped := 0
	left := table.Drop(func(v *int) bool { return *v%2 == 0 && *v < 10 }, func(v *int) { dropped += *v })
	if left != 2*ways-2 || dropped != 2+4 {
		t.Errorf("%d values are left, and those dropped sum up to %d", left, dropped)
	}
	if diff := cmp.Diff([]int{3, 1}, values(&table, 0)); diff != "" {
		t.Errorf("left in the place (-want +got):\n%s", diff)
	}
	if table.At(0).IsFull() || !table.At(pages).IsFull() {
		t.Error("the place with what was dropped is full, or the other one is not")
	}
	for i := 5; i <= 6; i++ {
		if d := table.Put(0, new(i)); d != nil {
			t.Errorf("putting %d displaces %d, though there is room", i, *d)
		}
	}
	if diff := cmp.Diff([]int{6, 5, 3, 1}, values(&table, 0)); diff != "" {
		t.Errorf("after two more (-want +got):\n%s", diff)
	}
}
