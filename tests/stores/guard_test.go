package stores_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// large is longer than what a store keeps with the entry.
var large = strings.Repeat("0123456789abcdef", 10<<10)

// storeSituation is a request that needs the store.
type storeSituation struct {
	name   string
	method string
	path   string
	warm   bool // something is stored before
	wait   time.Duration
	field  string
}

var storeSituations = []storeSituation{
	{name: "miss", path: "/miss"},
	{name: "miss without a body", path: "/empty"},
	{name: "hit", path: "/fresh", warm: true},
	{name: "validation", path: "/stale", warm: true, wait: time.Minute},
	{name: "part", path: "/fresh", warm: true, field: "bytes=1-5"},
	{name: "refresh behind", path: "/behind", warm: true, wait: time.Minute},
	{name: "HEAD", method: "HEAD", path: "/fresh"},
	{name: "HEAD that updates", method: "HEAD", path: "/stale", warm: true, wait: time.Minute},
	{name: "POST", method: "POST", path: "/fresh", warm: true},
	{name: "no-store after a stored one", path: "/changes", warm: true, wait: time.Minute},
}

// originTime is how long the origin of the storeSituations takes.
const originTime = 100 * time.Millisecond

// situationOrigin answers the requests of the storeSituations.
func situationOrigin(req *http.Request) (*http.Response, error) {
	select {
	case <-time.After(originTime):
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	body, fields := large, []string{"ETag: \"1\"", "Content-Type: text/plain"}
	switch req.URL.Path {
	case "/empty":
		body = ""
		fields = append(fields, "Cache-Control: max-age=3600")
	case "/stale":
		fields = append(fields, "Cache-Control: max-age=1")
	case "/behind":
		fields = append(fields, "Cache-Control: max-age=1, stale-while-revalidate=3600")
	case "/changes":
		if req.Header.Get("If-None-Match") != "" {
			return withBody(harness.Scripted(req, 200, nil, "Cache-Control: no-store", fmt.Sprintf("Content-Length: %d", len(body))), body), nil
		}
		fields = append(fields, "Cache-Control: max-age=1")
	default:
		fields = append(fields, "Cache-Control: max-age=3600")
	}
	switch {
	case req.Method == "POST":
		return withBody(harness.Scripted(req, 200, nil, "Content-Length: 4"), "done"), nil
	case req.Header.Get("If-None-Match") == `"1"`:
		return withBody(harness.Scripted(req, 304, nil, fields...), ""), nil
	}
	if req.Header.Get("Range") == "bytes=1-5" {
		fields = append(fields, "Content-Length: 5", fmt.Sprintf("Content-Range: bytes 1-5/%d", len(body)))
		return withBody(harness.Scripted(req, 206, nil, fields...), body[1:6]), nil
	}
	fields = append(fields, fmt.Sprintf("Content-Length: %d", len(body)))
	if req.Method == "HEAD" {
		return withBody(harness.Scripted(req, 200, nil, fields...), ""), nil
	}
	return withBody(harness.Scripted(req, 200, nil, fields...), body), nil
}

func withBody(resp *http.Response, body string) *http.Response {
	if resp.Body = http.NoBody; body != "" {
		resp.Body = io.NopCloser(strings.NewReader(body))
	}
	return resp
}

// want returns the body of the answer.
func (s *storeSituation) want() string {
	switch {
	case s.method == "HEAD" || s.path == "/empty":
		return ""
	case s.method == "POST":
		return "done"
	case s.field != "":
		return large[1:6]
	}
	return large
}

// ask makes the request of the situation.
func (s *storeSituation) ask(ctx context.Context, c *cachetrip.Transport) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, cmpOr(s.method, "GET"), "http://origin.example"+s.path, nil)
	if err != nil {
		return nil, "", err
	}
	if s.field != "" {
		req.Header.Set("Range", s.field)
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp, string(got), err
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// newFaulty returns a store that takes no notice of contexts. So a call that
// hangs goes on.
func newFaulty() *storefault.Store {
	s := storefault.Wrap(store.NewMemory(0))
	s.IgnoreContext = true
	return s
}

// faultyCache returns a cache for a situation, with the responses that it needs
// already stored.
func (s *storeSituation) faultyCache(t *testing.T) (*cachetrip.Transport, *storefault.Store) {
	kept := newFaulty()
	c := &cachetrip.Transport{Store: kept, Base: harness.RoundTripperFunc(situationOrigin), Trace: new(cachetrip.Trace)}
	if s.warm {
		before := storeSituation{path: s.path}
		if _, got, err := before.ask(t.Context(), c); got != large || err != nil {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		time.Sleep(s.wait)
	}
	return c, kept
}

// storeCalls are the calls that a fault is injected in. allCalls stands for all
// of them.
var storeCalls = []storefault.Op{
	storefault.Secret, storefault.Entries, storefault.Update, storefault.Create, storefault.Write, storefault.Commit,
	storefault.Open, storefault.ReadAt, storefault.All, storefault.Close, storefault.DraftClose,
	storefault.Fits, storefault.Evictions,
}

const allCalls storefault.Op = "all of them"

// TestStoreHangs lets each call of the store hang for a minute and ignore its
// context, in each situation. Every caller gets its response in time. Later the
// store is used again, and nothing stays open.
func TestStoreHangs(t *testing.T) {
	for _, s := range storeSituations {
		for _, op := range append(storeCalls, allCalls) {
			for _, limit := range []time.Duration{0, time.Second} {
				t.Run(fmt.Sprintf("%s, %s, %v", s.name, op, limit), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, kept := s.faultyCache(t)
						if op == allCalls {
							kept.Inject(storefault.Delay(time.Minute), storeCalls...)
						} else {
							kept.Inject(storefault.Delay(time.Minute), op)
						}
						ctx, most := t.Context(), 15*time.Second
						if limit != 0 {
							var cancel context.CancelFunc
							ctx, cancel = context.WithTimeout(ctx, limit)
							defer cancel()
							most = limit
						}
						began := time.Now()
						_, got, err := s.ask(ctx, c)
						if took := time.Since(began); got != s.want() || err != nil || took > most {
							t.Errorf("got %.20q (%d bytes), %v, after %v; want %d bytes within %v", got, len(got), err, took, len(s.want()), most)
						}
						kept.Inject(nil)
						time.Sleep(5 * time.Minute)
						again := storeSituation{path: "/later"}
						for range 2 {
							if _, got, err := again.ask(t.Context(), c); got != large || err != nil {
								t.Errorf("later: got %d bytes, %v", len(got), err)
							}
						}
						if stats := c.Stats(); stats.Hits == 0 {
							t.Errorf("the store is not used again: %+v", stats)
						}
						if err := c.Close(); err != nil {
							t.Error(err)
						}
						synctest.Wait()
						if kept.Held() != 0 {
							t.Errorf("%d bodies and drafts are open", kept.Held())
						}
					})
				})
			}
		}
	}
}

