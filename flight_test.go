package cachetrip_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// rawOrigin is an origin that writes what a test says onto the connection, byte by byte: it can stall,
// cut and lie as no http.Server does.
type rawOrigin struct {
	t        testing.TB
	listener net.Listener
	script   func(*rawCall)
	written  atomic.Int64 // bytes of content, as far as write was used for it

	mu    sync.Mutex
	calls []*rawCall
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

// rawCall is one request at a rawOrigin.
type rawCall struct {
	*http.Request
	n    int // the number of the request, from 0
	w    *rawOrigin
	conn net.Conn
	gone chan struct{} // closed when the client has closed the connection
	cut  bool
}

func newRaw(t testing.TB, script func(*rawCall)) *rawOrigin {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &rawOrigin{t: t, listener: listener, script: script, conns: make(map[net.Conn]bool)}
	w.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns[conn] = true
			w.mu.Unlock()
			w.done.Go(func() { w.serve(conn) })
		}
	})
	return w
}

func (w *rawOrigin) url() string { return "http://" + w.listener.Addr().String() }

func (w *rawOrigin) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		w.mu.Lock()
		delete(w.conns, conn)
		w.mu.Unlock()
	}()
	requests := make(chan *http.Request)
	gone := make(chan struct{})
	stop := make(chan struct{})
	defer close(stop)
	w.done.Go(func() { // so that a closed connection is seen while an answer is being written
		defer close(gone)
		r := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			select {
			case requests <- req:
			case <-stop:
				return
			}
		}
	})
	for {
		var req *http.Request
		select {
		case req = <-requests:
		case <-gone:
			return
		}
		w.mu.Lock()
		c := &rawCall{Request: req, n: len(w.calls), w: w, conn: conn, gone: gone}
		w.calls = append(w.calls, c)
		w.mu.Unlock()
		w.script(c)
		if c.cut {
			return
		}
	}
}

// write writes text as it stands.
func (c *rawCall) write(text string) { io.WriteString(c.conn, text) }

// head writes a status line and fields, given as lines.
func (c *rawCall) head(code int, lines ...string) {
	c.write(fmt.Sprintf("HTTP/1.1 %d %s\r\nDate: %s\r\n", code, http.StatusText(code), time.Now().UTC().Format(http.TimeFormat)))
	for _, line := range lines {
		c.write(line + "\r\n")
	}
	c.write("\r\n")
}

// content writes bytes of a body, and counts them.
func (c *rawCall) content(b []byte) {
	n, _ := c.conn.Write(b)
	c.w.written.Add(int64(n))
}

// whole answers 200 with a body and its length.
func (c *rawCall) whole(body []byte, lines ...string) {
	c.head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
	c.content(body)
}

// hangUp closes the connection, in the middle of what it carries.
func (c *rawCall) hangUp() { c.cut = true }

// connections returns how many connections are open.
func (w *rawOrigin) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns)
}

