package cachetrip_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

// The face, told by its tests, from where a user stands: real servers, real directories, and
// nothing that isn't exported.

// world is a cache and the origin behind it.
type world struct {
	*testing.T
	cache  *cachetrip.Transport
	client *http.Client
	store  store.Store
	dir    string // of the store; empty if it is in memory
	url    string // of the origin, without a slash at its end
	log    lockedBuffer

	mu       sync.Mutex
	handler  http.HandlerFunc
	requests []*http.Request // that the origin got, without bodies
	down     func()          // makes the origin unreachable
}

// onEachStore runs a test with a cache on disk and with one in memory, with a real server.
func onEachStore(t *testing.T, test func(w *world)) {
	t.Run("disk", func(t *testing.T) { test(newWorld(t, onDisk, serveLoopback)) })
	t.Run("memory", func(t *testing.T) { test(newWorld(t, inMemory, serveLoopback)) })
}

// inBubbles does so in testing/synctest bubbles, where the server is behind pipes.
func inBubbles(t *testing.T, test func(w *world)) {
	t.Run("disk", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(newWorld(t, onDisk, servePipes)) })
	})
	t.Run("memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { test(newWorld(t, inMemory, servePipes)) })
	})
}

func onDisk(t *testing.T) (store.Store, string) {
	dir := filepath.Join(t.TempDir(), "cache")
	return openDisk(t, dir, store.DiskOptions{}), dir
}

func openDisk(t testing.TB, dir string, opts store.DiskOptions) *store.Disk {
	t.Helper()
	disk, err := store.OpenDisk(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	return disk
}

func inMemory(t *testing.T) (store.Store, string) {
	s := newMemory(64 << 20)
	if closer, ok := s.(io.Closer); ok {
		t.Cleanup(func() { closer.Close() })
	}
	return s, ""
}

// newMemory makes the stores in memory. Those that are kept elsewhere are put in its place to be tested by
// all that tests those; see store/redisstore.
var newMemory = func(maxBytes int64) store.Store { return store.NewMemory(maxBytes) }

// newWorld makes a cache above an origin that answers 404 until a handler is set. When the test
// ends, the cache is closed and searched for credentials that the origin was sent.
func newWorld(t *testing.T, keep func(*testing.T) (store.Store, string), serve func(*testing.T, http.Handler) (string, *http.Transport, func())) *world {
	w := &world{T: t, handler: http.NotFound}
	w.store, w.dir = keep(t)
	var base *http.Transport
	w.url, base, w.down = serve(t, w)
	w.cache = &cachetrip.Transport{
		Store:  w.store,
		Base:   base,
		Logger: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	w.client = &http.Client{
		Transport:     w.cache,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		if err := w.cache.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		base.CloseIdleConnections()
		w.searchCredentials()
	})
	return w
}

// serveLoopback serves HTTP/1.1.
func serveLoopback(t *testing.T, handler http.Handler) (string, *http.Transport, func()) {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, server.Client().Transport.(*http.Transport), server.Close
}

// serveHTTP2 serves HTTP/2 over TLS.
func serveHTTP2(t *testing.T, handler http.Handler) (string, *http.Transport, func()) {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, server.Client().Transport.(*http.Transport), server.Close
}

// servePipes serves HTTP/1.1 without sockets, which bubbles do not know.
func servePipes(t *testing.T, handler http.Handler) (string, *http.Transport, func()) {
	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://origin.test", &http.Transport{DialContext: l.dial}, func() { server.Close() }
}

// pipes is a listener within the process.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipes) dial(ctx context.Context, network, address string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// lockedBuffer collects what several goroutines log.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// ServeHTTP is the origin.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	handler := w.handler
	w.requests = append(w.requests, r.Clone(context.Background()))
	w.mu.Unlock()
	handler(rw, r)
}

// handle sets what the origin answers from now on.
func (w *world) handle(handler http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = handler
}

// asked returns the requests that the origin got since the last call.
func (w *world) asked() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	requests := w.requests
	w.requests = nil
	w.remember(requests)
	return requests
}