// TestStoreBreaks lets each call of the store panic, end its goroutine, or
// fail. Every caller gets its response at once, and the failure is counted.
func TestStoreBreaks(t *testing.T) {
	for how, fault := range map[string]storefault.Fault{
		"panics":                         storefault.Panic("oh"),
		"exits":                          storefault.Goexit(),
		"fails":                          storefault.Fail(fs.ErrInvalid),
		"panics when its caller is gone": storefault.Sequence(storefault.Delay(30*time.Second), storefault.Panic("oh")),
	} {
		for _, s := range storeSituations {
			for _, op := range storeCalls {
				t.Run(s.name+", "+string(op)+" "+how, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c, kept := s.faultyCache(t)
						var errs harness.LockedBuffer
						c.Trace = &cachetrip.Trace{StoreError: func(info cachetrip.StoreErrorInfo) { fmt.Fprintln(&errs, info.Err) }}
						kept.Inject(fault, op)
						before := len(kept.Calls(op))
						if _, got, err := s.ask(t.Context(), c); got != s.want() || err != nil {
							t.Errorf("got %.20q (%d bytes), %v", got, len(got), err)
						}
						time.Sleep(time.Minute)
						synctest.Wait()
						kept.Inject(nil, op)
						if err := c.Close(); err != nil {
							t.Error(err)
						}
						used := len(kept.Calls(op)) > before
						if counted := c.Stats().StoreErrors > 0; used && how != "fails" && !counted {
							t.Errorf("%d failures counted, %s: %q", c.Stats().StoreErrors, op, errs.String())
						}
						if kept.Held() != 0 {
							t.Errorf("%d bodies and drafts are open", kept.Held())
						}
					})
				})
			}
		}
	}
}

