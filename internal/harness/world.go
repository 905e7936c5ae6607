package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
	"github.com/google/go-cmp/cmp"
)

// World is a cache and the origin behind it.
type World struct {
	*testing.T
	Transport *cachetrip.Transport
	Client    *http.Client
	Store     store.Store
	Dir       string // of the store; empty if it is in memory
	URL       string // of the origin, without a slash at its end
	Logged    LockedBuffer

	mu       sync.Mutex
	handler  http.HandlerFunc
	requests []*http.Request // that the origin got, without bodies
	TakeDown func()          // makes the origin unreachable
}

var places = map[string]func(*testing.T) (store.Store, string){"disk": OnDisk, "memory": InMemory}

// EachWorld runs a test with a cache on disk and with one in memory, with a
// real server.
func EachWorld(t *testing.T, test func(w *World)) {
	eachPlace(t, func(t *testing.T, place string) {
		w := NewWorld(t, places[place], ServeLoopback)
		w.Transport.ShareTimeout = patient
		test(w)
	})
}

// EachWorldInBubble does so in testing/synctest bubbles, where the server is
// behind pipes.
func EachWorldInBubble(t *testing.T, test func(w *World)) {
	eachPlace(t, func(t *testing.T, place string) {
		synctest.Test(t, func(t *testing.T) { test(NewWorld(t, places[place], ServePipes)) })
	})
}

// FilesChanged waits until a store has noticed what a test did to its files
// behind its back.
func FilesChanged() { time.Sleep(150 * time.Millisecond) }

// NewWorld makes a cache above an origin that answers 404 until a handler is
// set. When the test ends, the cache is closed and searched for credentials
// that the origin was sent.
func NewWorld(t *testing.T, keep func(*testing.T) (store.Store, string), serve func(*testing.T, http.Handler) (string, *http.Transport, func())) *World {
	w := &World{T: t, handler: http.NotFound}
	w.Store, w.Dir = keep(t)
	var base *http.Transport
	w.URL, base, w.TakeDown = serve(t, w)
	w.Transport = &cachetrip.Transport{
		Store:  w.Store,
		Base:   base,
		Logger: slog.New(slog.NewTextHandler(&w.Logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.Client = &http.Client{
		Transport:     w.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		if err := w.Transport.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		base.CloseIdleConnections()
		w.searchCredentials()
	})
	return w
}

// LockedBuffer collects what several goroutines log.
type LockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *LockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *LockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// ServeHTTP is the origin.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	handler := w.handler
	w.requests = append(w.requests, r.Clone(context.Background()))
	w.mu.Unlock()
	handler(rw, r)
}

// Handle sets what the origin answers from now on.
func (w *World) Handle(handler http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = handler
}

// Asked returns the requests that the origin got since the last call.
func (w *World) Asked() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	requests := w.requests
	w.requests = nil
	w.remember(requests)
	return requests
}

// WantAsked checks the lines that the requests since the last call make: each
// the method and path, and the fields with the given names.
func (w *World) WantAsked(fields []string, want ...string) {
	w.Helper()
	got := []string{}
	for _, r := range w.Asked() {
		line := r.Method + " " + r.URL.RequestURI()
		for _, name := range fields {
			for _, value := range r.Header[name] {
				line += " " + name + ": " + value
			}
		}
		got = append(got, line)
	}
	if want == nil {
		want = []string{}
	}
	Check(w, "requests to the origin", got, want)
}

// Result is what a client got.
type Result struct {
	Code     int
	Header   http.Header
	Body     string
	Status   cachetrip.Status
	Response *http.Response
}

// String returns the response in one line: the code, the body and the Status
// without TTL and Age.
func (r *Result) String() string {
	return fmt.Sprintf("%d %s | %s", r.Code, r.Body, strings.Join(words(r.Status), "; "))
}

