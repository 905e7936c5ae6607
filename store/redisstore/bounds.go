package redisstore

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cachetrip/cachetrip/store"
)

// What may be stored: the bounds of package store, and those that one value on a server needs.

const (
	// maxVariants and maxHead are those of the store on disk: the variants of a key, and the encoded
	// head of one in bytes, without a small body.
	maxVariants = 64
	maxHead     = 256 << 10

	// maxValue bounds the heads and small bodies of a key in bytes, which a lookup transfers at once and
	// every update writes anew. Beyond it the variants with the oldest ResponseTime go.
	maxValue = 1 << 20

	keyLen = 64 // hexadecimal digits
	urlLen = 32 // of them, that stand for the URL
	idLen  = 32 // hexadecimal digits of a blob's ID
)

func checkKey(key string) error {
	if len(key) != keyLen || !isHex(key) {
		return fmt.Errorf("cachetrip: redisstore: key %.80q is not %d lower-case hexadecimal digits", key, keyLen)
	}
	return nil
}

func checkPrefix(prefix string) error {
	if len(prefix) > keyLen || !isHex(prefix) {
		return fmt.Errorf("cachetrip: redisstore: prefix %.80q is not lower-case hexadecimal digits", prefix)
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

// checkEntry makes sure that e can be stored under key and that its parts lie within their blobs.
func checkEntry(key string, e *store.Entry) error {
	if e.Key != key {
		return fmt.Errorf("cachetrip: redisstore: entry of key %.80q cannot be stored under %s", e.Key, key)
	}
	for i := range e.Parts {
		p := &e.Parts[i]
		switch {
		case p.Offset < 0, p.Length < 0, p.Skip < 0, p.Blob.Size < 0, p.Skip > p.Blob.Size, p.Length > p.Blob.Size-p.Skip:
			return fmt.Errorf("cachetrip: redisstore: part at %d of %d bytes lies outside its blob of %d bytes", p.Offset, p.Length, p.Blob.Size)
		case p.Blob.Inline != nil && int64(len(p.Blob.Inline)) != p.Blob.Size:
			return fmt.Errorf("cachetrip: redisstore: blob of %d bytes comes with %d", p.Blob.Size, len(p.Blob.Inline))
		case len(p.Blob.ID) != idLen || !isHex(p.Blob.ID):
			return errors.New("cachetrip: redisstore: blob " + p.Blob.ID + " is not of this store")
		}
	}
	return nil
}

// arrange puts entries that are new, compared with current, before those that were kept, each in the order
// given, leaves out nil and duplicates, and over maxVariants those with the oldest ResponseTime.
func arrange(current, next []*store.Entry) []*store.Entry {
	var fresh, kept []*store.Entry
	for _, e := range next {
		switch {
		case e == nil || slices.Contains(fresh, e) || slices.Contains(kept, e):
		case slices.Contains(current, e):
			kept = append(kept, e)
		default:
			fresh = append(fresh, e)
		}
	}
	out := append(fresh, kept...)
	for len(out) > maxVariants {
		out = dropOldest(out)
	}
	return out
}

// dropOldest removes the entry with the oldest ResponseTime, in place; among equals the last.
func dropOldest(entries []*store.Entry) []*store.Entry {
	oldest := len(entries) - 1
	for i := oldest - 1; i >= 0; i-- {
		if entries[i].ResponseTime.Before(entries[oldest].ResponseTime) {
			oldest = i
		}
	}
	return slices.Delete(entries, oldest, oldest+1)
}