// TestHungCallsAreFew: while a store hangs, few of its calls are waited for,
// and callers are not kept by it any more.
func TestHungCallsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storeSituation{path: "/fresh", warm: true}
		c, kept := s.faultyCache(t)
		defer c.Close()
		end := make(chan struct{})
		kept.Inject(storefault.Hang(end), storefault.Entries)
		before := len(kept.Calls(storefault.Entries))
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 2*originTime)
			if _, got, err := s.ask(ctx, c); got != large || err != nil {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			cancel()
		}
		began := time.Now()
		if _, got, err := s.ask(t.Context(), c); got != large || err != nil || time.Since(began) != originTime {
			t.Errorf("got %d bytes, %v, after %v, want it after %v", len(got), err, time.Since(began), originTime)
		}
		if n := len(kept.Calls(storefault.Entries)) - before; n > 10 {
			t.Errorf("%d calls hang", n)
		}
		close(end)
		kept.Inject(nil, storefault.Entries)
		synctest.Wait()
		began = time.Now()
		if _, got, err := s.ask(t.Context(), c); got != large || err != nil || time.Since(began) != 0 {
			t.Errorf("got %d bytes, %v, after %v; want a hit", len(got), err, time.Since(began))
		}
	})
}

// TestCancelWhileStoreHangs: the end of a caller's interest ends its waiting
// for the store at once.
func TestCancelWhileStoreHangs(t *testing.T) {
	for _, op := range []storefault.Op{storefault.Entries, storefault.Secret, storefault.Create, storefault.Open, storefault.All} {
		for _, s := range storeSituations {
			t.Run(s.name+", "+string(op), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, kept := s.faultyCache(t)
					kept.Inject(storefault.Delay(time.Minute), op)
					ctx, cancel := context.WithCancel(t.Context())
					left := originTime + time.Second
					time.AfterFunc(left, cancel)
					began := time.Now()
					s.ask(ctx, c)
					if took := time.Since(began); took > left {
						t.Errorf("returned after %v, %v after it was cancelled", took, took-left)
					}
					time.Sleep(5 * time.Minute)
					c.Close()
					if kept.Held() != 0 {
						t.Errorf("%d bodies and drafts are open", kept.Held())
					}
				})
			})
		}
	}
}

// TestInvalidationOutlivesItsCaller: an unsafe request, Invalidate or Purge
// takes effect at once, even if the store hangs. The store gets it when it goes
// on, even if the caller has left.
func TestInvalidationOutlivesItsCaller(t *testing.T) {
	for _, op := range []storefault.Op{storefault.All, storefault.Update} {
		for how, change := range map[string]func(context.Context, *cachetrip.Transport) error{
			"POST": func(ctx context.Context, c *cachetrip.Transport) error {
				s := storeSituation{method: "POST", path: "/fresh"}
				_, got, err := s.ask(ctx, c)
				if got != "done" && err == nil {
					err = errors.New(got)
				}
				return err
			},
			"Invalidate": func(ctx context.Context, c *cachetrip.Transport) error {
				if err := c.Invalidate(ctx, "http://origin.example/fresh"); err == nil {
					return errors.New("no error, although the store hangs")
				}
				return nil
			},
			"Purge": func(ctx context.Context, c *cachetrip.Transport) error {
				if err := c.Purge(ctx, "http://origin.example/fresh"); err == nil {
					return errors.New("no error, although the store hangs")
				}
				return nil
			},
		} {
			t.Run(how+", "+string(op), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := storeSituation{path: "/fresh", warm: true}
					c, kept := s.faultyCache(t)
					defer c.Close()
					time.Sleep(time.Second)
					kept.Inject(storefault.Delay(time.Minute), op)
					ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
					defer cancel()
					began := time.Now()
					if err := change(ctx, c); err != nil || time.Since(began) > 200*time.Millisecond {
						t.Errorf("%v, after %v", err, time.Since(began))
					}
					kept.Inject(nil, op)
					began = time.Now()
					if _, got, err := s.ask(t.Context(), c); got != large || err != nil || time.Since(began) == 0 {
						t.Errorf("got %d bytes, %v: used without validation", len(got), err)
					}
					other := &cachetrip.Transport{Store: kept, Base: c.Base}
					defer other.Close()
					time.Sleep(2 * time.Minute)
					began = time.Now()
					if _, got, err := s.ask(t.Context(), other); got != large || err != nil || time.Since(began) == 0 {
						t.Errorf("got %d bytes, %v: used without validation by another", len(got), err)
					}
				})
			})
		}
	}
}

