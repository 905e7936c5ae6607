package cachetrip

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/urlsearch"
)

// Ties of a stored response to other URLs than its own: the groups that it
// belongs to (RFC 9875), and No-Vary-Search, by which equivalent URLs have one
// response. An invalidation that concerns a group, or all equivalent URLs, is
// one mark in a ledger. It costs the same however many responses it concerns,
// because each is compared with the ledger when it is looked up.

const (
	// maxGroups and maxGroupBytes limit the groups of a field. Caches must support
	// 32 groups of 32 characters (RFC 9875, sections 2 and 3).
	maxGroups     = 128
	maxGroupBytes = 8 << 10
)

// ties are what a response says about its relation to other URLs.
type ties struct {
	groups []string       // sorted; the names of its groups
	every  bool           // it names more groups than the cache reads, so it counts as a member of every group
	search urlsearch.Rule // which URLs are equivalent
	equals bool           // there is such a rule
}

// tiesOf returns the ties of a response with the header h, nil if it has none.
func tiesOf(h http.Header) *ties {
	groups, search := h["Cache-Groups"], h["No-Vary-Search"]
	if groups == nil && search == nil {
		return nil
	}
	var t ties
	t.groups, t.every = groupNames(groups)
	t.search, t.equals = urlsearch.Parse(search)
	if !t.grouped() && !t.equals {
		return nil
	}
	return &t
}

// grouped reports whether t has groups.
func (t *ties) grouped() bool { return t.every || len(t.groups) > 0 }

// groupNames returns the groups that a field names. every is true if there are
// too many to read.
func groupNames(lines []string) (names []string, every bool) {
	names, ok := field.Strings(lines, maxGroupBytes, maxGroups)
	slices.Sort(names)
	return slices.Compact(names), !ok
}

// ledger remembers invalidations that concern more than one URL: those of the
// groups of an origin, or of the equivalent URLs of a path. It is bounded, and
// can be lost. Both cost validations, and never hide an invalidation: a
// response counts only as valid if the ledger covers all time since its
// request.
type ledger struct {
	since time.Time // no invalidation since then is missing
	floor time.Time // everything that was requested until then is invalid; zero if nothing is
	marks []string  // the last invalidation of each name, as a digest and a time; sorted
}

const (
	// maxMarks limits the marks of a ledger. Beyond it the oldest half becomes
	// its floor.
	maxMarks = 256

	// markDigits is how much of a digest a mark has. If two names have the same
	// digits, responses are validated too often.
	markDigits = 16

	// certainTime is how long ago a request may have been made for whose
	// response a missing ledger is begun. A ledger is not evicted as soon as it
	// is written.
	certainTime = 10 * time.Second
)

// invalidatedAt returns when a response that was requested at a time became
// invalid, as a member of what the digests stand for, or of all. It is zero if
// the response is valid.
func (l *ledger) invalidatedAt(requested time.Time, digests []string, all bool) time.Time {
	if l == nil || requested.Before(l.since) {
		return requested.Add(1) // nobody knows
	}
	if !l.floor.IsZero() && !requested.After(l.floor) {
		return l.floor
	}
	for _, digest := range digests {
		if i, found := l.find(digest); found {
			if at := markTime(l.marks[i]); !requested.After(at) {
				return at
			}
		}
	}
	if all {
		for _, mark := range l.marks {
			if at := markTime(mark); !requested.After(at) {
				return at
			}
		}
	}
	return time.Time{}
}

// find returns where the mark of a digest is, or belongs.
func (l *ledger) find(digest string) (i int, found bool) {
	return slices.BinarySearchFunc(l.marks, digest[:markDigits], func(mark, digits string) int {
		return strings.Compare(mark[:min(markDigits, len(mark))], digits)
	})
}

// markTime returns the time of a mark. A mark that cannot be read has a time
// that nothing comes after.
func markTime(mark string) time.Time {
	if len(mark) > markDigits {
		if at, err := strconv.ParseInt(mark[markDigits:], 10, 64); err == nil {
			return time.Unix(0, at)
		}
	}
	return time.Unix(1<<40, 0)
}

// marked returns l with the invalidation of what the digests stand for, or of
// everything.
func (l ledger) marked(digests []string, all bool, at time.Time) ledger {
	if all {
		return l.raised(at)
	}
	l.marks = slices.Clone(l.marks)
	for _, digest := range digests {
		mark := digest[:markDigits] + strconv.FormatInt(at.UnixNano(), 10)
		switch i, found := l.find(digest); {
		case !found:
			l.marks = slices.Insert(l.marks, i, mark)
		case markTime(l.marks[i]).Before(at):
			l.marks[i] = mark
		}
	}
	if len(l.marks) <= maxMarks {
		return l
	}
	times := make([]time.Time, len(l.marks))
	for i, mark := range l.marks {
		times[i] = markTime(mark)
	}
	slices.SortFunc(times, time.Time.Compare)
	return l.raised(times[len(times)/2])
}

// raised returns l with everything that was requested until at invalid.
func (l ledger) raised(at time.Time) ledger {
	if at.After(l.floor) {
		l.floor = at
	}
	l.marks = slices.DeleteFunc(slices.Clone(l.marks), func(mark string) bool { return !markTime(mark).After(l.floor) })
	return l
}

// covering returns l so that it covers a response, if that is certain. l is nil
// if there is no ledger. changed is false if l is that already, or cannot be.
//
// A ledger that is missing was never written, or was lost. If it was lost while
// the origin made the response, an invalidation may be unknown. So only a quick
// response counts as covered.
func (l *ledger) covering(requested, received time.Time) (covers ledger, changed bool) {
	quick := !received.Before(requested) && received.Sub(requested) <= certainTime
	switch {
	case l == nil && quick:
		return ledger{since: requested}, true
	case l == nil && received.After(requested):
		return ledger{since: received}, true
	case l == nil:
		return ledger{since: requested.Add(1)}, true
	case requested.Before(l.since) && quick && l.since.Sub(requested) <= certainTime:
		covers = *l // several responses were on their way when it was begun
		covers.since = requested
		return covers, true
	}
	return *l, false
}
