package debug

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// Listing a store a page at a time. Keys are evenly spread digests, so that a prefix of the right
// length has about a page of them, whatever the store holds.

const (
	pageRows = 100 // entries on a page, and the rest of the variants of the last key

	// visitRows is how many entries a prefix may have to be taken in one piece; the sixteen that are
	// one digit longer are tried otherwise. More than a shard of a small store, so that one is listed at once.
	visitRows = 500

	// listTime is how long entries are looked for that match, before the page is shown with what was found.
	listTime = 300 * time.Millisecond
)

// cursor is where a page begins: with the keys that begin with at and come after the key after, if there is
// one. Empty is the first page.
type cursor struct{ At, After string }

// page is a part of what a store holds.
type page struct {
	entries []*store.Entry // in the order of their URLs
	scanned int            // entries that were looked at
	next    *cursor        // where the next page begins, nil if this is the last
}

// list returns the page at from, of the entries that match.
func list(ctx context.Context, s store.Store, from cursor, match func(*store.Entry) bool) (page, error) {
	var p page
	started := time.Now()
	for prefix, more := from.At, true; more; {
		found, scanned, all, err := visit(ctx, s, prefix, from.After, match)
		p.scanned += scanned
		if err != nil {
			return p, err
		}
		if !all {
			prefix += "0"
			continue
		}
		for i, e := range found {
			if len(p.entries) >= pageRows && (i == 0 || found[i-1].Key != e.Key) {
				p.next = &cursor{prefix, ""}
				if i > 0 {
					p.next.After = found[i-1].Key
				}
				break
			}
			p.entries = append(p.entries, e)
		}
		if p.next != nil {
			break
		}
		if prefix, more = following(prefix); more && time.Since(started) > listTime {
			p.next = &cursor{prefix, ""}
			break
		}
	}
	slices.SortStableFunc(p.entries, func(a, b *store.Entry) int { return cmp.Compare(a.URL, b.URL) })
	return p, nil
}

// visit returns the entries that match and whose key begins with prefix and comes after after, in the order of their
// keys, unless there are too many: then all is false.
func visit(ctx context.Context, s store.Store, prefix, after string, match func(*store.Entry) bool) (found []*store.Entry, scanned int, all bool, err error) {
	for e, err := range s.All(ctx, prefix) {
		if err != nil {
			return nil, scanned, false, err
		}
		if scanned++; scanned > visitRows && len(prefix) < keyDigits {
			return nil, scanned, false, nil
		}
		if e.Key > after && match(e) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b *store.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return found, scanned, true, nil
}

const (
	keyDigits = 64
	hexDigits = "0123456789abcdef"
)

// following returns the shortest prefix of the keys after those that begin with prefix; false if there are none.
func following(prefix string) (string, bool) {
	prefix = strings.TrimRight(prefix, "f")
	if prefix == "" {
		return "", false
	}
	last := len(prefix) - 1
	return prefix[:last] + string(hexDigits[strings.IndexByte(hexDigits, prefix[last])+1]), true
}

// isPrefix reports whether s is the beginning of a key.
func isPrefix(s string) bool { return len(s) <= keyDigits && strings.Trim(s, hexDigits) == "" }