// wantAsked checks the lines that the requests since the last call make: each the method and path,
// and the fields with the given names.
func (w *world) wantAsked(fields []string, want ...string) {
	w.Helper()
	got := []string{}
	for _, r := range w.asked() {
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
	check(w, "requests to the origin", got, want)
}

// result is what a client got.
type result struct {
	Code   int
	Header http.Header
	Body   string
	Status cachetrip.Status
	resp   *http.Response
}

// String says in one line what was got: the code, the body and the Cache-Status without TTL.
func (r *result) String() string {
	var parts []string
	for _, line := range r.Header["Cache-Status"] {
		for part := range strings.SplitSeq(line, "; ") {
			if part != "cachetrip" && !strings.HasPrefix(part, "ttl=") {
				parts = append(parts, part)
			}
		}
	}
	return fmt.Sprintf("%d %s | %s", r.Code, r.Body, strings.Join(parts, "; "))
}

// request returns a request to the origin. fields are names and values in turn.
func (w *world) request(method, path string, fields ...string) *http.Request {
	w.Helper()
	req, err := http.NewRequest(method, w.url+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	return req
}

// get makes a GET request that has to succeed, and reads the response to its end.
func (w *world) get(path string, fields ...string) *result {
	w.Helper()
	return w.do(w.request("GET", path, fields...))
}

func (w *world) do(req *http.Request) *result {
	w.Helper()
	r, err := w.try(req)
	if err != nil {
		w.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	return r
}

// try makes a request. The error is that of the request or of reading its response.
func (w *world) try(req *http.Request) (*result, error) {
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, err
	}
	r := &result{Code: resp.StatusCode, Header: resp.Header, Status: cachetrip.StatusOf(resp), resp: resp}
	body, err := io.ReadAll(resp.Body)
	r.Body = string(body)
	return r, errors.Join(err, resp.Body.Close())
}

// wantGet makes a GET request and checks what result.String says of it.
func (w *world) wantGet(want, path string, fields ...string) *result {
	w.Helper()
	r := w.get(path, fields...)
	check(w, "GET "+path, r.String(), want)
	return r
}

// wantDo is wantGet for any request.
func (w *world) wantDo(want string, req *http.Request) *result {
	w.Helper()
	r := w.do(req)
	check(w, req.Method+" "+req.URL.Path, r.String(), want)
	return r
}

// check compares.
func check(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// answer writes a response: its fields as names and values in turn, and its body.
func answer(rw http.ResponseWriter, code int, body string, fields ...string) {
	for i := 0; i < len(fields); i += 2 {
		rw.Header().Add(fields[i], fields[i+1])
	}
	rw.WriteHeader(code)
	io.WriteString(rw, body)
}

// always answers all requests in the same way.
func always(code int, body string, fields ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) { answer(rw, code, body, fields...) }
}

// inTurn answers the n-th request with the n-th handler, and then with the last.
func inTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		next := handlers[0]
		if len(handlers) > 1 {
			handlers = handlers[1:]
		}
		mu.Unlock()
		next(rw, r)
	}
}

// tagged answers as net/http does for a file: 304 to its entity tag, else 200.
func tagged(tag, body string, fields ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("ETag", tag)
		for i := 0; i < len(fields); i += 2 {
			rw.Header().Add(fields[i], fields[i+1])
		}
		http.ServeContent(rw, r, "body.txt", time.Time{}, strings.NewReader(body))
	}
}

// roundTripper makes a function an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// credentials collects, over the tests' whole run, what must not be found in any cache.
var credentials struct {
	mu   sync.Mutex
	seen map[string]bool
}

// remember takes note of the credentials in requests. They have to be longer than what could be found in
// a file by accident.
func (w *world) remember(requests []*http.Request) {
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

// searchCredentials looks for every credential that was sent to any origin so far in the log and in
// the directory of the cache.
func (w *world) searchCredentials() {
	w.Helper()
	w.asked()
	credentials.mu.Lock()
	secrets := slices.Sorted(maps.Keys(credentials.seen))
	credentials.mu.Unlock()
	for _, secret := range searchFor(secrets).in(w.log.String()) {
		w.Errorf("the credential %q was logged", secret)
	}
	if w.dir != "" {
		for _, leak := range leaks(w.dir, secrets) {
			w.Error(leak)
		}
	}
}

// searchFor returns a search for secrets as they are.
func searchFor(secrets []string) search {
	s := make(search)
	for _, secret := range secrets {
		s.add(secret, secret)
	}
	return s
}

// leaks lists what is wrong with the secrecy of a directory: secrets in names and files, and modes by
// which others may read.
func leaks(dir string, secrets []string) (found []string) {
	wanted := searchFor(secrets)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		var b []byte
		if d.IsDir() {
			want = 0o700
		} else if b, err = os.ReadFile(path); err != nil {
			return err
		}
		if info.Mode().Perm() != want && runtime.GOOS != "windows" {
			found = append(found, fmt.Sprintf("%s has the mode %v", path, info.Mode()))
		}
		for _, secret := range wanted.in(path + "\n" + string(b)) {
			found = append(found, fmt.Sprintf("the credential %q is in %s", secret, path))
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		found = append(found, err.Error())
	}
	return found
}

func TestLeaksAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "token-in-the-name")
	if err := os.WriteFile(file, []byte("x token-in-the-file x"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, "leaks", leaks(dir, []string{"token-in-the-file", "token-in-the-name", "token-nowhere"}), []string{
		dir + " has the mode drwxr-xr-x",
		file + " has the mode -rw-r--r--",
		`the credential "token-in-the-file" is in ` + file,
		`the credential "token-in-the-name" is in ` + file,
	})
}

