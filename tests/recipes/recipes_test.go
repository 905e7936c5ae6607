package recipes_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
)

// The code of docs/recipes.md. use has what the page shows as single
// statements.

// lifetimes has patterns of net/http, and for how long the matching responses
// are fresh. The most specific pattern wins.
var lifetimes = map[string]time.Duration{
	"api.example.com/":             time.Hour,
	"api.example.com/rates/{pair}": time.Minute,
	"static.example.com/":          30 * 24 * time.Hour,
}

func byPattern() func(*http.Request) cachetrip.Policy {
	mux := http.NewServeMux()
	for pattern := range lifetimes {
		mux.Handle(pattern, http.NotFoundHandler())
	}
	return func(req *http.Request) cachetrip.Policy {
		// After a redirect, req.Host is empty.
		_, pattern := mux.Handler(&http.Request{Method: req.Method, Host: req.URL.Host, URL: req.URL})
		return cachetrip.Policy{TTL: lifetimes[pattern]}
	}
}

func use(cache *cachetrip.Transport) map[string]func() {
	return map[string]func(){
		"byPattern": func() {
			cache.Policy = byPattern()
		},
		"archives": func() {
			cache.Policy = archives
			cache.ModifyResponse = askForMissing
		},
		"small": func() {
			cache.Policy = func(*http.Request) cachetrip.Policy {
				return cachetrip.Policy{MaxBodyBytes: 5 << 20}
			}
		},
		"keepMissing": func() {
			cache.ModifyResponse = keepMissing
		},
		"urlsExpireAfter": func() {
			cache.Policy = urlsExpireAfter(
				expiry{"*.site-1.example", 30 * time.Second},
				expiry{"site-2.example/resource_1", 2 * time.Minute},
				expiry{"site-2.example/resource_*", time.Hour},
				expiry{"site-2.example/static", neverExpire},
				expiry{"site-2.example/live", doNotCache},
				expiry{"*", 6 * time.Minute}, // expire_after of the session
			)
		},
		"equalTokens": func() {
			cache.Identity = userOf
			cache.ModifyResponse = equalTokens
		},
		"presigned": func() {
			cache.Policy = presigned
			cache.Identity = signer
		},
		"blobs": func() {
			cache.Policy = blobs
			cache.Identity = admitted
		},
		"tracking": func() {
			cache.Policy = func(req *http.Request) cachetrip.Policy {
				return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "utm_*", "fbclid", "gclid")}
			}
		},
	}
}

// archives keeps what a build tool downloads. A URL that names a version never
// changes its content.
func archives(req *http.Request) cachetrip.Policy {
	if strings.HasSuffix(req.URL.Path, ".tar.gz") {
		return cachetrip.Policy{TTL: 1<<63 - 1}
	}
	return cachetrip.Policy{}
}

// askForMissing keeps a lifetime of the policy away from a 404: a version that
// is missing today may be published tomorrow. Vary: * says that the origin must
// confirm each use.
func askForMissing(resp *http.Response) error {
	if resp.StatusCode == http.StatusNotFound {
		resp.Header.Set("Vary", "*")
	}
	return nil
}

// keepMissing keeps a 404 for a minute, unless the origin says for how long.
func keepMissing(resp *http.Response) error {
	h := resp.Header
	if resp.StatusCode == http.StatusNotFound && h.Get("Cache-Control") == "" && h.Get("Expires") == "" {
		h.Set("Cache-Control", "max-age=60")
	}
	return nil
}

// crawl has each page confirmed by its origin. Rules for robots are used for a
// day, as RFC 9309 allows, and longer while the origin fails.
func crawl(req *http.Request) cachetrip.Policy {
	if req.URL.Path == "/robots.txt" {
		return cachetrip.Policy{TTL: 24 * time.Hour, StaleIfError: 30 * 24 * time.Hour}
	}
	return cachetrip.Policy{Mode: cachetrip.ModeNoCache}
}

// withCache returns the context for a call of the API. age is the value of the
// flag --cache; 0 if it was not given.
func withCache(ctx context.Context, age time.Duration) context.Context {
	if age <= 0 {
		return cachetrip.WithPolicy(ctx, cachetrip.Policy{Mode: cachetrip.ModeNoStore})
	}
	return cachetrip.WithPolicy(ctx, cachetrip.Policy{TTL: age})
}

