package debug

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/duration"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

//go:embed page.css
var style string

//go:embed page.html
var markup string

var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"style": func() template.CSS { return template.CSS(style) },
}).Parse(markup))

// contentSecurityPolicy allows nothing but the page's own style.
var contentSecurityPolicy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// show writes a page, or the error if it could not be made.
func show(w http.ResponseWriter, code int, name string, data any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	w.Write(b.Bytes())
}

type tile struct{ Name, Value, Note string }

type segment struct {
	Class, Name string
	Count       uint64
	X, Width    float64 // in hundredths
}

type overview struct {
	At        string
	Host      string
	Tiles     []tile
	Faults    []tile
	Bar       []segment
	Decisions []decisionRow
	Rows      []row
	Used      bool // the store records when an entry was last used
	Scanned   int
	Next      *cursor
	First     bool // this is the first one
	NoStore   bool
	Err       error
}

type decisionRow struct {
	decision
	Time, Class string
}

// row is an entry in a listing.
type row struct {
	Key, URL, Host     string
	Method             string
	Variant            []string
	Status             int
	Size, Age, LastUse string
	State              string // "fresh", "stale" or "check"
	Fresh, Until       string
}

func (h *Handler) overview(ctx context.Context, w http.ResponseWriter, from cursor, host string) {
	now := time.Now()
	decisions, counts := h.recent.last(host)
	o := overview{At: now.UTC().Format(time.RFC3339), Host: shorten(host), First: from == cursor{}}
	o.Bar, o.Tiles, o.Faults = summary(h.cache.Stats(), counts)
	for _, d := range decisions {
		o.Decisions = append(o.Decisions, decisionRow{d, d.At.UTC().Format("15:04:05"), strings.ReplaceAll(d.What, " ", "-")})
	}
	if h.cache.Store == nil {
		o.NoStore = true
		show(w, http.StatusOK, "overview", o)
		return
	}
	if !isPrefix(from.At) || !isPrefix(from.After) {
		http.Error(w, "There is no such page.", http.StatusBadRequest)
		return
	}
	p, err := list(ctx, h.cache.Store, from, func(e *store.Entry) bool { return host == "" || hostOf(e.URL) == host })
	o.Err, o.Scanned, o.Next = err, p.scanned, p.next
	_, o.Used = h.cache.Store.(user)
	for _, e := range p.entries {
		o.Rows = append(o.Rows, h.row(e, now))
	}
	show(w, http.StatusOK, "overview", o)
}

func summary(s cachetrip.Stats, counts [len(outcomes)]uint64) (bar []segment, tiles, faults []tile) {
	var answered uint64
	for _, n := range counts {
		answered += n
	}
	x := 0.0
	for i, n := range counts {
		if n == 0 {
			continue
		}
		width := 100 * float64(n) / float64(answered)
		bar = append(bar, segment{strings.ReplaceAll(outcomes[i], " ", "-"), outcomes[i], n, x, width})
		x += width
	}
	share := "of none yet"
	if s.Requests > 0 {
		share = fmt.Sprintf("%.0f %% of all", 100*float64(s.Hits)/float64(s.Requests))
	}
	tiles = []tile{
		{"requests", count(s.Requests), ""},
		{"hits", count(s.Hits), share},
		{"stale", count(s.StaleHits), "served stale"},
		{"revalidated", count(s.Revalidations), "by a 304"},
		{"collapsed", count(s.Collapsed), "shared a download"},
		{"misses", count(s.Misses), ""},
		{"from the cache", size(s.BytesServed), "of bodies"},
		{"from origins", size(s.BytesReceived), "of bodies"},
		{"stored", count(s.Stored), "responses"},
		{"evicted", count(s.Evictions), "to stay within the size limit"},
	}
	f := s.StoreFaults
	for _, fault := range []struct {
		name, note string
		n          uint64
	}{
		{"full", "no space left, or the quota used up", f.Full},
		{"denied", "read-only, or not permitted", f.Denied},
		{"vanished", "taken away while in use", f.Vanished},
		{"descriptors", "too many open files", f.Descriptors},
		{"obstructed", "something else in the way", f.Obstructed},
		{"too large", "larger than the system allows", f.TooLarge},
		{"other", "", f.Other},
	} {
		if fault.n > 0 {
			faults = append(faults, tile{fault.name, count(fault.n), fault.note})
		}
	}
	return bar, tiles, faults
}

func (h *Handler) row(e *store.Entry, now time.Time) row {
	f := cachetrip.FreshnessOf(e, now)
	r := row{
		Key: e.Key, URL: h.redact(e.URL), Host: hostOf(e.URL),
		Method: e.Method, Status: e.Status, Variant: h.variant(e), Age: span(f.Age), Size: held(e),
	}
	r.State, r.Fresh, r.Until = state(f, now)
	if s, ok := h.cache.Store.(user); ok {
		if at := s.LastUse(e.Key); !at.IsZero() {
			r.LastUse = span(max(now.Sub(at), 0)) + " ago"
		}
	}
	return r
}

// user is a store that records when an entry was last used, such as
// [store.Disk].
type user interface{ LastUse(key string) time.Time }

// state says whether a response is fresh, and until when.
func state(f cachetrip.Freshness, now time.Time) (class, text, until string) {
	switch ttl := f.TTL(); {
	case f.Validate != "":
		return "check", "to be validated: " + f.Validate, ""
	case ttl <= 0:
		return "stale", "stale for " + span(-ttl), ""
	default:
		return "fresh", "for " + span(ttl), now.Add(ttl).UTC().Format(time.RFC3339)
	}
}