func TestZeroTransportForwards(t *testing.T) {
	var cache cachetrip.Transport
	w := newWorld(t, inMemory, serveLoopback)
	w.handle(always(200, "hello", "Cache-Control", "max-age=60"))
	w.client = cache.Client()
	for range 2 {
		w.wantGet("200 hello | fwd=bypass; fwd-status=200", "/")
	}
	w.wantAsked(nil, "GET /", "GET /")
	check(t, "Stats", cache.Stats(), cachetrip.Stats{Requests: 2, Misses: 2, BytesReceived: 10})
	ctx := context.Background()
	if err := errors.Join(cache.Invalidate(ctx, w.url), cache.Purge(ctx, w.url), cache.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenKeepsAcrossProcesses(t *testing.T) {
	w := newWorld(t, inMemory, serveLoopback)
	w.dir = filepath.Join(t.TempDir(), "not", "there", "yet")
	w.handle(always(200, "hello", "Cache-Control", "max-age=60"))
	for _, want := range []string{
		"200 hello | fwd=uri-miss; fwd-status=200; stored",
		"200 hello | hit",
	} {
		cache, err := cachetrip.Open(w.dir)
		if err != nil {
			t.Fatal(err)
		}
		w.client = cache.Client()
		w.wantGet(want, "/")
		if err := cache.Close(); err != nil {
			t.Error(err)
		}
		// What Open made is closed, and a closed cache forwards.
		if _, err := cache.Store.Secret(context.Background()); !errors.Is(err, store.ErrClosed) {
			t.Errorf("the store after Close: %v, want ErrClosed", err)
		}
		w.wantGet("200 hello | fwd=bypass; fwd-status=200", "/")
		if err := cache.Close(); err != nil {
			t.Error("second Close:", err)
		}
	}
}

func TestOpenTellsWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", file, filepath.Join(file, "below"), dir + "\x00"} {
		cache, err := cachetrip.Open(path)
		if err == nil || cache != nil || !strings.HasPrefix(err.Error(), "cachetrip: ") {
			t.Errorf("Open(%q) = %v, %v, want an error of ours", path, cache, err)
		}
		if strings.HasPrefix(path, file) && !strings.Contains(err.Error(), file) {
			t.Errorf("Open(%q): %q does not name what is in the way", path, err)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("the file in the way: %q, %v", b, err)
	}
}

func TestCloseLeavesAStoreThatItWasGiven(t *testing.T) {
	onEachStore(t, func(w *world) {
		w.handle(always(200, "hello", "Cache-Control", "max-age=60"))
		w.get("/")
		if err := w.cache.Close(); err != nil {
			w.Error(err)
		}
		w.wantGet("200 hello | fwd=bypass; fwd-status=200", "/")
		w.wantGet("200 hello | fwd=bypass; fwd-status=200", "/other")
		other := &cachetrip.Transport{Store: w.store, Base: w.cache.Base}
		w.client = other.Client()
		w.wantGet("200 hello | hit", "/")
		w.wantGet("200 hello | fwd=uri-miss; fwd-status=200; stored", "/other")
	})
}

func TestCloseLetsReadersFinish(t *testing.T) {
	onEachStore(t, func(w *world) {
		body := strings.Repeat("0123456789abcdef", 64<<10) // not sent at once, and not kept with its head
		w.handle(always(200, body, "Cache-Control", "max-age=60"))
		w.get("/stored")
		var readers []*http.Response
		for _, path := range []string{"/stored", "/fetched"} {
			resp, err := w.client.Do(w.request("GET", path))
			if err != nil {
				w.Fatal(err)
			}
			readers = append(readers, resp)
		}
		if err := w.cache.Close(); err != nil {
			w.Error(err)
		}
		if disk, ok := w.store.(*store.Disk); ok {
			disk.Close()
		}
		for _, resp := range readers {
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != body {
				w.Errorf("read after Close: %d bytes, %v; want %d", len(got), err, len(body))
			}
			if err := resp.Body.Close(); err != nil {
				w.Error(err)
			}
		}
	})
}

func TestCloseWaitsForBackground(t *testing.T) {
	for _, test := range []struct {
		name   string
		second http.HandlerFunc
		want   string // of what the next cache gets from the store
	}{
		{"confirmed", tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=90"), "200 one | hit"},
		{"changed", tagged(`"2"`, "two", "Cache-Control", "max-age=10, stale-while-revalidate=90"), "200 two | hit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubbles(t, func(w *world) {
				w.handle(inTurn(
					tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=90"),
					func(rw http.ResponseWriter, r *http.Request) {
						time.Sleep(2700 * time.Millisecond)
						test.second(rw, r)
					}))
				w.get("/")
				time.Sleep(20 * time.Second)
				w.wantGet("200 one | hit; detail=stale-while-revalidate", "/")
				start := time.Now()
				if err := w.cache.Close(); err != nil {
					w.Error(err)
				}
				check(w, "time that Close took", time.Since(start), 2700*time.Millisecond)
				next := &cachetrip.Transport{Store: w.store, Base: w.cache.Base}
				w.client = next.Client()
				w.wantGet(test.want, "/")
				next.Close()
			})
		})
	}
}

