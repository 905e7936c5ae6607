package debug

import (
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// This file records the last decisions: the hooks of a Trace fill a ring.

// outcomes lists the ways to answer a request, in the order of the bar.
var outcomes = [...]string{"hit", "stale hit", "revalidated", "collapsed", "miss", "refused"}

// decision is one event that a hook reported. URLs are redacted before they are
// kept.
type decision struct {
	Number     uint64    `json:"number"` // counts the decisions from 1
	At         time.Time `json:"at"`
	What       string    `json:"outcome"` // one of outcomes, or "not stored", "store error"
	Method     string    `json:"method"`
	URL        string    `json:"url"`
	Code       int       `json:"status,omitempty"` // 0 if there is none
	Detail     string    `json:"reason,omitempty"`
	Background bool      `json:"background,omitempty"`
	Key        string    `json:"key,omitempty"` // of the stored response; empty if none is known
}

type recorder struct {
	redact func(*url.URL) string

	mu     sync.Mutex
	ring   []decision // once the ring is full, the oldest decision is at next
	next   int
	number uint64 // of the last decision
	counts counts
}

// counts are the requests that were answered, by outcome.
type counts struct {
	outcomes   [len(outcomes)]uint64
	background uint64 // revalidations that no caller waited for; not among outcomes
}

func newRecorder(size int, redact func(*url.URL) string) *recorder {
	return &recorder{redact: redact, ring: make([]decision, 0, size)}
}

// add stores d, in place of the oldest decision if the ring is full.
func (r *recorder) add(outcome int, d decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case outcome >= 0 && d.Background:
		r.counts.background++
	case outcome >= 0:
		r.counts.outcomes[outcome]++
	}
	r.number++
	d.Number = r.number
	switch {
	case len(r.ring) < cap(r.ring):
		r.ring = append(r.ring, d)
	case len(r.ring) > 0:
		r.ring[r.next] = d
		r.next = (r.next + 1) % len(r.ring)
	}
}

// last returns at most n decisions that match, the latest first, beginning with
// those before the given number if that is not 0. more is the number to go on
// with, or 0 if there are no more.
func (r *recorder) last(n int, before uint64, match func(url string) bool) (found []decision, more uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ring {
		d := &r.ring[(r.next+len(r.ring)-1-i)%len(r.ring)]
		switch {
		case before != 0 && d.Number >= before || !match(d.URL):
		case len(found) == n:
			return found, found[n-1].Number
		default:
			found = append(found, *d)
		}
	}
	return found, 0
}

func (r *recorder) count() counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

// about returns a decision on a request.
func (r *recorder) about(req *http.Request, what string) decision {
	d := decision{At: time.Now(), What: what, Method: req.Method}
	if d.Method == "" {
		d.Method = http.MethodGet
	}
	d.Method = shorten(d.Method)
	if req.URL != nil {
		d.URL = r.redact(req.URL)
	}
	return d
}

func (r *recorder) trace() *cachetrip.Trace {
	answered := func(outcome int) func(cachetrip.AnswerInfo) {
		return func(info cachetrip.AnswerInfo) {
			d := r.about(info.Request, outcomes[outcome])
			d.Background = info.Background
			if info.Response != nil {
				d.Code = info.Response.StatusCode
			}
			d.Detail = reason(info.Status)
			if s := info.Status; s.Hit || s.Revalidated || s.Stored || s.Collapsed {
				d.Key = info.Key
			}
			r.add(outcome, d)
		}
	}
	return &cachetrip.Trace{
		Hit: answered(0), StaleHit: answered(1), Revalidated: answered(2),
		Collapsed: answered(3), Miss: answered(4), Refused: answered(5),
		NotStored: func(info cachetrip.StoreInfo) {
			d := r.about(info.Request, "not stored")
			d.Code, d.Background, d.Detail = info.StatusCode, info.Background, words(info.Reason)
			r.add(-1, d)
		},
		StoreError: func(info cachetrip.StoreErrorInfo) {
			d := r.about(info.Request, "store error")
			d.Detail = info.Op + ": " + store.CauseOf(info.Err).String() // the error may contain file names
			r.add(-1, d)
		},
	}
}

// reason says why a request had its outcome, if the outcome alone does not say
// it.
func reason(s cachetrip.Status) string {
	forwarded := map[string]string{
		"uri-miss": "nothing is stored for the URL", "vary-miss": "no stored variant matches the request",
		"miss": "no stored response could be used", "stale": "the stored response is stale", "partial": "only a part was stored",
		"method": "the cache does not answer this method", "bypass": "the request does not concern the cache", "request": "the request asks for validation",
	}[s.Fwd]
	switch detail := words(s.Detail); {
	case detail == "", s.Fwd == "uri-miss", s.Fwd == "vary-miss": // the detail explains why the response was not stored, and NotStored records that on a line of its own
		return forwarded
	default:
		return detail
	}
}

func words(detail string) string {
	if text := cachetrip.ReasonText(detail); text != "" {
		return text
	}
	return detail
}

// join returns a trace that calls the hooks of a, and then those of b if b is
// not nil.
func join(a, b *cachetrip.Trace) *cachetrip.Trace {
	if b == nil {
		return a
	}
	return &cachetrip.Trace{
		Hit: both(a.Hit, b.Hit), StaleHit: both(a.StaleHit, b.StaleHit), Revalidated: both(a.Revalidated, b.Revalidated),
		Collapsed: both(a.Collapsed, b.Collapsed), Miss: both(a.Miss, b.Miss), Refused: both(a.Refused, b.Refused),
		Stored: both(a.Stored, b.Stored), NotStored: both(a.NotStored, b.NotStored),
		StoreError: both(a.StoreError, b.StoreError), Evicted: both(a.Evicted, b.Evicted),
	}
}

func both[T any](a, b func(T)) func(T) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(info T) { a(info); b(info) }
}
