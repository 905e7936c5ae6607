package cachetrip

import (
	"slices"
	"sync"

	"github.com/cachetrip/cachetrip/store"
)

// Headers of the responses that bring the rest of another one: RFC 9111,
// section 3.4.

// rests collects the headers of the responses that bring the rest of another one, whose transfer broke
// off. It is safe for concurrent use.
type rests struct {
	*originReply              // the response whose transfer broke off
	entry        *store.Entry // the entry to be stored without a rest

	mu     sync.Mutex
	merged *store.Entry // entry, updated by the rests; nil if there were none
}

// add records that rest continues the response. length is that of all content.
// If the origin now forbids caching, no other request joins the response any
// more.
func (rs *rests) add(rest *originReply, length int64) {
	update := rest.entry().Header
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.merged == nil {
		rs.merged = rs.entry
	}
	merged := rs.merged.Clone()
	merged.Header = rest.joinedHeader(rs.merged.Header, update, length)
	rs.noteCredentials(merged)
	rs.merged = merged
	for _, name := range []string{"Cache-Control", "Expires", "Vary"} {
		if !slices.Equal(merged.Header[name], rs.entry.Header[name]) {
			rs.shared.Hide()
		}
	}
}

// joined returns the entry to be stored for the response with its rests. why is
// the reason if it must not be stored.
func (rs *rests) joined() (e *store.Entry, why string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.merged == nil {
		return rs.entry, ""
	}
	r := asComplete(rs.merged)
	return rs.merged, storable(rs.x.rules, &r, rs.x.t.StaleIfError > 0)
}