func TestStatsOfAScriptedSequence(t *testing.T) {
	inBubbles(t, func(w *world) {
		const fields = "max-age=10"
		w.handle(tagged(`"1"`, "one", "Cache-Control", fields))
		want := cachetrip.Stats{}
		step := func(what string, do func(), change func(s *cachetrip.Stats)) {
			w.Helper()
			do()
			want.Requests++
			change(&want)
			check(w, "Stats after "+what, w.cache.Stats(), want)
		}
		get := func(path string, fields ...string) func() { return func() { w.get(path, fields...) } }
		step("a miss", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.Stored++; s.BytesReceived += 3 })
		step("a hit", get("/"), func(s *cachetrip.Stats) { s.Hits++; s.BytesServed += 3 })
		time.Sleep(15 * time.Second)
		step("a stale hit", get("/", "Cache-Control", "max-stale"), func(s *cachetrip.Stats) { s.Hits++; s.StaleHits++; s.BytesServed += 3 })
		step("a 304", get("/"), func(s *cachetrip.Stats) { s.Revalidations++; s.BytesServed += 3 })
		step("a HEAD", func() { w.do(w.request("HEAD", "/")) }, func(s *cachetrip.Stats) { s.Hits++ })
		step("an answer to the caller's condition", get("/", "If-None-Match", `"1"`), func(s *cachetrip.Stats) { s.Hits++ })
		time.Sleep(15 * time.Second)
		w.handle(tagged(`"2"`, "three", "Cache-Control", fields))
		step("a change", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.Stored++; s.BytesReceived += 5 })
		step("a POST", func() { w.do(w.request("POST", "/")) }, func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		step("its invalidation", get("/"), func(s *cachetrip.Stats) { s.Revalidations++; s.BytesServed += 5 })
		step("a refusal", get("/none", "Cache-Control", "only-if-cached"), func(s *cachetrip.Stats) {})
		step("a bypass", get("/", "Cache-Control", "no-store"), func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		time.Sleep(15 * time.Second)
		w.handle(always(503, "sorry"))
		step("a stale hit for an error", get("/", "Cache-Control", "stale-if-error=60"), func(s *cachetrip.Stats) { s.StaleHits++; s.BytesServed += 5 })
		step("an error", get("/"), func(s *cachetrip.Stats) { s.Misses++; s.BytesReceived += 5 })
		w.down()
		step("no answer", func() {
			if r, err := w.try(w.request("GET", "/")); err == nil {
				w.Errorf("got %v", r)
			}
		}, func(s *cachetrip.Stats) {})
	})
}

