package debug

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

// This file makes the page of stored responses.

type storedPage struct {
	frame
	Sort     string `json:"sort,omitempty"`
	Matching int    `json:"matching,omitempty"` // entries that match the search; only if sorted
	Examined int    `json:"examined"`           // entries that were read for this page
	Partial  bool   `json:"partial,omitempty"`  // the time was up before all entries were read
	From     int    `json:"first,omitempty"`    // the place of the first entry, from 1; only if sorted
	Rows     []row  `json:"entries"`
	Next     string `json:"next,omitempty"`     // a link
	Previous string `json:"previous,omitempty"` // a link; only if sorted
	First    string `json:"-"`                  // a link, unless this is the first page
	Used     bool   `json:"-"`                  // the store records when an entry was last used
	NoStore  bool   `json:"-"`
}

// row is an entry in a listing.
type row struct {
	Key      string     `json:"key"`
	URL      string     `json:"url"`
	Method   string     `json:"method"`
	Variant  []string   `json:"variant"` // the request fields that select it, with their values
	Status   int        `json:"status"`
	Bytes    int64      `json:"bytes"`            // of the body, as stored
	Length   *int64     `json:"length,omitempty"` // of the complete body, if it is known
	Complete bool       `json:"complete"`
	Age      seconds    `json:"age_seconds"`
	State    string     `json:"state"`              // "fresh", "stale" or "check": to be validated before each use
	Left     *seconds   `json:"ttl_seconds"`        // how long it stays fresh; negative if it is stale, null if it must be validated
	Validate string     `json:"validate,omitempty"` // why it must be validated
	LastUse  *time.Time `json:"last_use,omitempty"`

	at time.Time
}

func (h *Handler) showStored(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	page := storedPage{frame: begin(r, "stored responses", "stored"), Sort: q.Get("sort"), Rows: []row{}}
	if h.cache.Store == nil {
		page.NoStore = true
		page.Error = "The Transport has no Store, so it stores nothing."
		show(w, r, http.StatusOK, "stored", page)
		return
	}
	order, known := parseOrder(page.Sort)
	if !known {
		fail(w, r, http.StatusBadRequest, "There is no such order. After sort= enter url, status, size, age, fresh or used, or one of them after a minus sign.")
		return
	}
	from := cursor{q.Get("at"), q.Get("after"), q.Has("back")}
	matches := matcher(page.Search)
	match := func(e *store.Entry) bool { return page.Search == "" || matches(h.redact(e.URL)) }
	var l listing
	var err error
	switch {
	case order != nil:
		l, err = h.sorted(ctx, order, from, page.At, match)
	case !isPrefix(from.At) || !isPrefix(from.After) || from.Back:
		err = errNoPage
	default:
		l, err = list(ctx, h.cache.Store, from, match)
	}
	if errors.Is(err, errNoPage) {
		fail(w, r, http.StatusBadRequest, "There is no such page. Go to the first page of the stored responses.")
		return
	}
	page.fill(&l, from)
	_, page.Used = h.cache.Store.(user)
	for _, e := range l.entries {
		page.Rows = append(page.Rows, h.row(e, page.At))
	}
	code := http.StatusOK
	if err != nil {
		code = http.StatusInternalServerError
		page.Error = "The store cannot be listed: " + err.Error() + "."
	}
	show(w, r, code, "stored", page)
}

// fill takes over what a listing says beside its entries.
func (p *storedPage) fill(l *listing, from cursor) {
	p.Examined, p.Partial = l.examined, l.partial
	if len(l.entries) > 0 {
		p.Matching, p.From = l.matching, l.first
	}
	link := func(c *cursor) string {
		if c == nil {
			return ""
		}
		back := ""
		if c.Back {
			back = "1"
		}
		return p.Link("view", "stored", "q", p.Search, "sort", p.Sort, "at", c.At, "after", c.After, "back", back)
	}
	p.Next, p.Previous = link(l.next), link(l.prev)
	if from != (cursor{}) {
		p.First = link(&cursor{})
	}
}

