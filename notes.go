package cachetrip

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/urlsearch"
	"github.com/cachetrip/cachetrip/store"
)

// Notes: small records beside the stored responses, which are found by an
// origin or by a path. They are entries of the Store under keys of their own.
// So every Store has them, updates them atomically, shows them to other
// processes, limits their size and evicts them. There are four kinds:
//
//   - for an origin, the ledger of its groups;
//   - for a path, the ledger of its equivalent URLs, and the No-Vary-Search rules that its responses have;
//   - for equivalent URLs and an identity, the keys that responses are stored under;
//   - for the whole store, that a response with No-Vary-Search was stored.
//
// No note holds the name of a group or of a user, or a query. Names and queries
// are keyed digests. Only the keys of responses belong to an identity, and
// other identities do not find them.

const (
	// maxRules limits the rules of a path. An origin should have one
	// (No-Vary-Search draft, section 6).
	maxRules = 4

	// maxEquals limits the keys of equivalent URLs. One is enough, unless
	// responses are selected by Vary, or the origin changes its rules.
	maxEquals = 4

	// noteLifetime keeps a store from dropping a note that responses need.
	noteLifetime = "max-age=2592000"
)

// note is what a note says.
type note struct {
	ledger
	rules []string // of a path; the latest first
	keys  []string // of equivalent URLs: the first halves of keys; the latest first
}

// entry returns n as an entry of the store.
func (n *note) entry(key, about string) *store.Entry {
	h := http.Header{"Cache-Control": {noteLifetime}}
	for name, lines := range map[string][]string{"Marks": n.marks, "Rules": n.rules, "Keys": n.keys} {
		if len(lines) > 0 {
			h[name] = lines
		}
	}
	return &store.Entry{
		Key: key, URL: about, Method: store.NoteMethod, Status: http.StatusOK, Header: h,
		RequestTime: n.since, ResponseTime: wallClock(), InvalidatedAt: n.floor,
	}
}

// noteOf returns what the entries of a key of notes say, nil if there is no
// note.
func noteOf(entries []*store.Entry) *note {
	if len(entries) == 0 || !entries[0].IsNote() {
		return nil
	}
	e := entries[0]
	return &note{
		ledger: ledger{since: e.RequestTime, floor: e.InvalidatedAt, marks: e.Header["Marks"]},
		rules:  e.Header["Rules"], keys: e.Header["Keys"],
	}
}

// place is where the response to a request is stored, and which origin sends
// it.
type place struct {
	digest digester
	origin string // the beginning of a primary URL
	path   string // a primary URL without its query
	query  string // empty, or with the question mark
	moved  bool   // the place says nothing about the parameters of the URL that is asked; see narrows
}

// placeOf returns the place for the primary URL of a request, and the one that
// its response is stored under.
func placeOf(d digester, own, stored string) place {
	p := place{digest: d, path: stored}
	if i := strings.IndexByte(stored, '?'); i >= 0 {
		p.path, p.query = stored[:i], stored[i:]
	}
	p.origin = primaryOrigin(own)
	p.moved = !narrows(own, stored)
	return p
}

// narrows reports whether the primary URL stored is own without some of its
// parameters. If not, a rule of No-Vary-Search for own does not hold for
// stored: a parameter there may stand for a path or a tenant.
func narrows(own, stored string) bool {
	if own == stored {
		return true
	}
	path, sent, _ := strings.Cut(own, "?")
	same, kept, _ := strings.Cut(stored, "?")
	if path != same {
		return false
	}
	for part := range strings.SplitSeq(kept, "&") {
		for found := part == ""; !found; {
			var next string
			if sent == "" {
				return false
			}
			next, sent, _ = strings.Cut(sent, "&")
			found = next == part
		}
	}
	return true
}

// place returns where the response to x is stored.
func (x *exchange) place() place {
	req := x.req
	if x.own != nil {
		req = x.own
	}
	own := primaryURL(req.URL, req.Host)
	stored := own
	if x.rules.policy.URL != nil {
		stored = primaryURL(storedAs(&x.rules.policy, req))
	}
	return placeOf(x.rules.digest, own, stored)
}

// The first halves of the keys of notes. They also name what is invalidated, in
// ledgers and in the event log.

func (p *place) originNote() string { return p.digest.digest("origin", []byte(p.origin)) }

// originOf returns originNote for the origin that has sent r, which is stored
// at the place.
func (p *place) originOf(r *response) string {
	if from, ok := r.selecting[sentFrom]; ok {
		return from
	}
	return p.digest.origin(p.path)
}

func (p *place) pathNote() string { return p.digest.digest("path", []byte(p.path)) }
func (p *place) unmarked() string { return p.pathNote() + "!" } // the path, if its ledger could not be read
func (p *place) group(name string) string {
	return p.digest.digest("group", []byte(p.origin+"\n"+name))
}

// equals returns the name of all URLs that a rule makes equivalent to the
// place.
func (p *place) equals(rule urlsearch.Rule) (name string, ok bool) {
	form, ok := rule.Canonical(p.query)
	if !ok || p.moved {
		return "", false
	}
	return p.digest.digest("equals", []byte(p.path+"\n"+rule.String()+"\n"+form)), true
}