// variant names the request fields that select e, with their values unless those are digests.
func (h *Handler) variant(e *store.Entry) []string {
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(e.Selecting)) {
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

type keyPage struct {
	At       string
	URL      string
	Asked    bool     // about a URL that the user entered
	Plan     []string // the explanation for a request without further fields
	Variants []variantPage
	Others   int // stored for other identities
	Err      string
}

type variantPage struct {
	row
	Facts  []tile
	Fields []fieldRow
	Plan   []string // the explanation for a request for this variant
}

type fieldRow struct {
	Name, Value string
	Shown       bool
}

// showKey explains what is stored under a key.
func (h *Handler) showKey(ctx context.Context, w http.ResponseWriter, key string) {
	now := time.Now()
	page := keyPage{At: now.UTC().Format(time.RFC3339)}
	if h.cache.Store == nil || len(key) != keyDigits || !isPrefix(key) {
		page.Err = "There is no such entry."
		show(w, http.StatusNotFound, "key", page)
		return
	}
	for e, err := range h.cache.Store.All(ctx, key) {
		if err != nil {
			page.Err = err.Error()
			show(w, http.StatusInternalServerError, "key", page)
			return
		}
		page.URL = h.redact(e.URL)
		page.Variants = append(page.Variants, h.variantPage(ctx, e, now))
	}
	if len(page.Variants) == 0 {
		page.Err = "Nothing is stored there any more."
		show(w, http.StatusNotFound, "key", page)
		return
	}
	show(w, http.StatusOK, "key", page)
}

func (h *Handler) variantPage(ctx context.Context, e *store.Entry, now time.Time) variantPage {
	f := cachetrip.FreshnessOf(e, now)
	v := variantPage{row: h.row(e, now)}
	v.Facts = []tile{
		moment("request", e.RequestTime),
		moment("response", e.ResponseTime),
		{"age", span(f.Age), ""},
		{"lifetime", span(f.Lifetime), map[string]string{"": "none given", "max-age": "by max-age", "expires": "by Expires", "heuristic": "by Last-Modified"}[f.LifetimeFrom]},
		{"body", v.Size, ""},
		{"protocol", shorten(e.Proto), ""},
	}
	if !e.InvalidatedAt.IsZero() {
		v.Facts = append(v.Facts, moment("invalidated", e.InvalidatedAt))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Header)) {
		value, shown := h.field(name, e.Header[name])
		v.Fields = append(v.Fields, fieldRow{shorten(name), value, shown})
		if len(v.Fields) == 100 {
			break
		}
	}
	req, err := http.NewRequestWithContext(ctx, e.Method, e.URL, nil)
	if err != nil {
		return v
	}
	for name, value := range e.Selecting {
		if !redact.Secret(name) && !strings.HasPrefix(name, ":") { // the request line, which is not a field
			req.Header[name] = []string{value}
		}
	}
	explained, err := h.cache.Explain(req)
	if err != nil {
		v.Plan = []string{"It can't be explained: " + err.Error()}
		return v
	}
	if !slices.ContainsFunc(explained.Stored, func(s cachetrip.StoredResponse) bool { return s.Entry.Key == e.Key }) {
		v.Plan = append(v.Plan, "It is stored for an identity, such as an Authorization value, that this page does not have. A request without it:")
	}
	v.Plan = append(v.Plan, sentences(&explained)...)
	return v
}

func moment(name string, at time.Time) tile {
	at = at.UTC()
	return tile{name, at.Format("15:04:05"), at.Format("2006-01-02, UTC")}
}

// showURL explains what a GET of a URL would do.
func (h *Handler) showURL(ctx context.Context, w http.ResponseWriter, rawURL string) {
	now := time.Now()
	page := keyPage{At: now.UTC().Format(time.RFC3339), Asked: true, URL: h.redact(rawURL)}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSpace(rawURL), nil)
	if err != nil || req.URL.Host == "" {
		page.Err = "That is no URL with a host."
		show(w, http.StatusBadRequest, "key", page)
		return
	}
	explained, err := h.cache.Explain(req)
	if err != nil {
		page.Err = err.Error()
		show(w, http.StatusInternalServerError, "key", page)
		return
	}
	page.Plan, page.Others = sentences(&explained), len(explained.Others)
	for _, s := range explained.Stored {
		page.Variants = append(page.Variants, h.variantPage(ctx, s.Entry, now))
	}
	show(w, http.StatusOK, "key", page)
}

// sentences returns an explanation without the sentences that the page leaves
// out.
func sentences(e *cachetrip.Explanation) []string {
	lines := e.Sentences()
	for i := range lines {
		lines[i] = shorten(lines[i])
	}
	return lines
}

// held says how many bytes of a body are stored.
func held(e *store.Entry) string {
	if e.Method == http.MethodHead {
		return "none (HEAD)"
	}
	var n int64
	for _, p := range e.Parts {
		n += p.Length
	}
	switch {
	case e.Complete():
		return size(n)
	case e.Length < 0:
		return size(n) + " of unknown"
	default:
		return size(n) + " of " + size(e.Length)
	}
}

func count(n uint64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n), []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	for _, unit := range units {
		if f /= 1000; f < 999.5 {
			return fmt.Sprintf("%.3g %s", f, unit)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// span formats a duration by the two largest of its units.
func span(d time.Duration) string {
	if d >= 100*365*24*time.Hour {
		return "ever"
	}
	return duration.Format(d, " ")
}