func TestWhatResponsesSayOfThemselves(t *testing.T) {
	const ttl = "max-age=60"
	type want struct {
		CacheStatus string
		FromCache   string
		Age         string
		Status      cachetrip.Status
	}
	for _, test := range []struct {
		name  string
		setup func(w *world)
		req   func(w *world) *http.Request
		want  want
	}{
		{"stored miss", nil, nil, want{
			"cachetrip; fwd=uri-miss; fwd-status=200; stored; ttl=60", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Minute},
		}},
		{"miss that is not stored", func(w *world) {
			w.handle(always(200, "x", "Cache-Control", "no-store"))
		}, nil, want{
			"cachetrip; fwd=uri-miss; fwd-status=200; detail=no-store", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Detail: "no-store"},
		}},
		{"hit", func(w *world) {
			w.get("/")
			time.Sleep(20 * time.Second)
		}, nil, want{"cachetrip; hit; ttl=40", "1", "20", cachetrip.Status{Hit: true, TTL: 40 * time.Second, Age: 20 * time.Second}}},
		{"hit on what was not young", func(w *world) {
			w.handle(always(200, "x", "Cache-Control", ttl, "Age", "30"))
			w.get("/")
			time.Sleep(20 * time.Second)
		}, nil, want{"cachetrip; hit; ttl=10", "1", "50", cachetrip.Status{Hit: true, TTL: 10 * time.Second, Age: 50 * time.Second}}},
		{"stale hit", func(w *world) {
			w.get("/")
			time.Sleep(80 * time.Second)
		}, func(w *world) *http.Request { return w.request("GET", "/", "Cache-Control", "max-stale=30") }, want{
			"cachetrip; hit; ttl=-20; detail=max-stale", "1", "80",
			cachetrip.Status{Hit: true, TTL: -20 * time.Second, Age: 80 * time.Second, Detail: "max-stale"},
		}},
		{"revalidated", func(w *world) {
			w.get("/")
			time.Sleep(80 * time.Second)
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=304; stored; ttl=60", "1", "0",
			cachetrip.Status{Fwd: "stale", FwdStatus: 304, Stored: true, TTL: time.Minute, Revalidated: true},
		}},
		{"changed", func(w *world) {
			w.get("/")
			time.Sleep(80 * time.Second)
			w.handle(tagged(`"2"`, "two", "Cache-Control", "max-age=5"))
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=200; stored; ttl=5", "", "",
			cachetrip.Status{Fwd: "stale", FwdStatus: 200, Stored: true, TTL: 5 * time.Second},
		}},
		{"other variant", func(w *world) {
			w.handle(always(200, "x", "Cache-Control", ttl, "Vary", "Accept"))
			w.get("/", "Accept", "text/html")
		}, nil, want{
			"cachetrip; fwd=vary-miss; fwd-status=200; stored; ttl=60", "", "",
			cachetrip.Status{Fwd: "vary-miss", FwdStatus: 200, Stored: true, TTL: time.Minute},
		}},
		{"forced by the request", func(w *world) { w.get("/") }, func(w *world) *http.Request {
			return w.request("GET", "/", "Cache-Control", "no-cache")
		}, want{
			"cachetrip; fwd=request; fwd-status=304; stored; ttl=60; detail=no-cache", "1", "0",
			cachetrip.Status{Fwd: "request", FwdStatus: 304, Stored: true, TTL: time.Minute, Detail: "no-cache", Revalidated: true},
		}},
		{"not to be stored", nil, func(w *world) *http.Request {
			return w.request("GET", "/", "Cache-Control", "no-store")
		}, want{
			"cachetrip; fwd=request; fwd-status=200; detail=no-store", "", "",
			cachetrip.Status{Fwd: "request", FwdStatus: 200, Detail: "no-store"},
		}},
		{"invalidated", func(w *world) {
			w.get("/")
			if err := w.cache.Invalidate(context.Background(), w.url+"/"); err != nil {
				w.Error(err)
			}
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=304; stored; ttl=60; detail=invalidated", "1", "0",
			cachetrip.Status{Fwd: "stale", FwdStatus: 304, Stored: true, TTL: time.Minute, Detail: "invalidated", Revalidated: true},
		}},
		{"stale because of an error", func(w *world) {
			w.get("/")
			time.Sleep(80 * time.Second)
			w.cache.StaleIfError = time.Minute
			w.handle(always(503, "sorry"))
		}, nil, want{
			"cachetrip; fwd=stale; fwd-status=503; ttl=-20; detail=stale-if-error", "1", "80",
			cachetrip.Status{Fwd: "stale", FwdStatus: 503, TTL: -20 * time.Second, Age: 80 * time.Second, Detail: "stale-if-error"},
		}},
		{"other method", nil, func(w *world) *http.Request { return w.request("PUT", "/") }, want{
			"cachetrip; fwd=method; fwd-status=200", "", "", cachetrip.Status{Fwd: "method", FwdStatus: 200},
		}},
		{"GET with content", nil, func(w *world) *http.Request {
			req := w.request("GET", "/")
			req.Body = io.NopCloser(strings.NewReader("content"))
			return req
		}, want{
			"cachetrip; fwd=bypass; fwd-status=200; detail=content", "", "",
			cachetrip.Status{Fwd: "bypass", FwdStatus: 200, Detail: "content"},
		}},
		{"precondition for the origin", nil, func(w *world) *http.Request {
			return w.request("GET", "/", "If-Match", `"1"`)
		}, want{
			"cachetrip; fwd=bypass; fwd-status=200; detail=precondition", "", "",
			cachetrip.Status{Fwd: "bypass", FwdStatus: 200, Detail: "precondition"},
		}},
		{"refused", nil, func(w *world) *http.Request {
			return w.request("GET", "/", "Cache-Control", "only-if-cached")
		}, want{}},
		{"another cache before, and marks that are not ours", func(w *world) {
			w.handle(always(200, "x", "Cache-Control", ttl, "Cache-Status", "cachetrip; hit; ttl=9", "X-From-Cache", "1"))
		}, nil, want{
			"cachetrip; hit; ttl=9, cachetrip; fwd=uri-miss; fwd-status=200; stored; ttl=60", "", "",
			cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Minute},
		}},
		{"hit behind another cache", func(w *world) {
			w.handle(always(200, "x", "Cache-Control", ttl, "Cache-Status", "Example; hit"))
			w.get("/")
		}, nil, want{"Example; hit, cachetrip; hit; ttl=60", "1", "0", cachetrip.Status{Hit: true, TTL: time.Minute}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubbles(t, func(w *world) {
				w.handle(tagged(`"1"`, "one", "Cache-Control", ttl))
				if test.setup != nil {
					test.setup(w)
				}
				req := w.request("GET", "/")
				if test.req != nil {
					req = test.req(w)
				}
				r := w.do(req)
				check(w, "response", want{
					strings.Join(r.Header["Cache-Status"], ", "), r.Header.Get("X-From-Cache"), r.Header.Get("Age"), r.Status,
				}, test.want)
				if refused := test.want == (want{}); refused != (r.Code == http.StatusGatewayTimeout) {
					w.Errorf("status code %d", r.Code)
				}
			})
		})
	}
}

