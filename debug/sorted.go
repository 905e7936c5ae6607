package debug

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// This file lists a store one page at a time, in the order of a column. Each
// page reads the whole store and keeps the entries that it shows.

// sortTime limits the reading of the store for a sorted page. After it, the
// page has the entries that were read so far: a random part, because keys are
// digests.
const sortTime = 2 * time.Second

// listing is a part of what a store holds.
type listing struct {
	entries    []*store.Entry
	examined   int     // entries that were read
	next, prev *cursor // where the pages beside this one begin; nil if there are none

	// Only of a sorted page:
	first    int  // the place of the first entry among those that match, from 1
	matching int  // the entries that match
	partial  bool // the time was up
}

// place is the place of an entry in a sorted listing.
type place struct {
	number int64  // the value of the column
	text   string // the value of the column, if that is a text
	key    string
	n      int // the number of the entry among those of its key
	entry  *store.Entry
}

func (p *place) compare(q *place) int {
	return cmp.Or(cmp.Compare(p.number, q.number), cmp.Compare(p.text, q.text), cmp.Compare(p.key, q.key), cmp.Compare(p.n, q.n))
}

// column is a column that entries can be sorted by.
type column struct {
	name   string
	isText bool
	value  func(h *Handler, e *store.Entry, now time.Time) (int64, string)
}

// columns are the values of "sort" in a query. The smallest values come first:
// a small age, a short time until a response is stale, a recent use.
var columns = []column{
	{"url", true, func(h *Handler, e *store.Entry, _ time.Time) (int64, string) { return 0, h.redact(e.URL) }},
	{"status", false, func(_ *Handler, e *store.Entry, _ time.Time) (int64, string) { return int64(e.Status), "" }},
	{"size", false, func(_ *Handler, e *store.Entry, _ time.Time) (int64, string) { return heldBytes(e), "" }},
	{"age", false, func(_ *Handler, e *store.Entry, now time.Time) (int64, string) {
		return -e.ResponseTime.Add(-cachetrip.FreshnessOf(e, now).InitialAge).UnixNano(), ""
	}},
	{"fresh", false, func(_ *Handler, e *store.Entry, now time.Time) (int64, string) {
		f := cachetrip.FreshnessOf(e, now)
		if f.Validate != "" {
			return 0, ""
		}
		return e.ResponseTime.Add(f.Lifetime - f.InitialAge).UnixNano(), ""
	}},
	{"used", false, func(h *Handler, e *store.Entry, _ time.Time) (int64, string) {
		if s, ok := h.cache.Store.(user); ok {
			return -s.LastUse(e.Key).UnixNano(), ""
		}
		return 0, ""
	}},
}

// order is the order of a listing; nil is that of the keys.
type order struct {
	column
	descending bool
}

// parseOrder reads the value of "sort" in a query, such as "-size". It returns
// false if there is no such order.
func parseOrder(text string) (*order, bool) {
	if text == "" {
		return nil, true
	}
	name, descending := strings.CutPrefix(text, "-")
	for _, c := range columns {
		if c.name == name {
			return &order{c, descending}, true
		}
	}
	return nil, false
}

var errNoPage = errors.New("there is no such page")

// locate returns the place that a cursor names.
func (o *order) locate(c cursor) (*place, error) {
	if c.At == "" && c.After == "" && !c.Back {
		return nil, nil
	}
	key, n, _ := strings.Cut(c.After, ".")
	number, err := strconv.Atoi(n)
	if err != nil || len(key) != keyDigits || !isPrefix(key) {
		return nil, errNoPage
	}
	p := &place{key: key, n: number, text: c.At}
	if !o.isText {
		p.text = ""
		if p.number, err = strconv.ParseInt(c.At, 10, 64); err != nil {
			return nil, errNoPage
		}
	}
	return p, nil
}

func (o *order) cursor(p *place, back bool) *cursor {
	c := &cursor{At: p.text, After: p.key + "." + strconv.Itoa(p.n), Back: back}
	if !o.isText {
		c.At = strconv.FormatInt(p.number, 10)
	}
	return c
}

// sorted returns the page of matching entries that begins, or ends, at from.
func (h *Handler) sorted(ctx context.Context, o *order, from cursor, now time.Time, match func(*store.Entry) bool) (listing, error) {
	var l listing
	at, err := o.locate(from)
	if err != nil {
		return l, err
	}
	direction := 1
	if o.descending {
		direction = -1
	}
	toward := direction // in which the page is collected, away from its cursor
	if from.Back {
		toward = -direction
	}
	kept := nearest{n: pageRows, compare: func(p, q *place) int { return toward * p.compare(q) }}
	before := 0 // entries before the cursor, and that at it
	beyond := 0 // entries on the side of the cursor where the page is
	last := ""
	n := 0
	started := time.Now()
	for e, err := range h.cache.Store.All(ctx, "") {
		if err != nil {
			return l, err
		}
		if n++; e.Key != last {
			last, n = e.Key, 0
		}
		if l.examined++; l.examined%256 == 0 && time.Since(started) > sortTime {
			l.partial = true
			break
		}
		if e.IsNote() || !match(e) {
			continue
		}
		l.matching++
		p := place{key: e.Key, n: n, entry: e}
		p.number, p.text = o.value(h, e, now)
		if at != nil && direction*p.compare(at) <= 0 {
			before++
		}
		if at == nil || toward*p.compare(at) > 0 {
			beyond++
			kept.add(p)
		}
	}
	o.fill(&l, kept.sorted(), from.Back, before, beyond)
	return l, nil
}

// fill puts the places of a page into l, and the links to the pages beside it.
func (o *order) fill(l *listing, places []place, back bool, before, beyond int) {
	rest := beyond > len(places) // there is more in the direction in which they were collected
	l.first = before + 1
	if back {
		slices.Reverse(places)
		l.first = beyond - len(places) + 1
	}
	if len(places) == 0 {
		return
	}
	for i := range places {
		l.entries = append(l.entries, places[i].entry)
	}
	if l.first > 1 {
		l.prev = o.cursor(&places[0], true)
	}
	if back || rest {
		if last := &places[len(places)-1]; l.first+len(places)-1 < l.matching {
			l.next = o.cursor(last, false)
		}
	}
}

// nearest keeps the n smallest of the places that are added, and at most n more
// until they are sorted.
type nearest struct {
	n       int
	compare func(p, q *place) int
	places  []place
}

func (k *nearest) add(p place) {
	k.places = append(k.places, p)
	if len(k.places) == 2*k.n {
		k.places = k.sorted()
	}
}

// sorted returns what is kept, in order.
func (k *nearest) sorted() []place {
	slices.SortFunc(k.places, func(p, q place) int { return k.compare(&p, &q) })
	if len(k.places) > k.n {
		clear(k.places[k.n:]) // so that their entries are not kept
		k.places = k.places[:k.n]
	}
	return k.places
}
