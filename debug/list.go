package debug

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// This file lists a store one page at a time, in the order of its keys. Keys
// are evenly spread digests. So for any number of entries, a prefix of the
// right length matches about one page of them. A page may be longer by the
// other variants of its last key.

const (
	// visitRows is the largest number of entries of a prefix that are listed in
	// one piece. If a prefix has more, the sixteen prefixes that are one digit
	// longer are listed instead. A small store has fewer entries in a shard, so
	// that it is listed at once.
	visitRows = 500

	// listTime limits the search for matching entries. After it, the page shows
	// the entries found so far.
	listTime = 300 * time.Millisecond
)

// cursor is where a page begins. The zero cursor is the first page. In the
// order of keys, the page has the keys that begin with At and come after After.
// In another order, it has the entries that come after the one with the value
// At, and with the key and number in After; or those before that one, if Back
// is set.
type cursor struct {
	At, After string
	Back      bool
}

// list returns the page of matching entries that begins at from.
func list(ctx context.Context, s store.Store, from cursor, match func(*store.Entry) bool) (listing, error) {
	var p listing
	started := time.Now()
	for prefix, more := from.At, true; more; {
		found, scanned, all, err := visit(ctx, s, prefix, from.After, match)
		p.examined += scanned
		if err != nil {
			return p, err
		}
		if !all {
			prefix += "0"
			continue
		}
		for i, e := range found {
			if len(p.entries) >= pageRows && (i == 0 || found[i-1].Key != e.Key) {
				p.next = &cursor{At: prefix}
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
			p.next = &cursor{At: prefix}
			break
		}
	}
	slices.SortStableFunc(p.entries, func(a, b *store.Entry) int { return cmp.Compare(a.URL, b.URL) })
	return p, nil
}

// visit returns the matching entries whose key begins with prefix and comes
// after after, ordered by key. If there are too many, all is false.
func visit(ctx context.Context, s store.Store, prefix, after string, match func(*store.Entry) bool) (found []*store.Entry, scanned int, all bool, err error) {
	for e, err := range s.All(ctx, prefix) {
		if err != nil {
			return nil, scanned, false, err
		}
		if scanned++; scanned > visitRows && len(prefix) < keyDigits {
			return nil, scanned, false, nil
		}
		if e.Key > after && !e.IsNote() && match(e) {
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

// following returns the shortest prefix of the keys that come after those with
// the given prefix; false if there are none.
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