func TestStatusOfOthers(t *testing.T) {
	for _, resp := range []*http.Response{
		nil,
		{},
		{Header: http.Header{"Cache-Status": {"cachetrip; hit"}, "X-From-Cache": {"1"}, "Age": {"5"}}},
	} {
		check(t, fmt.Sprint(resp), cachetrip.StatusOf(resp), cachetrip.Status{})
	}
}

func TestWithCacheControl(t *testing.T) {
	inBubbles(t, func(w *world) {
		w.handle(tagged(`"1"`, "one", "Cache-Control", "max-age=60"))
		w.get("/")
		w.asked()
		for _, test := range []struct {
			context []string
			header  []string
			want    string
			asked   []string
		}{
			{[]string{"no-cache"}, nil, "200 one | fwd=request; fwd-status=304; stored; detail=no-cache", []string{"GET / Cache-Control: no-cache"}},
			{
				[]string{"no-cache"}, []string{"Cache-Control", "x=1", "Cache-Control", "y"}, "200 one | fwd=request; fwd-status=304; stored; detail=no-cache",
				[]string{"GET / Cache-Control: x=1 Cache-Control: y Cache-Control: no-cache"},
			},
			{
				[]string{"x, max-stale", "no-cache"}, nil, "200 one | fwd=request; fwd-status=304; stored; detail=no-cache",
				[]string{"GET / Cache-Control: x, max-stale Cache-Control: no-cache"},
			},
			{[]string{"no-store"}, nil, "200 one | fwd=request; fwd-status=200; detail=no-store", []string{"GET / Cache-Control: no-store"}},
			{[]string{"only-if-cached"}, nil, "200 one | hit", nil},
			{[]string{""}, nil, "200 one | hit", nil},
			{
				[]string{"max-age=5"}, []string{"Pragma", "no-cache"}, "200 one | hit", nil,
			},
		} {
			req := w.request("GET", "/", test.header...)
			ctx := req.Context()
			for _, directives := range test.context {
				ctx = cachetrip.WithCacheControl(ctx, directives)
			}
			req = req.WithContext(ctx)
			before := req.Header.Clone()
			w.wantDo(test.want, req)
			w.wantAsked([]string{"Cache-Control"}, test.asked...)
			check(w, "the caller's header", req.Header, before)
		}
		// Other methods carry them, too.
		req := w.request("POST", "/")
		w.do(req.WithContext(cachetrip.WithCacheControl(req.Context(), "x=1")))
		w.wantAsked([]string{"Cache-Control"}, "POST / Cache-Control: x=1")
		check(w, "the caller's header", req.Header, http.Header{})
	})
}