// requests returns the requests so far.
func (w *rawOrigin) requests() []*rawCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func (w *rawOrigin) close() {
	w.listener.Close()
	w.mu.Lock()
	for conn := range w.conns {
		conn.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}

// rig is a cache before an origin, and what was there before it.
type rig struct {
	testing.TB
	*cachetrip.Transport
	dir  string // empty if the cache is in memory
	base *http.Transport
}

// inEachStore runs test with a cache on disk and with one in memory, and checks that it leaves
// neither goroutines nor descriptors.
func inEachStore(t *testing.T, test func(r *rig)) { eachStore(t, newRig, test) }

// parallelInEachStore is inEachStore for one of several cases that run at the
// same time, because they wait for most of their time. Nobody can tell whose
// goroutines are left then, so the test that has the cases calls leavesNothing.
func parallelInEachStore(t *testing.T, test func(r *rig)) {
	t.Parallel()
	eachStore(t, newUncheckedRig, test)
}

func eachStore(t *testing.T, run func(t testing.TB, dir string, test func(r *rig)), test func(r *rig)) {
	for _, name := range []string{"disk", "memory"} {
		t.Run(name, func(t *testing.T) {
			dir := ""
			if name == "disk" {
				dir = t.TempDir()
			}
			run(t, dir, test)
		})
	}
}

// newRig runs a test with a rig, and checks that no goroutine and no descriptor
// is left.
func newRig(t testing.TB, dir string, test func(r *rig)) {
	t.Helper()
	before := running(t)
	descriptors := descriptors()
	newUncheckedRig(t, dir, test)
	noneLeft(t, before, descriptors)
}

func newUncheckedRig(t testing.TB, dir string, test func(r *rig)) {
	t.Helper()
	r := &rig{TB: t, dir: dir}
	r.open()
	test(r)
	r.close()
}

// leavesNothing has t fail if goroutines or descriptors are left when t and its
// parallel cases have ended.
func leavesNothing(t *testing.T) {
	before, descriptors := running(t), descriptors()
	t.Cleanup(func() { noneLeft(t, before, descriptors) })
}

func (r *rig) open() {
	r.Helper()
	r.base = &http.Transport{DisableCompression: true}
	r.Transport = &cachetrip.Transport{Base: r.base}
	if r.dir == "" {
		r.Store = newMemory(256 << 20)
		return
	}
	disk, err := store.OpenDisk(r.dir, store.DiskOptions{})
	if err != nil {
		r.Fatal(err)
	}
	r.Store = disk
}

func (r *rig) close() {
	r.Helper()
	if err := r.Transport.Close(); err != nil {
		r.Error(err)
	}
	if closer, ok := r.Store.(io.Closer); ok {
		if err := closer.Close(); err != nil {
			r.Error(err)
		}
	}
	r.base.CloseIdleConnections()
}

// restart is what a new process finds: the directory and nothing else.
func (r *rig) restart() {
	r.Helper()
	if r.dir == "" {
		r.Skip("a cache in memory ends with its process")
	}
	r.close()
	r.open()
}

// request makes a request; fields are given as name, value, ….
func (r *rig) request(ctx context.Context, url string, fields ...string) *http.Request {
	r.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	return req
}

func (r *rig) send(ctx context.Context, url string, fields ...string) *http.Response {
	r.Helper()
	resp, err := r.RoundTrip(r.request(ctx, url, fields...))
	if err != nil {
		r.Fatal(err)
	}
	return resp
}

// get makes a request and reads the answer to its end.
func (r *rig) get(url string, fields ...string) (*http.Response, []byte) {
	r.Helper()
	resp := r.send(r.Context(), url, fields...)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		r.Fatalf("reading the body: %v after %d bytes", err, len(body))
	}
	return resp, body
}

// wantBody checks a body without printing megabytes.
func wantBody(t testing.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Errorf("got a body of %d bytes, want one of %d; they differ from byte %d on", len(got), len(want), at)
}

// wantStatus checks parts of Cache-Status.
func wantStatus(t testing.TB, resp *http.Response, want ...string) {
	t.Helper()
	got := resp.Header.Get("Cache-Status")
	members := strings.Split(got, "; ")
	for _, w := range want {
		no := strings.HasPrefix(w, "!")
		if slices.Contains(members, strings.TrimPrefix(w, "!")) == no {
			t.Errorf("got Cache-Status %q, want %q in it", got, w)
		}
	}
}

// noise returns bytes in which no two stretches are alike, others for each seed.
func noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return b
}

// soon waits for what must happen, for longer than any machine needs.
func soon(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

func within(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("still waiting: %s\n%s", what, buf[:runtime.Stack(buf, true)])
	}
}

// running returns the stacks of all goroutines, by the line that names them.
func running(t testing.TB) map[string]string {
	buf := make([]byte, 1<<20)
	stacks := make(map[string]string)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		stacks[name] = stack
	}
	return stacks
}

// descriptors returns how many files are open, -1 if that can't be known.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// noneLeft checks that every goroutine and descriptor that was not there before has ended.
func noneLeft(t testing.TB, before map[string]string, files int) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what was left open
	var left []string
	var open int
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left = left[:0]
		for name, stack := range running(t) {
			if _, was := before[name]; !was && !strings.Contains(stack, "testing.") && !strings.Contains(stack, "cachetrip_test.(*rawOrigin)") {
				left = append(left, stack)
			}
		}
		if open = descriptors(); len(left) == 0 && open <= files {
			return
		}
	}
	if len(left) > 0 {
		t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
	}
	if open > files {
		t.Errorf("%d descriptors are open, %d were before", open, files)
	}
}

const fresh = "Cache-Control: max-age=3600"

