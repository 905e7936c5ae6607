package store

import (
	"fmt"
	"slices"
	"time"
)

const (
	// maxVariants bounds the variants of a key: choosing one is linear, and an origin that varies on a
	// field with endless values would otherwise grow a key for ever.
	maxVariants = 64

	// maxHead bounds the encoded head of an entry in bytes. Servers and proxies stop at 8 to 64 KiB of
	// header; http.Transport accepts 1 MiB.
	maxHead = 256 << 10

	// bodyShare is the part of a store's bound that one body, and all small bodies of one key, may take,
	// so that a single download does not push out everything else.
	bodyShare = 4

	keyLen = 64 // hexadecimal digits
)

// checkKey makes sure that key may become a file name.
func checkKey(key string) error {
	if len(key) != keyLen || !isHex(key) {
		return fmt.Errorf("cachetrip: store: key %.80q is not 64 lower-case hexadecimal digits", key)
	}
	return nil
}

// checkPrefix makes sure that prefix may begin a key.
func checkPrefix(prefix string) error {
	if len(prefix) > keyLen || !isHex(prefix) {
		return fmt.Errorf("cachetrip: store: prefix %.80q is not lower-case hexadecimal digits", prefix)
	}
	return nil
}

func isHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// same reports whether next holds the very entries of current, so that there is nothing to write.
func same(current, next []*Entry) bool {
	return slices.Equal(current, next)
}

// headFits reports whether an entry that has no parts yet is within the bounds of a store whose keys may take max bytes. It
// encodes large entries only, because most are small.
func headFits(e *Entry, max int64) bool {
	body := int64(0)
	if e.Length > 0 && e.Length <= inlineMax {
		body = e.Length
	}
	if most := headSize(e) + 1024; most <= maxHead && most+body <= max {
		return true
	}
	b, err := appendEntry(nil, e)
	return err == nil && len(b)+128 <= maxHead && int64(len(b))+body+1024 <= max
}

// arrange puts entries that are new, compared with current, before those that were kept, each in the
// order given, and leaves out nil and duplicates. Over maxVariants, some are left out, as dropOldest tells.
func arrange(current, next []*Entry) []*Entry {
	kept := make(map[*Entry]bool, len(current))
	for _, e := range current {
		kept[e] = true
	}
	seen := make(map[*Entry]bool, len(next))
	out := make([]*Entry, 0, len(next))
	for _, old := range []bool{false, true} {
		for _, e := range next {
			if e != nil && kept[e] == old && !seen[e] {
				seen[e] = true
				out = append(out, e)
			}
		}
	}
	for len(out) > maxVariants {
		out = dropOldest(current, out)
	}
	return out
}

// dropOldest removes, in place, of the entries that were current before the one with the oldest ResponseTime, and only if
// there is none left of those one of the new ones; among equals the last. A time in the future, by more than clocks
// differ, comes from a clock that was since set back, and counts as oldest of all.
func dropOldest(current, entries []*Entry) []*Entry {
	future := time.Now().Add(time.Minute)
	before := func(a, b *Entry) bool {
		if oa, ob := slices.Contains(current, a), slices.Contains(current, b); oa != ob {
			return oa
		}
		if fa, fb := a.ResponseTime.After(future), b.ResponseTime.After(future); fa != fb {
			return fa
		}
		return a.ResponseTime.Before(b.ResponseTime)
	}
	oldest := len(entries) - 1
	for i := oldest - 1; i >= 0; i-- {
		if before(entries[i], entries[oldest]) {
			oldest = i
		}
	}
	return slices.Delete(entries, oldest, oldest+1)
}

// checkEntry makes sure that e can be stored under key and that its parts lie within their blobs.
func checkEntry(key string, e *Entry) error {
	if e.Key != key {
		return fmt.Errorf("cachetrip: store: entry of key %.80q cannot be stored under %s", e.Key, key)
	}
	for i := range e.Parts {
		if err := checkPart(&e.Parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkPart makes sure that p lies within its blob.
func checkPart(p *Part) error {
	if p.Offset < 0 || p.Length < 0 || p.Skip < 0 || p.Blob.Size < 0 ||
		p.Skip > p.Blob.Size || p.Length > p.Blob.Size-p.Skip {
		return fmt.Errorf("cachetrip: store: part at %d of %d bytes lies outside its blob of %d bytes", p.Offset, p.Length, p.Blob.Size)
	}
	if p.Blob.Inline != nil && int64(len(p.Blob.Inline)) != p.Blob.Size {
		return fmt.Errorf("cachetrip: store: blob of %d bytes comes with %d", p.Blob.Size, len(p.Blob.Inline))
	}
	return nil
}