// TestNothingAfterClose: after Close has returned, the store is not used, and
// no response says that it was stored.
func TestNothingAfterClose(t *testing.T) {
	for _, s := range storeSituations {
		for _, when := range []string{"before the head", "in the body"} {
			t.Run(s.name+", "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, kept := s.faultyCache(t)
					goOn, body := make(chan struct{}), make(chan struct{})
					c.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
						if when == "before the head" {
							<-goOn
						}
						resp, err := situationOrigin(req)
						if when == "in the body" && err == nil && resp.Body != http.NoBody {
							resp.Body = io.NopCloser(&gated{from: resp.Body, gate: body})
						}
						return resp, err
					})
					var mu sync.Mutex
					var stored int
					var reasons []string
					c.Trace = &cachetrip.Trace{
						Stored: func(cachetrip.StoreInfo) { mu.Lock(); stored++; mu.Unlock() },
						NotStored: func(info cachetrip.StoreInfo) {
							mu.Lock()
							reasons = append(reasons, info.Reason)
							mu.Unlock()
						},
					}
					type answer struct {
						resp *http.Response
						got  string
						err  error
					}
					answers := make(chan answer, 1)
					go func() {
						resp, got, err := s.ask(t.Context(), c)
						answers <- answer{resp, got, err}
					}()
					time.Sleep(2 * originTime)
					synctest.Wait()
					if when == "before the head" && s.path == "/behind" {
						close(goOn) // else Close ends the revalidation; the caller has its answer
						c.Close()
						return
					}
					if err := c.Close(); err != nil {
						t.Fatal(err)
					}
					before, storedBefore := len(kept.Calls()), stored
					close(goOn)
					close(body)
					a := <-answers
					if a.got != s.want() || a.err != nil {
						t.Errorf("got %.20q (%d bytes), %v", a.got, len(a.got), a.err)
					}
					synctest.Wait()
					for _, call := range kept.Calls()[before:] {
						switch call.Op {
						case storefault.ReadAt, storefault.DraftReadAt, storefault.Close, storefault.DraftClose, storefault.Release:
						default:
							t.Errorf("%s was called after Close", call.Op)
						}
					}
					if stored != storedBefore {
						t.Error("said to be stored after Close")
					}
					if when == "before the head" && a.resp != nil && cachetrip.StatusOf(a.resp).Stored {
						t.Errorf("Cache-Status: %v", a.resp.Header["Cache-Status"])
					}
					if slices.Contains(reasons, "store-error") || c.Stats().StoreErrors != 0 {
						t.Errorf("counted as failures of the store: %q, %+v", reasons, c.Stats())
					}
					if kept.Held() != 0 {
						t.Errorf("%d bodies and drafts are open", kept.Held())
					}
				})
			})
		}
	}
}

// gated brings a byte, and the rest once its gate is open.
type gated struct {
	from io.Reader
	gate chan struct{}
	read bool
}

func (g *gated) Read(p []byte) (int, error) {
	if !g.read {
		g.read = true
		return g.from.Read(p[:1])
	}
	<-g.gate
	return g.from.Read(p)
}