// TestHerd: 100 callers on an empty cache are one request, whose answer all get.
func TestHerd(t *testing.T) {
	inEachStore(t, func(r *rig) {
		for _, size := range []int{0, 1, 5000, 200_000, 1 << 20} {
			body := noise(size, 1)
			release := make(chan struct{})
			origin := newRaw(r, func(c *rawCall) {
				<-release
				c.whole(body, fresh)
			})
			const callers = 100
			before := r.Stats()
			var wg sync.WaitGroup
			var collapsed, hits, led atomic.Int32
			for range callers {
				wg.Go(func() {
					resp, got := r.get(origin.url())
					wantBody(r, got, body)
					if resp.ContentLength != int64(size) {
						r.Errorf("got length %d, want %d", resp.ContentLength, size)
					}
					switch s := cachetrip.StatusOf(resp); {
					case s.Hit:
						hits.Add(1)
					case s.Collapsed:
						wantStatus(r, resp, "fwd=uri-miss", "fwd-status=200", "stored", "collapsed")
						collapsed.Add(1)
					default:
						wantStatus(r, resp, "fwd=uri-miss", "fwd-status=200", "stored")
						led.Add(1)
					}
				})
			}
			soon(r, "all ask", func() bool { return r.Stats().Requests-before.Requests == callers })
			time.Sleep(20 * time.Millisecond) // in which they come to wait, or, if not, are hits
			close(release)
			wg.Wait()
			if n := len(origin.requests()); n != 1 {
				r.Errorf("%d bytes: got %d requests, want 1", size, n)
			}
			if led.Load() != 1 || collapsed.Load()+hits.Load() != callers-1 || collapsed.Load() < callers/2 {
				r.Errorf("%d bytes: %d led, %d collapsed, %d hits", size, led.Load(), collapsed.Load(), hits.Load())
			}
			if n := r.Stats().Collapsed - before.Collapsed; n != uint64(collapsed.Load()) {
				r.Errorf("Stats counts %d collapsed, want %d", n, collapsed.Load())
			}
			origin.close()
		}
	})
}

// TestHerdWithoutBarrier: nor does it matter when exactly they come: before, while or just after
// the response is stored.
func TestHerdWithoutBarrier(t *testing.T) {
	inEachStore(t, func(r *rig) {
		origin := newRaw(r, func(c *rawCall) { c.whole([]byte(c.URL.Path), fresh) })
		defer origin.close()
		const rounds, callers = 100, 16
		for round := range rounds {
			var wg sync.WaitGroup
			for i := range callers {
				wg.Go(func() {
					for range i * 10 {
						runtime.Gosched()
					}
					path := "/" + strconv.Itoa(round)
					if _, got := r.get(origin.url() + path); string(got) != path {
						r.Errorf("got %q, want %q", got, path)
					}
				})
			}
			wg.Wait()
		}
		if n := len(origin.requests()); n != rounds {
			r.Errorf("got %d requests, want %d", n, rounds)
		}
	})
}

// lateStore makes a look-up return what was there some time ago.
type lateStore struct {
	store.Store
	hold func()
}

func (s lateStore) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	entries, err := s.Store.Entries(ctx, key)
	s.hold()
	return entries, err
}

// TestLookedUpTooEarly: who looked up just before a response was stored, and comes to ask just
// after, does not ask again.
func TestLookedUpTooEarly(t *testing.T) {
	inEachStore(t, func(r *rig) {
		origin := newRaw(r, func(c *rawCall) { c.whole([]byte("hello"), fresh) })
		defer origin.close()
		var first atomic.Bool
		looked, goOn := make(chan struct{}), make(chan struct{})
		disk := r.Store
		defer func() { r.Store = disk }()
		r.Store = lateStore{disk, func() {
			if first.CompareAndSwap(false, true) {
				close(looked)
				<-goOn
			}
		}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			resp, got := r.get(origin.url())
			wantBody(r, got, []byte("hello"))
			wantStatus(r, resp, "hit")
		}()
		<-looked
		r.get(origin.url())
		close(goOn)
		<-done
		if n := len(origin.requests()); n != 1 {
			r.Errorf("got %d requests, want 1", n)
		}
	})
}