// Request returns a request to the origin. fields are names and values in turn.
func (w *World) Request(method, path string, fields ...string) *http.Request {
	w.Helper()
	req, err := http.NewRequest(method, w.URL+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	return req
}

// Get makes a GET request that has to succeed, and reads the response to its
// end.
func (w *World) Get(path string, fields ...string) *Result {
	w.Helper()
	return w.Do(w.Request("GET", path, fields...))
}

func (w *World) Do(req *http.Request) *Result {
	w.Helper()
	r, err := w.Try(req)
	if err != nil {
		w.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	return r
}

// Try makes a request. The error is that of the request or of reading its
// response.
func (w *World) Try(req *http.Request) (*Result, error) {
	resp, err := w.Client.Do(req)
	if err != nil {
		return nil, err
	}
	r := &Result{Code: resp.StatusCode, Header: resp.Header, Status: cachetrip.StatusOf(resp), Response: resp}
	body, err := io.ReadAll(resp.Body)
	r.Body = string(body)
	return r, errors.Join(err, resp.Body.Close())
}

// WantGet makes a GET request and checks what result.String says of it.
func (w *World) WantGet(want, path string, fields ...string) *Result {
	w.Helper()
	r := w.Get(path, fields...)
	Check(w, "GET "+path, r.String(), want)
	return r
}

// WantDo is wantGet for any request.
func (w *World) WantDo(want string, req *http.Request) *Result {
	w.Helper()
	r := w.Do(req)
	Check(w, req.Method+" "+req.URL.Path, r.String(), want)
	return r
}

// Check compares.
func Check(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// remember takes note of the credentials in requests. They have to be longer
// than what could be found in a file by accident.
func (w *World) remember(requests []*http.Request) {
	credentials.mu.Lock()
	defer credentials.mu.Unlock()
	add := func(secret string) {
		if len(secret) < 8 {
			w.Errorf("the credential %q is too short to be searched for", secret)
			return
		}
		if credentials.seen == nil {
			credentials.seen = make(map[string]bool)
		}
		credentials.seen[secret] = true
	}
	for _, r := range requests {
		for name, values := range r.Header {
			for _, value := range values {
				switch {
				case name == "Authorization" || name == "Proxy-Authorization":
					_, token, _ := strings.Cut(value, " ")
					add(token)
				case name != "Cookie" && redact.Secret(name):
					add(value)
				}
			}
		}
		if _, password, ok := r.BasicAuth(); ok {
			add(password)
		}
		for _, cookie := range r.Cookies() {
			add(cookie.Value)
		}
	}
}

// searchCredentials looks for every credential that was sent to any origin so
// far in the log and in the directory of the cache.
func (w *World) searchCredentials() {
	w.Helper()
	w.Asked()
	credentials.mu.Lock()
	secrets := slices.Sorted(maps.Keys(credentials.seen))
	credentials.mu.Unlock()
	for _, secret := range searchFor(secrets).In(w.Logged.String()) {
		w.Errorf("the credential %q was logged", secret)
	}
	if w.Dir != "" {
		for _, leak := range Leaks(w.Dir, secrets) {
			w.Error(leak)
		}
	}
}

// EachFile calls f with the path and the size of each file of the cache.
func (w *World) EachFile(f func(path string, size int64)) {
	if w.Dir == "" {
		return
	}
	filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err == nil {
			f(path, info.Size())
		}
		return nil
	})
}

func (w *World) Count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.requests)
}

func (w *World) Nth(i int) *http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests[i]
}

// Herd makes requests at the same time and returns what each got. The error of
// one is in its place.
func (w *World) Herd(reqs ...*http.Request) ([]*Result, []error) {
	results, errs := make([]*Result, len(reqs)), make([]error, len(reqs))
	var wg sync.WaitGroup
	for i, req := range reqs {
		wg.Go(func() { results[i], errs[i] = w.Try(req) })
	}
	wg.Wait()
	return results, errs
}

// EachProtocol runs a test with real servers of HTTP/1.1 and HTTP/2, and the
// cache on disk.
func EachProtocol(t *testing.T, test func(w *World)) {
	t.Run("HTTP1", func(t *testing.T) { test(NewWorld(t, OnDisk, ServeLoopback)) })
	t.Run("HTTP2", func(t *testing.T) { test(NewWorld(t, OnDisk, ServeHTTP2)) })
}