// TestHeaderTooLarge: a response with a header that is too large for the store
// does not say that it was stored.
func TestHeaderTooLarge(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		for _, body := range []string{"", "body", large} {
			w.Handle(func(rw http.ResponseWriter, req *http.Request) {
				rw.Header().Set("Cache-Control", "max-age=3600")
				for i := range 20 {
					rw.Header().Set(fmt.Sprintf("X-Large-%d", i), strings.Repeat("x", 20<<10))
				}
				rw.Header().Set("Content-Length", fmt.Sprint(len(body)))
				io.WriteString(rw, body)
			})
			resp, err := w.Client.Get(w.URL + fmt.Sprintf("/%d", len(body)))
			if err != nil {
				w.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(got) != body || err != nil {
				w.Errorf("got %d bytes, %v", len(got), err)
			}
			if status := cachetrip.StatusOf(resp); status.Stored || status.Detail != "too-large" {
				w.Errorf("%d bytes: Cache-Status: %v", len(body), resp.Header["Cache-Status"])
			}
		}
	})
}

// TestOneWayToTheStore checks that only guard.go uses the Store of a Transport,
// so that every call goes through the guard.
func TestOneWayToTheStore(t *testing.T) {
	files := token.NewFileSet()
	names, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || filepath.Base(name) == "guard.go" {
			continue
		}
		file, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if method, ok := call.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Store" {
					return false // of package atomic
				}
			}
			selector, ok := n.(*ast.SelectorExpr)
			if !ok || selector.Sel.Name != "Store" {
				return true
			}
			if x, ok := selector.X.(*ast.Ident); ok && (x.Name == "store" || x.Name == "guard") {
				seen++
				return true // the type
			}
			t.Errorf("%s uses the Store", files.Position(selector.Pos()))
			return true
		})
	}
	if seen == 0 {
		t.Error("nothing was looked at")
	}
}

// TestSavingHangs: the store hangs while it writes the update of a 304. Another
// request for the response waits no longer than its own patience.
func TestSavingHangs(t *testing.T) {
	for _, s := range []storeSituation{{path: "/stale", warm: true, wait: time.Minute}, {path: "/stale", warm: true, wait: time.Minute, field: "bytes=1-5"}} {
		synctest.Test(t, func(t *testing.T) {
			c, kept := s.faultyCache(t)
			kept.Inject(storefault.Delay(time.Minute), storefault.Update)
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/stale", nil)
			first, err := c.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, got, err := s.ask(ctx, c); got != s.want() || err != nil {
				t.Errorf("the second: got %d bytes, %v", len(got), err)
			}
			if got, err := io.ReadAll(first.Body); string(got) != large || err != nil {
				t.Errorf("the first: got %d bytes, %v", len(got), err)
			}
			first.Body.Close()
			c.Close()
			time.Sleep(2 * time.Minute)
		})
	}
}

// TestCloseWaits: Close waits for revalidations in the background, even for
// those that it has cancelled, but not for a Base that ignores cancellation.
func TestCloseWaits(t *testing.T) {
	for _, test := range []struct {
		name  string
		lasts time.Duration // what Base takes once it was cancelled
		most  time.Duration // what Close may take
	}{
		{"at once", 0, 3 * time.Second},
		{"in a second", time.Second, 4 * time.Second},
		{"never", time.Hour, 9 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storeSituation{path: "/behind", warm: true, wait: time.Minute}
				c, _ := s.faultyCache(t)
				ended := make(chan struct{})
				c.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
					defer close(ended)
					<-req.Context().Done()
					time.Sleep(test.lasts)
					return nil, context.Cause(req.Context())
				})
				if _, got, err := s.ask(t.Context(), c); got != large || err != nil {
					t.Fatalf("got %d bytes, %v", len(got), err)
				}
				began := time.Now()
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > test.most {
					t.Errorf("Close took %v, want at most %v", took, test.most)
				}
				select {
				case <-ended:
				default:
					if test.lasts < time.Minute {
						t.Error("Close has returned before what it cancelled")
					}
				}
				<-ended
			})
		})
	}
}