// TestHerdOnStale: 100 callers on a stale response are one validation, confirmed or not.
func TestHerdOnStale(t *testing.T) {
	inEachStore(t, func(r *rig) {
		for _, code := range []int{304, 200} {
			stale, current := noise(300_000, 2), noise(300_000, 3)
			if code == 304 {
				current = stale
			}
			release := make(chan struct{})
			origin := newRaw(r, func(c *rawCall) {
				switch {
				case c.n == 0:
					c.whole(stale, fresh, `ETag: "1"`)
				case c.Header.Get("If-None-Match") != `"1"`:
					r.Errorf("request %d: got If-None-Match %q", c.n, c.Header.Get("If-None-Match"))
					c.head(500, "Content-Length: 0")
				default:
					<-release
					if code == 304 {
						c.head(304, fresh, `ETag: "1"`)
					} else {
						c.whole(current, fresh, `ETag: "2"`)
					}
				}
			})
			r.get(origin.url())
			if err := r.Invalidate(r.Context(), origin.url()); err != nil {
				r.Fatal(err)
			}
			const callers = 100
			before := r.Stats().Requests
			var wg sync.WaitGroup
			var collapsed atomic.Int32
			for range callers {
				wg.Go(func() {
					resp, got := r.get(origin.url())
					wantBody(r, got, current)
					if s := cachetrip.StatusOf(resp); s.Collapsed {
						collapsed.Add(1)
						wantStatus(r, resp, "fwd=stale", "fwd-status="+strconv.Itoa(code), "collapsed")
						if s.Revalidated != (code == 304) {
							r.Errorf("got Revalidated %t", s.Revalidated)
						}
					}
				})
			}
			soon(r, "all ask", func() bool { return r.Stats().Requests-before == callers })
			time.Sleep(20 * time.Millisecond)
			close(release)
			wg.Wait()
			if n := len(origin.requests()); n != 2 {
				r.Errorf("%d: got %d requests, want 2", code, n)
			}
			if n := collapsed.Load(); n < callers/2 {
				r.Errorf("%d: %d collapsed", code, n)
			}
			origin.close()
		}
	})
}

// TestFollowersReadAlong: followers have the head and what has come while the rest is still to
// come, and read on at their own pace.
func TestFollowersReadAlong(t *testing.T) {
	inEachStore(t, func(r *rig) {
		body := noise(1<<20, 4)
		const first = 70_000
		next := make(chan struct{})
		origin := newRaw(r, func(c *rawCall) {
			c.head(200, fresh, "Content-Length: "+strconv.Itoa(len(body)))
			c.content(body[:first])
			<-next
			c.content(body[first:])
		})
		defer origin.close()
		var responses []*http.Response
		for i := range 5 {
			resp := r.send(r.Context(), origin.url())
			got := make([]byte, first)
			if _, err := io.ReadFull(resp.Body, got); err != nil {
				r.Fatal(err)
			}
			wantBody(r, got, body[:first])
			if i > 0 {
				wantStatus(r, resp, "collapsed")
			}
			responses = append(responses, resp)
		}
		close(next)
		// The last goes ahead to the end, while the others do not read at all.
		for i := range responses {
			resp := responses[len(responses)-1-i]
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				r.Fatal(err)
			}
			wantBody(r, rest, body[first:])
			resp.Body.Close()
		}
		resp, got := r.get(origin.url())
		wantStatus(r, resp, "hit")
		wantBody(r, got, body)
	})
}