func TestModifyResponse(t *testing.T) {
	inBubbles(t, func(w *world) {
		var mu sync.Mutex
		var saw []int
		w.cache.ModifyResponse = func(resp *http.Response) error {
			mu.Lock()
			defer mu.Unlock()
			saw = append(saw, resp.StatusCode)
			resp.Header.Set("Cache-Control", "max-age=10, stale-while-revalidate=90")
			resp.Header.Set("X-Added", fmt.Sprint(len(saw)))
			return nil
		}
		w.handle(tagged(`"1"`, "one", "Cache-Control", "no-store"))
		r := w.wantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/")
		check(w, "X-Added of the miss", r.Header.Get("X-Added"), "1")
		r = w.wantGet("200 one | hit", "/")
		check(w, "X-Added of the hit", r.Header.Get("X-Added"), "1")
		time.Sleep(20 * time.Second)
		w.wantGet("200 one | hit; detail=stale-while-revalidate", "/")
		synctest.Wait()
		r = w.wantGet("200 one | hit", "/")
		check(w, "X-Added after the background's 304", r.Header.Get("X-Added"), "2")
		time.Sleep(200 * time.Second)
		r = w.wantGet("200 one | fwd=stale; fwd-status=304; stored", "/")
		check(w, "X-Added of the 304", r.Header.Get("X-Added"), "3")
		w.do(w.request("POST", "/"))
		w.get("/", "Cache-Control", "no-store")
		mu.Lock()
		check(w, "responses that ModifyResponse saw", saw, []int{200, 304, 304, 200, 200})
		mu.Unlock()
	})
}

func TestModifyResponseFails(t *testing.T) {
	errModify := errors.New("not with me")
	inBubbles(t, func(w *world) {
		body := &closing{Reader: strings.NewReader("content")}
		base := w.cache.Base
		w.cache.Base = roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				body = &closing{Reader: resp.Body, closer: resp.Body}
				resp.Body = body
			}
			return resp, err
		})
		w.handle(always(200, "one", "Cache-Control", "max-age=10, stale-while-revalidate=20, stale-if-error=1000", "ETag", `"1"`))
		w.get("/stored")
		fails := true
		w.cache.ModifyResponse = func(*http.Response) error {
			if fails {
				return errModify
			}
			return nil
		}
		time.Sleep(20 * time.Second)
		w.wantGet("200 one | hit; detail=stale-while-revalidate", "/stored") // fails in the background
		synctest.Wait()
		time.Sleep(20 * time.Second)
		for _, req := range []*http.Request{
			w.request("GET", "/stored"), // nor is its error one of the origin
			w.request("GET", "/new"),
			w.request("GET", "/new", "Cache-Control", "no-store"),
			w.request("POST", "/new"),
			w.request("HEAD", "/new"),
		} {
			resp, err := w.cache.RoundTrip(req)
			if err != errModify || resp != nil {
				w.Errorf("%s %s: %v, %v, want the error of ModifyResponse", req.Method, req.URL.Path, resp, err)
			}
			if !body.closed() {
				w.Errorf("%s %s: the body was not closed", req.Method, req.URL.Path)
			}
		}
		fails = false
		w.wantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/new")
	})
}

// closing is a body that knows whether it was closed.
type closing struct {
	io.Reader
	closer io.Closer // may be nil
	mu     sync.Mutex
	times  int
}