// TestDraftCannotBeRead: a single reader does not need to read the draft, even
// if the origin cannot be asked for the rest.
func TestDraftCannotBeRead(t *testing.T) {
	const tag = "ETag: \"1\""
	for _, test := range []struct {
		name, method string
		fields       []string // of the request
		lines        []string // of the response
	}{
		{"a miss", "GET", nil, []string{tag}},
		{"without a validator", "GET", nil, nil},
		{"for nobody else", "GET", []string{"Cache-Control", "no-cache"}, []string{tag}},
		{"for nobody else, without a validator", "GET", []string{"Cache-Control", "max-age=0"}, nil},
		{"a POST that GETs can use", "POST", nil, []string{"Content-Location: /"}},
	} {
		for how, fault := range map[string]storefault.Fault{
			"fails":  storefault.Fail(fs.ErrInvalid),
			"panics": storefault.Panic("oh"),
			"hangs":  storefault.Delay(time.Minute),
		} {
			t.Run(test.name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					kept := newFaulty()
					asked := 0
					c := &cachetrip.Transport{Store: kept, Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
						asked++
						lines := append(test.lines, "Cache-Control: max-age=60", fmt.Sprintf("Content-Length: %d", len(large)))
						return withBody(harness.Scripted(req, 200, nil, lines...), large), nil
					})}
					kept.Inject(fault, storefault.DraftReadAt)
					req, err := http.NewRequestWithContext(t.Context(), test.method, "http://origin.example/", nil)
					if err != nil {
						t.Fatal(err)
					}
					for i := 0; i < len(test.fields); i += 2 {
						req.Header.Set(test.fields[i], test.fields[i+1])
					}
					resp, err := c.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(resp.Body)
					if string(got) != large || err != nil || asked != 1 {
						t.Errorf("got %d bytes, %v, by %d requests", len(got), err, asked)
					}
					if err := resp.Body.Close(); err != nil {
						t.Error(err)
					}
					if n := c.Stats().Stored; n != 1 {
						t.Errorf("%d were stored", n)
					}
					time.Sleep(2 * time.Minute)
					c.Close()
					if kept.Held() != 0 {
						t.Errorf("%d bodies and drafts are open", kept.Held())
					}
				})
			})
		}
	}
}

// TestCloseByTwo: a second Close waits for the first.
func TestCloseByTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storeSituation{path: "/fresh"}
		c, kept := s.faultyCache(t)
		kept.Inject(storefault.Delay(3*time.Second), storefault.Update)
		go s.ask(t.Context(), c)
		time.Sleep(2 * originTime)
		began := time.Now()
		go c.Close()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took < 2*time.Second {
			t.Errorf("the second Close returned after %v, before the store did", took)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestInvalidationWhileTooMuchHangs: a response that is invalidated while the
// store is not called is validated later.
func TestInvalidationWhileTooMuchHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storeSituation{path: "/fresh", warm: true}
		c, kept := s.faultyCache(t)
		defer c.Close()
		time.Sleep(time.Second)
		kept.Inject(storefault.Delay(time.Minute), storefault.All)
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			c.Purge(ctx, "http://origin.example/other")
			cancel()
		}
		post := storeSituation{method: "POST", path: "/fresh"}
		before := len(kept.Calls())
		if _, got, err := post.ask(t.Context(), c); got != "done" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if calls := kept.Calls()[before:]; len(calls) != 0 {
			t.Errorf("the store was asked for %v", calls)
		}
		kept.Inject(nil, storefault.All)
		time.Sleep(5 * time.Minute)
		began := time.Now()
		if _, got, err := s.ask(t.Context(), c); got != large || err != nil || time.Since(began) == 0 {
			t.Errorf("got %d bytes, %v: used without validation", len(got), err)
		}
	})
}

// TestCloseEndsWithItsRequest: a caller that closes a body waits for a store
// that hangs no longer than its request lasts.
func TestCloseEndsWithItsRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := harness.NewWorld(t, harness.InMemory, harness.ServePipes)
		hung := storefault.Wrap(w.Store)
		hung.Inject(storefault.Sequence(storefault.Delay(time.Hour), storefault.Fail(nil)), storefault.Write)
		w.Transport.Store = hung
		w.Handle(harness.Always(200, strings.Repeat("x", 40_000), "Cache-Control", "max-age=60"))
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := w.Client.Do(w.Request("GET", "/").WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.AfterFunc(300*time.Millisecond, cancel)
		resp.Body.Close()
		if took := time.Since(start); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		time.Sleep(2 * time.Hour)
	})
}