// allEquals returns the names of all URLs that one of the rules makes
// equivalent to the place.
func (p *place) allEquals(rules []string) (names []string) {
	for _, text := range rules {
		if rule, ok := urlsearch.Parse([]string{text}); ok {
			if name, ok := p.equals(rule); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// groups returns the names of groups.
func (p *place) groups(names []string) []string {
	digests := make([]string, len(names))
	for i, name := range names {
		digests[i] = p.group(name)
	}
	return digests
}

// forAll is the second half of the key of a note for all identities.
var forAll = sum{}.String()

// reader reads the entries of a key. If it is nil, they are looked up, which
// counts as use.
type reader func(key string) ([]*store.Entry, error)

// readBy reads the entries of a key.
func (x *exchange) readBy(read reader, key string) ([]*store.Entry, error) {
	if read != nil {
		return read(key)
	}
	return x.store().Entries(x.storeContext(), key)
}

// judged returns stored with those responses invalidated that an invalidation
// of a group, or of an equivalent URL, concerns. The caller must not change
// stored.
func (x *exchange) judged(stored []response, read reader) []response {
	judged, copied := stored, false
	var j judge
	for i := range stored {
		t := stored[i].ties()
		if t == nil {
			continue
		}
		if j.x == nil {
			j = judge{x: x, read: read, at: x.place()}
		}
		if at := j.invalidatedAt(&stored[i], t); at.After(stored[i].invalidatedAt) {
			if !copied {
				judged, copied = slices.Clone(stored), true
			}
			judged[i].invalidatedAt = at
		}
	}
	return judged
}

// judge compares stored responses of one place with its ledgers, each of which
// it reads once.
type judge struct {
	x            *exchange
	read         reader
	at           place
	origin, path *note
	known        [2]bool // they were read
}

func (j *judge) note(to **note, known *bool, name string) *ledger {
	if !*known {
		entries, err := j.x.readBy(j.read, name+forAll)
		if err != nil {
			j.x.storeFailed("look up", err)
		}
		*to, *known = noteOf(entries), true
	}
	if *to == nil {
		return nil
	}
	return &(*to).ledger
}

// invalidatedAt returns when r became invalid, zero if it did not.
func (j *judge) invalidatedAt(r *response, t *ties) (at time.Time) {
	latest := func(other time.Time) { at = later(at, other) }
	if t.grouped() && j.at.originOf(r) != j.at.originNote() {
		latest(r.requested.Add(1)) // groups are those of an origin; see sentFrom
	} else if t.grouped() {
		digests := j.at.groups(t.groups)
		latest(j.note(&j.origin, &j.known[0], j.at.originNote()).invalidatedAt(r.requested, digests, t.every))
		latest(j.x.invalidatedHere(r, append(digests, j.at.originNote())))
	}
	if t.equals {
		if digest, ok := j.at.equals(t.search); ok {
			latest(j.note(&j.path, &j.known[1], j.at.pathNote()).invalidatedAt(r.requested, []string{digest}, false))
			latest(j.x.invalidatedHere(r, []string{digest, j.at.unmarked()}))
		}
	}
	return at
}

// invalidatedHere returns when this Transport has invalidated one of the names
// since r was requested.
func (x *exchange) invalidatedHere(r *response, names []string) (at time.Time) {
	for _, name := range names {
		if here := x.t.events.InvalidatedAt(name); !here.IsZero() && !r.requested.After(here) && here.After(at) {
			at = here
		}
	}
	return at
}

// tiesInvalidatedSince reports whether this Transport may have invalidated r,
// as a member of a group or as the response of an equivalent URL, since the
// event with the given number.
func (x *exchange) tiesInvalidatedSince(number uint64, r *response) bool {
	t := r.ties()
	if t == nil {
		return false
	}
	at := x.place()
	names := at.groups(t.groups)
	if t.grouped() {
		names = append(names, at.originNote())
	}
	if digest, ok := at.equals(t.search); ok && t.equals {
		names = append(names, digest, at.pathNote()) // an unsafe request may not have known the rule
	}
	return slices.ContainsFunc(names, func(name string) bool { return x.t.events.InvalidatedSince(number, name) })
}

// updateNote changes a note. change gets nil if there is none. If it returns
// false, nothing is written.
func updateNote(ctx context.Context, update func(context.Context, string, func([]*store.Entry) []*store.Entry) error, key, about string, change func(*note) (note, bool)) error {
	return update(ctx, key, func(current []*store.Entry) []*store.Entry {
		next, changed := change(noteOf(current))
		if !changed {
			return current
		}
		return []*store.Entry{next.entry(key, about)}
	})
}

// ensureNote is updateNote for a note that mostly needs no change.
func ensureNote(ctx context.Context, s guard.Store, key, about string, change func(*note) (note, bool)) error {
	entries, err := s.Entries(ctx, key)
	if err != nil {
		return err
	}
	if _, changes := change(noteOf(entries)); !changes {
		return nil
	}
	return updateNote(ctx, s.Update, key, about, change)
}

// remembered returns list with s as its first element, of at most most
// elements. It returns false if s is there. dropped is true if an element had
// to go.
func remembered(list []string, s string, most int) (next []string, changed, dropped bool) {
	if slices.Contains(list, s) {
		return list, false, false
	}
	next = append([]string{s}, list[:min(len(list), most-1)]...)
	return next, true, len(list) >= most
}
