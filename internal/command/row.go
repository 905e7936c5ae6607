package command

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

// row is a listed response. Later versions may add members to its JSON form,
// but never remove any.
type row struct {
	ID           string            `json:"id"`  // may stand for the response in all commands
	URL          string            `json:"url"` // without the values in its query, unless --show-query is given
	Method       string            `json:"method"`
	Status       int               `json:"status"`
	Variant      map[string]string `json:"variant,omitempty"`  // the values of the fields that Vary names, in the stored response's request
	Identity     string            `json:"identity,omitempty"` // a digest of the identity that made the request
	Bytes        int64             `json:"bytes"`              // stored bytes of the body
	Length       int64             `json:"length"`             // of the complete body; -1 if unknown
	Complete     bool              `json:"complete"`
	Received     time.Time         `json:"received"` // stored, or last validated
	AgeSeconds   int64             `json:"age_seconds"`
	Lifetime     int64             `json:"lifetime_seconds"`
	LifetimeFrom string            `json:"lifetime_from,omitempty"` // source of the lifetime: policy, max-age, expires or heuristic
	Fresh        bool              `json:"fresh"`
	FreshUntil   *time.Time        `json:"fresh_until,omitempty"` // absent if the response must always be validated
	Validate     string            `json:"validate,omitempty"`    // why the response must always be validated
	LastUse      *time.Time        `json:"last_use,omitempty"`
	ETag         string            `json:"etag,omitempty"`
	LastModified string            `json:"last_modified,omitempty"`
	ContentType  string            `json:"content_type,omitempty"`

	hidden bool // values in the query of URL are hidden
}

func newRow(e *store.Entry, now, lastUse time.Time, showQuery bool) row {
	f := cachetrip.FreshnessOf(e, now)
	url := redact.URL(e.URL, showQuery)
	if url == "" {
		url = "(encrypted)" // by the program that stored the response
	}
	r := row{
		ID:           idOf(e),
		URL:          url,
		Method:       e.Method,
		Status:       e.Status,
		Variant:      selecting(e, showQuery),
		Identity:     identity(e.Key),
		Bytes:        heldBytes(e),
		Length:       e.Length,
		Complete:     e.Complete() || e.Method == http.MethodHead,
		Received:     e.ResponseTime.UTC(),
		AgeSeconds:   int64(f.Age / time.Second),
		Lifetime:     int64(f.Lifetime / time.Second),
		LifetimeFrom: f.LifetimeFrom,
		Fresh:        f.Fresh(),
		Validate:     f.Validate,
		ETag:         e.Header.Get("ETag"),
		LastModified: e.Header.Get("Last-Modified"),
		ContentType:  e.Header.Get("Content-Type"),
	}
	r.hidden = hides(e, new(own), showQuery)
	if f.Validate == "" {
		until := now.Add(f.TTL()).UTC().Truncate(time.Second)
		r.FreshUntil = &until
	}
	if !lastUse.IsZero() {
		lastUse = lastUse.UTC()
		r.LastUse = &lastUse
	}
	return r
}

// digest is a value of which the cache keeps only a digest.
var digest = regexp.MustCompile(`^[0-9a-f]{32}$`)

// selecting returns the selecting fields of the request for e. The cache keeps
// only a digest of a value that may be a secret. The digest is shown, so that
// variants can be told apart.
func selecting(e *store.Entry, showQuery bool) map[string]string {
	shown := make(map[string]string, len(e.Selecting))
	for name, value := range e.Selecting {
		if !digest.MatchString(value) {
			value = redact.Field(name, value, showQuery)
		}
		shown[name] = value
	}
	return shown
}

// identity returns the part of a key that stands for the identity; empty if the
// request had none.
func identity(key string) string {
	if id := key[len(key)/2:]; strings.Trim(id, "0") != "" {
		return id
	}
	return ""
}

func heldBytes(e *store.Entry) (n int64) {
	for _, part := range e.Parts {
		n += part.Length
	}
	return n
}

// variant returns the values by which a response differs from others of its
// URL.
func variant(r row) string {
	var parts []string
	if r.Method != http.MethodGet {
		parts = append(parts, r.Method)
	}
	if r.Identity != "" {
		parts = append(parts, "identity "+r.Identity[:8])
	}
	names := make([]string, 0, len(r.Variant))
	for name := range r.Variant {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parts = append(parts, name+": "+r.Variant[name])
	}
	return printable(strings.Join(parts, "; "))
}
