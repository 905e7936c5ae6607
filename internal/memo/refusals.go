package memo

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// refusalTime is for how long a refusal is remembered. If the refusal had
	// another cause, this costs one body that a 304 would have saved.
	refusalTime = 10 * time.Minute

	// refusingURLs is how many URLs of an origin have to refuse the same extra
	// before all of its URLs are expected to.
	refusingURLs = 3

	// maxRefusals limits the URLs and origins that are remembered. Forgetting
	// one costs one more request.
	maxRefusals = 4096
)

// Extra names something that the cache adds to a request of its caller.
type Extra string

const (
	Conditions Extra = "conditions" // preconditions that validate a stored response
	Range      Extra = "range"      // Range and If-Range, for the rest of a partial response
)

// Refusals remembers which URLs and origins refuse extras. Its zero value is
// ready for use. It is safe for concurrent use.
type Refusals struct {
	used atomic.Bool // most programs never meet such an origin
	mu   sync.Mutex
	by   map[refusalKey]refusal
}

// refusalKey is an extra and a URL, or an extra and an origin.
type refusalKey struct {
	extra Extra
	where string
}

type refusal struct {
	until  time.Time
	helped bool // the request was answered differently without the extra
	urls   int  // for an origin: how many of its URLs refused the extra
}

// Any reports whether any refusals are remembered. Without any, Expects is
// false for all.
func (rs *Refusals) Any() bool { return rs.used.Load() }

// Expects reports whether a request with the extra for a URL of an origin would
// be refused, as far as is known.
func (rs *Refusals) Expects(what Extra, url, origin string, now time.Time) bool {
	if !rs.used.Load() {
		return false
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if now.Before(rs.by[refusalKey{what, url}].until) {
		return true
	}
	whole := rs.by[refusalKey{what, origin}]
	return whole.urls >= refusingURLs && now.Before(whole.until)
}

// Note remembers that a request with the extra was refused. helped says whether
// its repetition without the extra was answered differently. origin is empty if
// the refusal tells nothing about other URLs of the origin.
func (rs *Refusals) Note(what Extra, url, origin string, helped bool, now time.Time) {
	rs.used.Store(true)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.by == nil || len(rs.by) >= maxRefusals {
		rs.by = make(map[refusalKey]refusal)
	}
	until := now.Add(refusalTime)
	rs.by[refusalKey{what, url}] = refusal{until: until, helped: helped}
	if !helped || origin == "" {
		return
	}
	whole := rs.by[refusalKey{what, origin}]
	if !now.Before(whole.until) {
		whole = refusal{}
	}
	whole.until = until
	whole.urls++
	rs.by[refusalKey{what, origin}] = whole
}

// Relent is called when the origin answers the URL again. It forgets the
// refusals of the URL that the extra had not caused.
func (rs *Refusals) Relent(url string) {
	if !rs.used.Load() {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, what := range [...]Extra{Conditions, Range} {
		key := refusalKey{what, url}
		if known, ok := rs.by[key]; ok && !known.helped {
			delete(rs.by, key)
		}
	}
}
