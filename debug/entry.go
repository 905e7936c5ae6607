package debug

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

// This file makes the pages about one URL: the entries stored under a key, and
// the cache's decision about a request.

type entryPage struct {
	frame
	URL      string        `json:"url,omitempty"`
	Plan     []string      `json:"explanation,omitempty"` // of a GET of the URL that the user entered, without further fields
	Variants []variantPage `json:"entries"`
	Others   []other       `json:"others,omitempty"` // what is stored for other identities
}

type variantPage struct {
	row
	Request     time.Time  `json:"request_time"`
	Response    time.Time  `json:"response_time"`
	Invalidated *time.Time `json:"invalidated,omitempty"`
	Lifetime    seconds    `json:"lifetime_seconds"`
	From        string     `json:"lifetime_from,omitempty"` // "policy", "max-age", "expires" or "heuristic"
	Proto       string     `json:"protocol"`
	Fields      []fieldRow `json:"header"`
	Plan        []string   `json:"explanation,omitempty"` // of a request for this variant
}

type fieldRow struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
	Shown bool   `json:"shown"`
}

type other struct {
	Key     string   `json:"key"`
	Variant []string `json:"variant"`
}

// LifetimeFrom says in words where the lifetime comes from.
func (v variantPage) LifetimeFrom() string {
	return map[string]string{"": "none given", "policy": "by the program", "max-age": "by max-age", "expires": "by Expires", "heuristic": "by Last-Modified"}[v.From]
}

// showKey explains what is stored under a key.
func (h *Handler) showKey(ctx context.Context, w http.ResponseWriter, r *http.Request, key string) {
	page := entryPage{frame: begin(r, "stored response", ""), Variants: []variantPage{}}
	if h.cache.Store == nil || len(key) != keyDigits || !isPrefix(key) {
		page.Error = "There is no such entry. Choose one from the stored responses."
		show(w, r, http.StatusNotFound, "entry", page)
		return
	}
	for e, err := range h.cache.Store.All(ctx, key) {
		if err != nil {
			page.Error = "The store cannot be read: " + err.Error() + "."
			show(w, r, http.StatusInternalServerError, "entry", page)
			return
		}
		if e.IsNote() {
			continue
		}
		page.URL = h.redact(e.URL)
		v := h.variantPage(e, page.At)
		v.Plan = h.planFor(ctx, e)
		page.Variants = append(page.Variants, v)
	}
	if len(page.Variants) == 0 {
		page.Error = "Nothing is stored there any more: it was evicted, purged or replaced."
		show(w, r, http.StatusNotFound, "entry", page)
		return
	}
	show(w, r, http.StatusOK, "entry", page)
}

func (h *Handler) variantPage(e *store.Entry, now time.Time) variantPage {
	f := cachetrip.FreshnessOf(e, now)
	v := variantPage{
		row: h.row(e, now), Request: e.RequestTime.UTC(), Response: e.ResponseTime.UTC(),
		Lifetime: inSeconds(f.Lifetime), From: f.LifetimeFrom, Proto: shorten(e.Proto), Fields: []fieldRow{},
	}
	if !e.InvalidatedAt.IsZero() {
		at := e.InvalidatedAt.UTC()
		v.Invalidated = &at
	}
	for _, name := range slices.Sorted(maps.Keys(e.Header)) {
		value, shown := h.field(name, e.Header[name])
		v.Fields = append(v.Fields, fieldRow{shorten(name), value, shown})
		if len(v.Fields) == 100 {
			break
		}
	}
	return v
}

// planFor explains what a request for the variant e would do.
func (h *Handler) planFor(ctx context.Context, e *store.Entry) (plan []string) {
	req, err := http.NewRequestWithContext(ctx, e.Method, e.URL, nil)
	if err != nil {
		return nil
	}
	for name, value := range e.Selecting {
		if !redact.Secret(name) && !strings.HasPrefix(name, ":") { // the request line, which is not a field
			req.Header[name] = []string{value}
		}
	}
	explained, err := h.cache.Explain(req)
	if err != nil {
		return []string{"It cannot be explained: " + err.Error()}
	}
	if !slices.ContainsFunc(explained.Stored, func(s cachetrip.StoredResponse) bool { return s.Entry.Key == e.Key }) {
		plan = append(plan, "It is stored for an identity, such as an Authorization value, that this page does not have. A request without it:")
	}
	return append(plan, sentences(&explained)...)
}

// showURL explains what a GET of a URL would do.
func (h *Handler) showURL(ctx context.Context, w http.ResponseWriter, r *http.Request, rawURL string) {
	rawURL = strings.TrimSpace(rawURL)
	page := entryPage{frame: begin(r, "explained", ""), Variants: []variantPage{}}
	page.Explain = shorten(redact.URL(rawURL, true)) // what the user has entered stays in the form
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil || req.URL.Host == "" || req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		page.Error = "Enter an absolute URL, such as https://example.com/."
		show(w, r, http.StatusBadRequest, "entry", page)
		return
	}
	page.URL = h.redact(rawURL)
	explained, err := h.cache.Explain(req)
	if err != nil {
		page.Error = "The URL cannot be explained: " + err.Error() + "."
		show(w, r, http.StatusInternalServerError, "entry", page)
		return
	}
	page.Plan = sentences(&explained)
	for _, s := range explained.Stored {
		page.Variants = append(page.Variants, h.variantPage(s.Entry, page.At))
	}
	for _, e := range explained.Others[:min(len(explained.Others), pageRows)] {
		page.Others = append(page.Others, other{e.Key, h.variant(e)})
	}
	show(w, r, http.StatusOK, "entry", page)
}

// sentences returns an explanation. Sentences that are too long are cut.
func sentences(e *cachetrip.Explanation) []string {
	lines := e.Sentences()
	for i := range lines {
		lines[i] = shorten(lines[i])
	}
	return lines
}
