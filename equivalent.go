package cachetrip

import (
	"strings"

	"github.com/cachetrip/cachetrip/internal/urlsearch"
	"github.com/cachetrip/cachetrip/store"
)

// Stored responses of equivalent URLs: the No-Vary-Search draft, section 6. An
// exact match comes first. A response found under another URL must pass the
// same rules for Vary, identities and credentials.

// equivalents are stored responses of an equivalent URL.
type equivalents struct {
	key     string
	entries []*store.Entry
	stored  []response // the entries as the rules see them
	decision
}

// response returns the selected response.
func (c *equivalents) response() *response { return &c.stored[c.selected] }

// canBeValidated reports whether the origin can confirm the selected response
// for another URL. A date is not enough: the rule may hold no longer, and many
// pages have the date of the last deployment.
func (c *equivalents) canBeValidated() bool {
	return c.action == revalidate && c.response().entityTag() != ""
}

// equivalent returns the stored responses of an equivalent URL that serve the
// request, or that can be validated for it. Of several URLs, it chooses the one
// with the most recent response, so that no caller goes back in time. ok is
// false if there are none.
func (x *exchange) equivalent(read reader) (best equivalents, ok bool) {
	at := x.place()
	if at.moved {
		return equivalents{}, false
	}
	entries, err := x.readBy(read, at.pathNote()+forAll)
	n := noteOf(entries)
	if err != nil || n == nil {
		return equivalents{}, false
	}
	for _, text := range n.rules {
		rule, valid := urlsearch.Parse([]string{text})
		digest, short := at.equals(rule)
		if !valid || !short {
			continue
		}
		entries, err := x.readBy(read, digest+x.key[urlDigits:])
		known := noteOf(entries)
		if err != nil || known == nil {
			continue
		}
		for _, half := range known.keys {
			candidate := equivalents{key: half + x.key[urlDigits:]}
			if candidate.key == x.key || len(candidate.key) != len(x.key) || !x.look(&candidate, read, at.query) {
				continue
			}
			if candidate.selected < 0 || !candidate.serves() && !candidate.canBeValidated() {
				continue
			}
			if !ok || candidate.response().newerThan(best.response()) {
				best, ok = candidate, true
			}
		}
	}
	return best, ok
}

// look looks up the responses of c that answer requests for the query. It
// returns false if there are none.
func (x *exchange) look(c *equivalents, read reader, query string) bool {
	x.t.writes.Of(c.key).Wait(x.req.Context())
	entries, err := x.readBy(read, c.key)
	if err != nil {
		return false
	}
	stored := x.rules.policy.ofAll(x.t.views.all(c.key, entries))
	fits := func(i int) bool {
		t := stored[i].ties()
		_, from, has := strings.Cut(entries[i].URL, "?")
		if has {
			from = "?" + from
		}
		return t != nil && t.equals && t.search.Equivalent(from, query)
	}
	for i := range stored {
		if !fits(i) {
			continue
		}
		c.entries, c.stored = append(c.entries, entries[i]), append(c.stored, stored[i])
	}
	if len(c.entries) == 0 {
		return false
	}
	if at := x.t.events.InvalidatedAt(c.key[:urlDigits]); !at.IsZero() {
		c.stored = invalidateBefore(c.stored, at)
	}
	c.stored = x.judged(c.stored, read)
	c.decision = decide(wallClock(), x.rules, c.stored)
	return true
}
