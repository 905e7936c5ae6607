package debug

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/urlpattern"
)

// This file makes the overview and the page of decisions.

const (
	pageRows     = 50 // rows on a page
	overviewRows = 10 // decisions on the overview
)

// serve answers a request that is allowed.
func (h *Handler) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch view := q.Get("view"); {
	case q.Has("key"):
		h.showKey(ctx, w, r, q.Get("key"))
	case q.Has("explain"):
		h.showURL(ctx, w, r, q.Get("explain"))
	case view == "stored":
		h.showStored(ctx, w, r)
	case view == "decisions":
		h.showDecisions(w, r)
	case view == "":
		h.showOverview(w, r)
	default:
		fail(w, r, http.StatusNotFound, "There is no such view. The views are decisions and stored.")
	}
}

type overviewPage struct {
	frame
	Since     time.Time   `json:"since"`    // the time from which on everything is counted
	Requests  uint64      `json:"requests"` // the sum of Outcomes
	Outcomes  []outcome   `json:"outcomes"`
	Behind    uint64      `json:"background_revalidations"`
	Served    int64       `json:"bytes_from_cache"` // of bodies
	Received  int64       `json:"bytes_from_origins"`
	Kept      uint64      `json:"responses_stored"`
	Evicted   uint64      `json:"keys_evicted"`
	Store     *storeFacts `json:"store"` // null without a Store
	Faults    []fault     `json:"store_faults"`
	Decisions []decision  `json:"decisions"`
}

// outcome is one way in which requests were answered.
type outcome struct {
	Name    string  `json:"name"`
	Count   uint64  `json:"count"`
	Percent float64 `json:"-"`
	X       float64 `json:"-"` // where its part of the bar begins, in percent
}

type fault struct {
	Name  string `json:"name"`
	Note  string `json:"-"`
	Count uint64 `json:"count"`
}

// unanswered is the name for requests that no hook was called for.
const unanswered = "failed or under way"

func (h *Handler) showOverview(w http.ResponseWriter, r *http.Request) {
	counted := h.recent.count() // before the number of requests, which is not less then
	s := h.cache.Stats()
	page := overviewPage{
		frame: begin(r, "overview", ""), Since: h.started.UTC(), Requests: s.Requests,
		Behind: counted.background, Served: s.BytesServed, Received: s.BytesReceived, Kept: s.Stored, Evicted: s.Evictions,
		Store: h.storeFacts(), Faults: faults(s.StoreFaults),
	}
	page.refreshing(r)
	page.Outcomes = shares(counted.outcomes, s.Requests)
	page.Decisions, _ = h.recent.last(overviewRows, 0, func(string) bool { return true })
	if page.Decisions == nil {
		page.Decisions = []decision{}
	}
	show(w, r, http.StatusOK, "overview", page)
}

// shares returns how often each outcome occurred. Together they are all
// requests.
func shares(counts [len(outcomes)]uint64, requests uint64) []outcome {
	found := []outcome{}
	answered := uint64(0)
	for i, n := range counts {
		found = append(found, outcome{Name: outcomes[i], Count: n})
		answered += n
	}
	if requests > answered {
		found = append(found, outcome{Name: unanswered, Count: requests - answered})
	}
	x := 0.0
	for i := range found {
		o := &found[i]
		if requests > 0 {
			o.Percent = 100 * float64(o.Count) / float64(max(requests, answered))
		}
		o.X = x
		x += o.Percent
	}
	return found
}

func (o outcome) Share() string { return fmt.Sprintf("%.0f %%", o.Percent) }

func faults(f cachetrip.StoreFaults) []fault {
	found := []fault{}
	for _, fault := range []fault{
		{"full", "no space left, or the quota used up", f.Full},
		{"denied", "read-only, or not permitted", f.Denied},
		{"vanished", "removed while in use", f.Vanished},
		{"descriptors", "too many open files", f.Descriptors},
		{"obstructed", "something else in the way", f.Obstructed},
		{"too large", "larger than the system allows", f.TooLarge},
		{"locked", "another process held a lock too long", f.Locked},
		{"other", "", f.Other},
	} {
		if fault.Count > 0 {
			found = append(found, fault)
		}
	}
	return found
}

// storeFacts is what a store tells about itself. Each fact but Type needs an
// optional method of the store; see package store.
type storeFacts struct {
	Type     string `json:"type"`
	Dir      string `json:"dir,omitempty"`
	Bytes    *int64 `json:"bytes,omitempty"`
	MaxBytes *int64 `json:"max_bytes,omitempty"`
}

func (h *Handler) storeFacts() *storeFacts {
	if h.cache.Store == nil {
		return nil
	}
	facts := &storeFacts{Type: strings.TrimPrefix(fmt.Sprintf("%T", h.cache.Store), "*")}
	if s, ok := h.cache.Store.(interface{ Dir() string }); ok {
		facts.Dir = s.Dir()
	}
	if s, ok := h.cache.Store.(interface{ Bytes() int64 }); ok {
		n := s.Bytes()
		facts.Bytes = &n
	}
	if s, ok := h.cache.Store.(interface{ MaxBytes() int64 }); ok {
		n := s.MaxBytes()
		facts.MaxBytes = &n
	}
	return facts
}

// Percent says how much of the size limit is used; empty if that is not known.
func (s *storeFacts) Percent() string {
	if s.Bytes == nil || s.MaxBytes == nil || *s.MaxBytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %% used", 100*float64(*s.Bytes)/float64(*s.MaxBytes))
}

type decisionsPage struct {
	frame
	Decisions []decision `json:"decisions"`
	Next      string     `json:"next,omitempty"` // a link
	First     string     `json:"-"`              // a link, unless this is the first page
	Kept      int        `json:"-"`              // how many decisions are kept at most
}

func (h *Handler) showDecisions(w http.ResponseWriter, r *http.Request) {
	page := decisionsPage{frame: begin(r, "decisions", "decisions"), Kept: cap(h.recent.ring)}
	before, err := strconv.ParseUint(r.URL.Query().Get("before"), 10, 64)
	if r.URL.Query().Has("before") && err != nil {
		fail(w, r, http.StatusBadRequest, "There is no such page. The number after before= is that of a decision.")
		return
	}
	if before == 0 {
		page.refreshing(r)
	} else {
		page.First = page.Link("view", "decisions", "q", page.Search)
	}
	decisions, more := h.recent.last(pageRows, before, matcher(page.Search))
	page.Decisions = append([]decision{}, decisions...)
	if more > 0 {
		page.Next = page.Link("view", "decisions", "q", page.Search, "before", strconv.FormatUint(more, 10))
	}
	show(w, r, http.StatusOK, "decisions", page)
}

// matcher returns the function that matches URLs, as they are shown, with the
// text of a search. A text with a star is a pattern for the whole URL. Any
// other text may stand anywhere in it.
func matcher(text string) func(shown string) bool {
	text = strings.TrimSpace(text)
	if strings.Contains(text, "*") {
		return func(shown string) bool { return urlpattern.Match(text, shown) }
	}
	text = strings.ToLower(text)
	return func(shown string) bool { return text == "" || strings.Contains(strings.ToLower(shown), text) }
}