// reads caches searches, and the queries of a GraphQL API, for a minute. A text
// that has the name of another operation anywhere is not taken for a query.
func reads(req *http.Request) cachetrip.Policy {
	query := cachetrip.Policy{CacheContent: true, TTL: time.Minute}
	switch {
	case req.Method != http.MethodPost || req.GetBody == nil:
		return cachetrip.Policy{}
	case strings.HasSuffix(req.URL.Path, "/_search"):
		return query
	case req.URL.Path != "/graphql":
		return cachetrip.Policy{}
	}
	body, err := req.GetBody() // the body itself remains unread
	if err != nil {
		return cachetrip.Policy{}
	}
	defer body.Close()
	var operation struct{ Query string }
	err = json.NewDecoder(io.LimitReader(body, 64<<10)).Decode(&operation)
	for _, other := range []string{"mutation", "subscription"} {
		if err != nil || operation.Query == "" || strings.Contains(operation.Query, other) {
			return cachetrip.Policy{}
		}
	}
	return query
}

const (
	neverExpire = time.Duration(1<<63 - 1)
	expireNow   = time.Duration(-1)
	doNotCache  = time.Duration(0)
)

// expiry is an item of urls_expire_after. In a pattern, a star stands for any
// text, and a question mark for one character.
type expiry struct {
	pattern string // without the scheme
	after   time.Duration
}

// urlsExpireAfter returns the policy of a list. The first match wins. A pattern
// also matches what is below it.
func urlsExpireAfter(list ...expiry) func(*http.Request) cachetrip.Policy {
	globs := make([]*regexp.Regexp, len(list))
	for i, e := range list {
		glob := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(e.pattern))
		globs[i] = regexp.MustCompile(`^` + glob)
	}
	return func(req *http.Request) cachetrip.Policy {
		for i, glob := range globs {
			switch {
			case !glob.MatchString(req.URL.Host + req.URL.RequestURI()):
			case list[i].after == doNotCache:
				return cachetrip.Policy{Mode: cachetrip.ModeNoStore}
			default:
				return cachetrip.Policy{TTL: list[i].after}
			}
		}
		return cachetrip.Policy{}
	}
}

// equalTokens removes Authorization from Vary, because all tokens of one user
// get the same responses.
func equalTokens(resp *http.Response) error {
	var names []string
	for name := range strings.SplitSeq(strings.Join(resp.Header["Vary"], ","), ",") {
		name = strings.TrimSpace(name)
		if name != "" && !strings.EqualFold(name, "Authorization") {
			names = append(names, name)
		}
	}
	resp.Header.Del("Vary")
	if len(names) > 0 {
		resp.Header.Set("Vary", strings.Join(names, ", "))
	}
	return nil
}

type userKey struct{}

func userOf(req *http.Request) string {
	user, _ := req.Context().Value(userKey{}).(string)
	return user
}

// presigned stores an object under its URL without the signature.
func presigned(req *http.Request) cachetrip.Policy {
	return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "X-Amz-*")}
}

// signer returns the access key that has signed a URL.
func signer(req *http.Request) string {
	key, _, _ := strings.Cut(req.URL.Query().Get("X-Amz-Credential"), "/")
	return key
}

var blobPath = regexp.MustCompile(`^/v2/.+/blobs/sha256:[0-9a-f]{64}$`)

// blobOf returns the request for a blob from which a registry has redirected to
// req, or nil.
func blobOf(req *http.Request) *http.Request {
	if req.Response == nil {
		return nil
	}
	first := req
	for first.Response != nil {
		first = first.Response.Request
	}
	if !blobPath.MatchString(first.URL.Path) {
		return nil
	}
	return first
}

// blobs stores a blob under its URL at the registry, wherever that redirects
// to.
func blobs(req *http.Request) cachetrip.Policy {
	if first := blobOf(req); first != nil {
		return cachetrip.Policy{URL: first.URL}
	}
	return cachetrip.Policy{}
}

// admitted gives one name to all requests that the registry has redirected to a
// blob: the registry has checked who may read it.
func admitted(req *http.Request) string {
	if blobOf(req) != nil {
		return "admitted by the registry"
	}
	return ""
}