// TestWaitersGoAhead: what can't be shared makes the waiters go ahead at once and in parallel, and
// those who come later do not wait at all. What fails is another matter: see share_test.go.
func TestWaitersGoAhead(t *testing.T) {
	const callers = 20
	for _, test := range []struct {
		name   string
		answer func(c *rawCall)
		twice  bool // a second herd asks in parallel at once
	}{
		{name: "no-store", twice: true,
			answer: func(c *rawCall) { c.whole([]byte("x"), "Cache-Control: no-store") }},
		{name: "max-age=0, no validator", twice: true,
			answer: func(c *rawCall) { c.whole([]byte("x"), "Cache-Control: max-age=0") }},
		{name: "nothing said", twice: true,
			answer: func(c *rawCall) { c.whole([]byte("x")) }},
		{name: "no-cache", twice: true,
			answer: func(c *rawCall) { c.whole([]byte("x"), "Cache-Control: no-cache", `ETag: "1"`) }},
		{name: "another variant",
			answer: func(c *rawCall) { c.whole([]byte("x"), fresh, "Vary: Who") }},
		{name: "any variant", twice: true,
			answer: func(c *rawCall) { c.whole([]byte("x"), fresh, "Vary: *") }},
		{name: "too large", twice: true,
			answer: func(c *rawCall) {
				c.head(200, fresh, "Content-Length: 1000000000000")
				c.hangUp()
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				release := make(chan struct{})
				// Nobody is answered before all others have asked.
				var others, all sync.WaitGroup
				others.Add(callers - 1)
				all.Add(callers)
				arrive := func(group *sync.WaitGroup) {
					group.Done()
					here := make(chan struct{})
					go func() {
						group.Wait()
						close(here)
					}()
					within(r, "all others ask, too", here)
				}
				var second atomic.Bool
				origin := newRaw(r, func(c *rawCall) {
					switch {
					case second.Load():
						arrive(&all)
					case c.n == 0:
						<-release
					default:
						arrive(&others)
					}
					test.answer(c)
				})
				defer origin.close()
				herd := func() *sync.WaitGroup {
					var wg sync.WaitGroup
					for i := range callers {
						wg.Go(func() {
							resp, err := r.RoundTrip(r.request(r.Context(), origin.url(), "Who", strconv.Itoa(i)))
							if err != nil {
								r.Error(err)
								return
							}
							io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
							if cachetrip.StatusOf(resp).Collapsed {
								r.Errorf("got Cache-Status %q", resp.Header.Get("Cache-Status"))
							}
						})
					}
					return &wg
				}
				before := r.Stats().Requests
				first := herd()
				soon(r, "all ask", func() bool { return r.Stats().Requests-before == callers })
				time.Sleep(20 * time.Millisecond)
				if n := len(origin.requests()); n != 1 {
					r.Errorf("before the first answer: got %d requests, want 1", n)
				}
				close(release)
				first.Wait()
				if !test.twice {
					return
				}
				second.Store(true)
				herd().Wait()
			})
		})
	}
}

// TestVariantsShareAmongThemselves: callers who want different variants of something new are one
// request for each variant.
func TestVariantsShareAmongThemselves(t *testing.T) {
	inEachStore(t, func(r *rig) {
		languages := []string{"en", "de", "fr"}
		release := make(chan struct{})
		origin := newRaw(r, func(c *rawCall) {
			<-release
			c.head(200, fresh, "Vary: Accept-Language", "Content-Length: 200002")
			c.content(noise(200_000, 5))
			time.Sleep(50 * time.Millisecond) // the head says that it varies, the body takes a while
			c.content([]byte(c.Header.Get("Accept-Language")))
		})
		defer origin.close()
		const callers = 60
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				language := languages[i%len(languages)]
				_, got := r.get(origin.url(), "Accept-Language", language)
				wantBody(r, got, append(noise(200_000, 5), language...))
			})
		}
		soon(r, "all ask", func() bool { return r.Stats().Requests == callers })
		time.Sleep(20 * time.Millisecond)
		close(release)
		wg.Wait()
		if n := len(origin.requests()); n != len(languages) {
			r.Errorf("got %d requests, want %d", n, len(languages))
		}
	})
}

// TestCancelledMarksNothing: that a caller changed its mind says nothing about the key.
func TestCancelledMarksNothing(t *testing.T) {
	inEachStore(t, func(r *rig) {
		asked := make(chan struct{})
		release := make(chan struct{})
		origin := newRaw(r, func(c *rawCall) {
			if c.n == 0 {
				close(asked)
				<-c.gone
				c.hangUp()
				return
			}
			<-release
			c.whole([]byte("x"), fresh)
		})
		defer origin.close()
		ctx, cancel := context.WithCancel(r.Context())
		go func() {
			<-asked
			cancel()
		}()
		if _, err := r.RoundTrip(r.request(ctx, origin.url())); !errors.Is(err, context.Canceled) {
			r.Errorf("got %v, want %v", err, context.Canceled)
		}
		within(r, "the request ends at the origin", origin.requests()[0].gone)
		const callers = 10
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() { r.get(origin.url()) })
		}
		soon(r, "all ask", func() bool { return r.Stats().Requests == callers+1 })
		time.Sleep(20 * time.Millisecond)
		close(release)
		wg.Wait()
		if n := len(origin.requests()); n != 2 {
			r.Errorf("got %d requests, want 2", n)
		}
	})
}

// expiring is a context whose deadline runs out when its test says so.
type expiring struct {
	context.Context
	done chan struct{}
}

func (e *expiring) Done() <-chan struct{} { return e.done }

