package memo

import "sync/atomic"

const (
	// ways is how many values with one place a Table has. The last ones stay.
	ways = 4

	pages    = 64
	pageSets = 64

	seenBits = 4096
)

// Table remembers values by the hashes of their names. Values with the same
// place displace each other, the oldest one first. A Table takes 1 KiB until
// it is used. It grows with the number of its values, to 128 KiB without them.
// Its zero value is ready for use. It is safe for concurrent use, and takes no
// lock: if two values are put in the same place at once, one may be lost.
type Table[T any] struct {
	pages [pages]atomic.Pointer[[pageSets]Place[T]]
	seen  [seenBits / 64]atomic.Uint64
}

// Place has the values with one place, the latest first. There may be a nil
// between them.
type Place[T any] [ways]atomic.Pointer[T]

// Again reports whether it was called with the hash before. Many programs need
// most values once, and to remember a value costs more than to compute it.
// After some thousand hashes it is mostly true for new ones, too.
func (t *Table[T]) Again(hash uint64) bool {
	word, bit := &t.seen[hash%seenBits/64], uint64(1)<<(hash%64)
	return word.Load()&bit != 0 || word.Or(bit)&bit != 0
}

// At returns the place for a hash. It is nil if nothing was put near it.
func (t *Table[T]) At(hash uint64) *Place[T] {
	page := t.pages[hash%pages].Load()
	if page == nil {
		return nil
	}
	return &page[hash/pages%pageSets]
}

// Put puts a value first in the place for a hash. It returns the value that it
// displaces, or nil.
func (t *Table[T]) Put(hash uint64, v *T) (displaced *T) {
	p := t.At(hash)
	if p == nil {
		t.pages[hash%pages].CompareAndSwap(nil, new([pageSets]Place[T]))
		p = t.At(hash)
	}
	for i := range p {
		if v = p[i].Swap(v); v == nil {
			break
		}
	}
	return v
}

// Drop removes the values for which gone is true, and calls dropped for each of
// them. It returns how many values are left.
func (t *Table[T]) Drop(gone func(*T) bool, dropped func(*T)) (left int) {
	for i := range t.pages {
		page := t.pages[i].Load()
		if page == nil {
			continue
		}
		for j := range page {
			for k := range page[j] {
				switch v := page[j][k].Load(); {
				case v == nil:
				case gone(v) && page[j][k].CompareAndSwap(v, nil):
					dropped(v)
				default:
					left++
				}
			}
		}
	}
	return left
}

// IsFull reports whether another value would displace one.
func (p *Place[T]) IsFull() bool {
	for i := range p {
		if p[i].Load() == nil {
			return false
		}
	}
	return true
}
