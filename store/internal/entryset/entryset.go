// Package entryset has the rules that every store follows for the entries of
// one key: the form of a key, the number and order of its entries, and which
// entry is dropped first.
//
// The functions are generic because package store imports this package, which
// therefore cannot name *store.Entry.
package entryset

import (
	"fmt"
	"slices"
	"time"
)

const (
	// KeyLen is the length of a key in hexadecimal digits. The first URLLen of
	// them stand for the URL.
	KeyLen = 64
	URLLen = 32

	// MaxVariants limits the entries of a key. Choosing one takes linear time, and
	// an origin that varies on a field with endless values would otherwise make a
	// key grow forever.
	MaxVariants = 64

	// MaxMetadata limits the metadata of an entry in bytes, as it is encoded.
	// Servers and proxies stop at 8 to 64 KiB of header; http.Transport accepts
	// 1 MiB.
	MaxMetadata = 256 << 10

	// clockSkew is by how much the clocks of two machines may differ. A time that
	// is further in the future was recorded by a clock that was set back since.
	clockSkew = time.Minute
)

// IsHex reports whether s consists of lower-case hexadecimal digits. An empty
// string does.
func IsHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// CheckKey returns an error unless key is a valid key, which may become a file
// name.
func CheckKey(key string) error {
	if len(key) != KeyLen || !IsHex(key) {
		return fmt.Errorf("key %.80q is not %d lower-case hexadecimal digits", key, KeyLen)
	}
	return nil
}

// CheckPrefix returns an error unless a valid key can begin with prefix.
func CheckPrefix(prefix string) error {
	if len(prefix) > KeyLen || !IsHex(prefix) {
		return fmt.Errorf("prefix %.80q is not lower-case hexadecimal digits", prefix)
	}
	return nil
}

// CheckOwner returns an error unless an entry of the key entryKey may be stored
// under key.
func CheckOwner(key, entryKey string) error {
	if key != entryKey {
		return fmt.Errorf("entry of key %.80q cannot be stored under %s", entryKey, key)
	}
	return nil
}

// CheckPart returns an error unless a part of a body lies within its blob of
// size bytes: length bytes, which begin at skip in the blob and at offset in
// the body. inline is nil, or the bytes of the blob.
func CheckPart(offset, length, skip, size int64, inline []byte) error {
	if offset < 0 || length < 0 || skip < 0 || size < 0 || skip > size || length > size-skip {
		return fmt.Errorf("part of %d bytes at %d lies outside its blob of %d bytes", length, offset, size)
	}
	if inline != nil && int64(len(inline)) != size {
		return fmt.Errorf("blob of %d bytes comes with %d bytes", size, len(inline))
	}
	return nil
}

// Arrange returns the entries to store for a key that has the entries current
// now and is to have next. New entries come before kept ones, each group in the
// given order. Zero values and duplicates are left out. Over MaxVariants,
// DropOldest removes some. stored returns when the response of an entry was
// received.
func Arrange[E comparable](current, next []E, stored func(E) time.Time) []E {
	if len(current) == 1 && len(next) == 1 && next[0] != *new(E) { // nearly always
		return slices.Clone(next)
	}
	kept := make(map[E]bool, len(current))
	for _, e := range current {
		kept[e] = true
	}
	var zero E
	seen := make(map[E]bool, len(next))
	out := make([]E, 0, len(next))
	for _, old := range []bool{false, true} {
		for _, e := range next {
			if e != zero && kept[e] == old && !seen[e] {
				seen[e] = true
				out = append(out, e)
			}
		}
	}
	for len(out) > MaxVariants {
		out = DropOldest(current, out, stored)
	}
	return out
}

// DropOldest removes the oldest of the entries that were current before, in
// place. If there is none, it removes the oldest new one. Among equals it
// removes the last. An entry from the future counts as the oldest, because the
// clock was set back since. stored returns the time when an entry was received.
func DropOldest[E comparable](current, entries []E, stored func(E) time.Time) []E {
	future := time.Now().Add(clockSkew)
	before := func(a, b E) bool {
		if oldA, oldB := slices.Contains(current, a), slices.Contains(current, b); oldA != oldB {
			return oldA
		}
		if lateA, lateB := stored(a).After(future), stored(b).After(future); lateA != lateB {
			return lateA
		}
		return stored(a).Before(stored(b))
	}
	oldest := len(entries) - 1
	for i := oldest - 1; i >= 0; i-- {
		if before(entries[i], entries[oldest]) {
			oldest = i
		}
	}
	return slices.Delete(entries, oldest, oldest+1)
}