func (e *expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// TestOwnContexts: the end of a caller's context ends its own waiting or reading at once, whatever
// the origin does, and nobody else's.
func TestOwnContexts(t *testing.T) {
	const size, first = 300_000, 100_000
	body := noise(size, 6)
	for _, leader := range []bool{true, false} {
		for _, stage := range []string{"before the head", "in the body", "in the body, stalled"} {
			for _, how := range []string{"cancel", "deadline", "close"} {
				if stage == "before the head" && how == "close" {
					continue
				}
				t.Run(fmt.Sprintf("leader %t, %s, %s", leader, stage, how), func(t *testing.T) {
					inEachStore(t, func(r *rig) {
						asked, head, rest := make(chan struct{}), make(chan struct{}), make(chan struct{})
						origin := newRaw(r, func(c *rawCall) {
							close(asked)
							<-head
							c.head(200, fresh, "Content-Length: "+strconv.Itoa(size))
							c.content(body[:first])
							<-rest
							c.content(body[first:])
						})
						defer origin.close()
						open := sync.OnceFunc(func() { close(head) })
						defer open()
						finish := sync.OnceFunc(func() { close(rest) })
						defer finish()
						if stage != "before the head" {
							open()
						}

						ctx, cancel := context.WithCancelCause(r.Context())
						defer cancel(nil)
						want := error(context.Canceled)
						why := errors.New("why")
						end := func() { cancel(why) }
						if how == "deadline" {
							want = context.DeadlineExceeded
							expiring := &expiring{Context: ctx, done: make(chan struct{})}
							ctx, end = expiring, sync.OnceFunc(func() { close(expiring.done) })
							defer end()
						}
						both := make(chan struct{}) // take part
						leaving := make(chan struct{})
						leave := func() {
							defer close(leaving)
							resp, err := r.RoundTrip(r.request(ctx, origin.url()))
							if stage != "before the head" {
								if err != nil {
									r.Error(err)
									return
								}
								got := make([]byte, first)
								if stage == "in the body" {
									got = got[:10]
								}
								if _, err := io.ReadFull(resp.Body, got); err != nil {
									r.Error(err)
								}
								<-both
								if how == "close" {
									resp.Body.Close()
									if _, err := resp.Body.Read(got); err == nil {
										r.Error("reading after Close: no error")
									}
									return
								}
								end()
								<-ctx.Done()
								for range 3 {
									var n int
									n, err = resp.Body.Read(got)
									if n != 0 || err == nil {
										r.Errorf("after the context has ended: got %d, %v", n, err)
									}
								}
								resp.Body.Close()
							}
							if !errors.Is(err, want) && !errors.Is(err, why) {
								r.Errorf("got %v, want %v", err, want)
							}
						}
						staying := make(chan struct{})
						stay := func() {
							defer close(staying)
							resp := r.send(r.Context(), origin.url())
							if stage != "before the head" {
								close(both)
							}
							got, err := io.ReadAll(resp.Body)
							if err != nil {
								r.Error(err)
							}
							resp.Body.Close()
							wantBody(r, got, body)
						}
						if leader {
							go leave()
							within(r, "the request", asked)
							go stay()
						} else {
							go stay()
							within(r, "the request", asked)
							go leave()
						}
						if stage == "before the head" {
							soon(r, "both ask", func() bool { return r.Stats().Requests == 2 })
							time.Sleep(50 * time.Millisecond)
							end()
						}
						within(r, "one leaves", leaving)
						select {
						case <-staying:
							r.Error("the other has everything before it was sent")
						default:
						}
						open()
						finish()
						within(r, "the other has everything", staying)
						if n := len(origin.requests()); n != 1 {
							r.Errorf("got %d requests, want 1", n)
						}
						resp, got := r.get(origin.url())
						wantStatus(r, resp, "hit")
						wantBody(r, got, body)
					})
				})
			}
		}
	}
}

// TestNobodyLeft: when the last who needs it leaves, the request to the origin ends, before the
// head and after it.
func TestNobodyLeft(t *testing.T) {
	for _, stage := range []string{"before the head", "in the body"} {
		for _, how := range []string{"cancel", "close"} {
			if stage == "before the head" && how == "close" {
				continue
			}
			t.Run(stage+", "+how, func(t *testing.T) {
				inEachStore(t, func(r *rig) {
					length := "10000000" // so that Close does not wait for it
					if how == "cancel" {
						length, r.DrainTime = "1000", time.Hour // nor does who was made to stop
					}
					origin := newRaw(r, func(c *rawCall) {
						if stage == "in the body" {
							c.head(200, fresh, "Content-Length: "+length)
							c.content([]byte("beginning"))
						}
						<-c.gone
						c.hangUp()
					})
					defer origin.close()
					const callers = 3
					var cancels [callers]context.CancelFunc
					var left [callers]chan struct{}
					ready := make(chan struct{}, callers)
					for i := range callers {
						ctx, cancel := context.WithCancel(r.Context())
						cancels[i], left[i] = cancel, make(chan struct{})
						go func() {
							defer close(left[i])
							resp, err := r.RoundTrip(r.request(ctx, origin.url()))
							if err != nil {
								return
							}
							io.ReadFull(resp.Body, make([]byte, 5))
							ready <- struct{}{}
							if how == "cancel" {
								io.Copy(io.Discard, resp.Body)
							} else {
								<-ctx.Done()
							}
							resp.Body.Close()
						}()
					}
					if stage == "in the body" {
						for range callers {
							<-ready
						}
					} else {
						soon(r, "all ask", func() bool { return r.Stats().Requests == callers })
						time.Sleep(10 * time.Millisecond)
					}
					soon(r, "the origin is asked", func() bool { return len(origin.requests()) > 0 })
					gone := origin.requests()[0].gone
					for i, cancel := range cancels {
						select {
						case <-gone:
							r.Fatalf("ended before reader %d left", i)
						case <-time.After(10 * time.Millisecond):
						}
						cancel()
						within(r, "it leaves", left[i])
					}
					within(r, "the request ends at the origin", gone)
					if n := len(origin.requests()); n != 1 {
						r.Errorf("got %d requests, want 1", n)
					}
				})
			})
		}
	}
}

// TestNothingIsLeft: whatever became of a download, its descriptors are closed, and not only when
// the collector gets to them.
func TestNothingIsLeft(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	inEachStore(t, func(r *rig) {
		body := noise(300_000, 41)
		half := len(body) / 2
		origin := newRaw(r, func(c *rawCall) {
			switch {
			case c.Header.Get("Range") != "" && c.URL.Path == "/changed":
				c.part(body, half, len(body), fresh, `ETag: "2"`)
			case c.Header.Get("Range") != "" && c.URL.Path != "/broken":
				c.rest(body, fresh, tag)
			case c.URL.Path == "/cut" && c.n%2 == 0, c.URL.Path == "/changed" && c.n%2 == 0, c.URL.Path == "/broken":
				c.head(200, fresh, "Accept-Ranges: bytes", tag, "Content-Length: "+strconv.Itoa(len(body)))
				c.content(body[:half])
				c.hangUp()
			default:
				c.whole(body, fresh, tag, "Accept-Ranges: bytes")
			}
		})
		defer origin.close()
		kept := r.Store
		read := func(path string, n int64, fields ...string) {
			for range 3 {
				ctx, cancel := context.WithCancel(r.Context())
				resp := r.send(ctx, origin.url()+path, fields...)
				io.CopyN(io.Discard, resp.Body, n)
				if n%2 == 1 {
					cancel()
				}
				resp.Body.Close()
				resp.Body.Close()
				cancel()
			}
		}
		const all = 1 << 30
		read("/whole", all)
		read("/whole", 1000)
		read("/whole", all, "Range", "bytes=100-200000")
		read("/whole", 10, "Range", "bytes=100-200000,3-5")
		read("/early", 1000)
		read("/cancelled", 1001)
		read("/cancelled", all)
		read("/cut", all)
		read("/changed", all)
		read("/broken", all)
		r.Store = newFullStore(kept, 150_000)
		read("/full", all)
		read("/full", 200_000)
		read("/full", 200_001)
		r.Store = kept
		r.base.CloseIdleConnections()
	})
}

// TestCallersMayReuse: what a caller does with its request after RoundTrip has failed, and with a
// response's header and trailer while others read, is its own business. The race detector watches.
func TestCallersMayReuse(t *testing.T) {
	inEachStore(t, func(r *rig) {
		origin := newRaw(r, func(c *rawCall) {
			c.head(200, fresh, "Accept-Ranges: bytes", `ETag: "1"`, "Trailer: Digest", "Transfer-Encoding: chunked")
			for range 10 {
				c.write("5\r\nhello\r\n")
				time.Sleep(time.Millisecond)
			}
			c.write("0\r\nDigest: right\r\n\r\n")
		})
		defer origin.close()
		for round := range 20 {
			url := origin.url() + "/" + strconv.Itoa(round)
			var wg sync.WaitGroup
			for i := range 4 {
				wg.Go(func() {
					ctx, cancel := context.WithCancel(r.Context())
					defer cancel()
					if i == 0 {
						time.AfterFunc(time.Duration(round)*200*time.Microsecond, cancel)
					}
					req := r.request(ctx, url)
					resp, err := r.RoundTrip(req)
					if err != nil {
						req.URL.Path = "/other"
						req.Header = http.Header{"Other": {"1"}}
						req.Method = "POST"
						return
					}
					for range 20 {
						resp.Header.Set("Cache-Control", "mine")
						resp.Header.Del("Accept-Ranges")
						resp.StatusCode++
						for name := range resp.Trailer {
							_ = resp.Trailer[name]
						}
						resp.Trailer = http.Header{"Mine": nil}
						time.Sleep(100 * time.Microsecond)
					}
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err == nil && resp.Trailer.Get("Digest") != "right" {
						r.Errorf("got trailer %v", resp.Trailer)
					}
				})
			}
			wg.Wait()
			resp, got := r.get(url)
			if resp.Header.Get("Cache-Control") != "max-age=3600" || resp.Trailer.Get("Digest") != "right" || string(got) != strings.Repeat("hello", 10) {
				r.Errorf("got %v, %q, %v", resp.Header, got, resp.Trailer)
			}
		}
	})
}

// TestPanicOfBase is passed on to who asked, and the others ask themselves.
func TestPanicOfBase(t *testing.T) {
	release := make(chan struct{})
	var n atomic.Int32
	c := &cachetrip.Transport{Store: store.NewMemory(0), Base: roundTripper(func(req *http.Request) (*http.Response, error) {
		if n.Add(1) == 1 {
			<-release
			panic("oh")
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	})}
	var wg sync.WaitGroup
	var panics atomic.Int32
	for range 5 {
		wg.Go(func() {
			defer func() {
				if p := recover(); p == "oh" {
					panics.Add(1)
				}
			}()
			req, _ := http.NewRequest("GET", "http://origin.example/", nil)
			if _, err := c.RoundTrip(req); err != nil {
				t.Error(err)
			}
		})
	}
	soon(t, "all ask", func() bool { return c.Stats().Requests == 5 })
	time.Sleep(10 * time.Millisecond)
	close(release)
	wg.Wait()
	if panics.Load() != 1 || n.Load() != 5 {
		t.Errorf("got %d panics and %d requests, want 1 and 5", panics.Load(), n.Load())
	}
}

// TestNewerThanWhatIsUnderWay has another process store something newer than what a request could share.
func TestNewerThanWhatIsUnderWay(t *testing.T) {
	var version atomic.Int32
	release := make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := version.Add(1)
		content := strings.Repeat(strconv.Itoa(int(min(v, 2))), 1000)
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, min(v, 2)))
		if v > 1 {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
			return
		}
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, content[:10])
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
		io.WriteString(w, content[10:])
	}))
	defer origin.Close()
	defer close(release)
	dir := t.TempDir()
	clients := make([]*http.Client, 2)
	for i := range clients {
		cache := &cachetrip.Transport{Store: openDisk(t, dir, store.DiskOptions{})}
		defer cache.Close()
		clients[i] = cache.Client()
	}
	ask := func(client int, fields ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest("GET", origin.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			req.Header.Set(fields[i], fields[i+1])
		}
		resp, err := clients[client].Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		first := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, first); err != nil {
			t.Fatal(err)
		}
		return resp, string(first)
	}
	if _, got := ask(0); got != "1" {
		t.Fatalf("the first response is of version %s", got)
	}
	if resp, got := ask(1, "Range", "bytes=0-99"); got != "2" {
		t.Fatalf("the other process got version %s, %s", got, resp.Header["Cache-Status"])
	}
	resp, got := ask(0)
	if got != "2" || resp.Header.Get("Etag") != `"2"` {
		t.Errorf("version %s, %s, is older than what is stored", got, resp.Header["Cache-Status"])
	}
}