func (c *closing) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times++
	if c.closer != nil {
		return c.closer.Close()
	}
	return nil
}

func (c *closing) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.times > 0
}

func TestIdentities(t *testing.T) {
	whose := func(rw http.ResponseWriter, r *http.Request) {
		body := "nobody's"
		for _, name := range []string{"alice", "bob"} {
			if strings.Contains(r.Header.Get("Authorization")+r.Header.Get("Cookie")+r.Header.Get("Proxy-Authorization"), name) {
				body = name + "'s"
			}
		}
		tagged(`"`+body+`"`, body, "Cache-Control", "max-age=60")(rw, r)
	}
	onEachStore(t, func(w *world) {
		w.handle(whose)
		ask := func(path string, fields ...string) string { return w.get(path, fields...).String() }
		const miss, hit = " | fwd=uri-miss; fwd-status=200; stored", " | hit"
		for _, want := range []string{miss, hit} {
			check(w, "anonymous", ask("/"), "200 nobody's"+want)
			check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+want)
			check(w, "bob", ask("/", "Authorization", "Bearer token-of-bob"), "200 bob's"+want)
			check(w, "by proxy", ask("/", "Proxy-Authorization", "Bearer token-of-bob"), "200 bob's"+want)
		}
		// The password in a URL is a credential, too: the client makes it an Authorization field.
		req := w.request("GET", "/")
		req.URL.User = nil
		req.SetBasicAuth("carol", "password-of-carol")
		w.wantDo("200 nobody's"+miss, req)
		w.wantDo("200 nobody's"+hit, req)

		// The whole URL of all of them.
		if err := w.cache.Invalidate(context.Background(), w.url+"/"); err != nil {
			w.Error(err)
		}
		const confirmed = " | fwd=stale; fwd-status=304; stored; detail=invalidated"
		check(w, "anonymous", ask("/"), "200 nobody's"+confirmed)
		check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+confirmed)
		check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+hit)
		ask("/other")
		if err := w.cache.Purge(context.Background(), w.url+"/"); err != nil {
			w.Error(err)
		}
		check(w, "anonymous", ask("/"), "200 nobody's"+miss)
		check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+miss)
		check(w, "bob", ask("/", "Authorization", "Bearer token-of-bob"), "200 bob's"+miss)
		check(w, "another URL", ask("/other"), "200 nobody's"+hit)
		for _, change := range []func(context.Context, string) error{w.cache.Invalidate, w.cache.Purge} {
			if err := change(context.Background(), "http://[::1"); err == nil {
				w.Error("no error for what is not a URL")
			}
		}
	})
}

func TestIdentityOfRotatingTokens(t *testing.T) {
	const first, second = "Bearer token-of-monday", "Bearer token-of-tuesday"
	for _, test := range []struct{ name, vary, second string }{
		{"without Vary", "", "200 one | hit"},
		// The origin says that tokens matter: it is asked, but the body need not come again.
		{"with Vary", "Authorization", "200 one | fwd=vary-miss; fwd-status=304; stored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			onEachStore(t, func(w *world) {
				w.cache.Identity = func(req *http.Request) string { return req.Header.Get("X-App") }
				w.handle(func(rw http.ResponseWriter, r *http.Request) {
					if test.vary != "" {
						rw.Header().Set("Vary", test.vary)
					}
					tagged(`"1"`, "one", "Cache-Control", "max-age=60")(rw, r)
				})
				w.wantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "X-App", "a", "Authorization", first)
				w.wantGet("200 one | hit", "/", "X-App", "a", "Authorization", first)
				w.wantGet(test.second, "/", "X-App", "a", "Authorization", second)
				w.wantGet("200 one | hit", "/", "X-App", "a", "Authorization", second)
				w.wantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "X-App", "b", "Authorization", second)
				w.wantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "Authorization", second)
			})
		})
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	// The bubble itself checks that no goroutine is left when the test function and its clean-up,
	// which closes the cache and the server, have returned.
	inBubbles(t, func(w *world) {
		w.handle(tagged(`"1"`, strings.Repeat("x", 300<<10), "Cache-Control", "max-age=10, stale-while-revalidate=100"))
		w.get("/")
		time.Sleep(time.Minute)
		w.get("/") // with a revalidation behind it
		resp, err := w.client.Do(w.request("GET", "/partly"))
		if err != nil {
			w.Fatal(err)
		}
		resp.Body.Close()
	})
}