// Places says which of the matching entries a sorted page has.
func (p storedPage) Places() string {
	if p.From == 0 {
		return ""
	}
	return fmt.Sprintf("%s to %s of %s", count(uint64(p.From)), count(uint64(p.From+len(p.Rows)-1)), count(uint64(p.Matching)))
}

// heading is the heading of a column.
type heading struct{ Label, Link, Aria string }

// Heading returns the heading of a column, with a link that sorts by it, or
// that reverses the order.
func (p storedPage) Heading(label, name, first string) heading {
	head := heading{Label: label, Aria: "none"}
	next := first
	switch p.Sort {
	case name:
		head.Aria, next = "ascending", "-"+name
	case "-" + name:
		head.Aria, next = "descending", name
	}
	head.Link = p.Link("view", "stored", "q", p.Search, "sort", next)
	return head
}

func (h *Handler) row(e *store.Entry, now time.Time) row {
	f := cachetrip.FreshnessOf(e, now)
	r := row{
		Key: e.Key, URL: h.redact(e.URL), Method: e.Method, Status: e.Status, Variant: h.variant(e), Age: inSeconds(f.Age),
		Bytes: heldBytes(e), Complete: e.Complete() || e.Method == http.MethodHead, Validate: f.Validate, State: "check", at: now,
	}
	if e.Length >= 0 {
		r.Length = &e.Length
	}
	if f.Validate == "" {
		left := inSeconds(f.TTL())
		r.Left, r.State = &left, "stale"
		if f.TTL() > 0 {
			r.State = "fresh"
		}
	}
	if s, ok := h.cache.Store.(user); ok {
		if at := s.LastUse(e.Key).UTC(); !at.IsZero() {
			r.LastUse = &at
		}
	}
	return r
}

// user is a store that records when an entry was last used, such as
// [store.Disk].
type user interface{ LastUse(key string) time.Time }

// Held says how many bytes of the body are stored.
func (r row) Held() string {
	switch {
	case r.Method == http.MethodHead:
		return "none (HEAD)"
	case r.Complete:
		return size(r.Bytes)
	case r.Length == nil:
		return size(r.Bytes) + " of unknown"
	default:
		return size(r.Bytes) + " of " + size(*r.Length)
	}
}

// Fresh says whether the response is fresh.
func (r row) Fresh() string {
	switch {
	case r.Left == nil:
		return "to be validated: " + r.Validate
	case r.State == "stale":
		return "stale for " + r.Left.Text()
	default:
		return "fresh for " + r.Left.Text()
	}
}

// Until is when a fresh response becomes stale.
func (r row) Until() string {
	if r.State != "fresh" {
		return ""
	}
	return "until " + r.at.Add(time.Duration(*r.Left)*time.Second).UTC().Format("2006-01-02 15:04:05 UTC")
}

// Ago says how long ago the entry was last used.
func (r row) Ago() string {
	if r.LastUse == nil {
		return ""
	}
	return inSeconds(max(r.at.Sub(*r.LastUse), 0)).Text() + " ago"
}

func heldBytes(e *store.Entry) (n int64) {
	for _, p := range e.Parts {
		n += p.Length
	}
	return n
}

// variant names the request fields that select e, with their values unless the
// values are digests.
func (h *Handler) variant(e *store.Entry) []string {
	fields := []string{}
	for _, name := range slices.Sorted(maps.Keys(e.Selecting)) {
		if name == ":checked" || name == ":sent-from" {
			continue // notes about the response, which select nothing
		}
		value := "(a digest)"
		if !redact.Secret(name) {
			value = shorten(redact.Field(name, e.Selecting[name], h.opts.Unredacted))
		}
		fields = append(fields, shorten(name)+": "+value)
	}
	for _, name := range strings.Split(strings.Join(e.Header["Vary"], ","), ",") {
		name = http.CanonicalHeaderKey(strings.TrimSpace(name))
		if _, had := e.Selecting[name]; name != "" && !had {
			if name != "*" {
				name += ": none"
			}
			fields = append(fields, shorten(name))
		}
	}
	if len(fields) > 8 {
		fields = append(fields[:8], fmt.Sprintf("and %d more", len(fields)-8))
	}
	return fields
}
