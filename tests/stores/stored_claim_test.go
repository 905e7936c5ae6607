package stores_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// refusal is what a store refuses, and with which error.
type refusal struct {
	op  storefault.Op
	err error
}

// TestStoredIsClaimedOnlyOfWhatIs stores responses of all kinds, with a store
// that may fail. It compares their Status with the calls of hooks.
func TestStoredIsClaimedOnlyOfWhatIs(t *testing.T) {
	failed := errors.New("failed")
	for name, test := range map[string]struct {
		method  string
		before  string // a method to prepare with
		code    int
		body    string
		fields  []string
		request []string
		store   refusal // of the store that fails
		good    string  // the claim if all goes well
		bad     string  // the claim if the store fails
		told    string  // what hooks are told then
	}{
		"empty":           {"GET", "", 204, "", nil, nil, refusal{storefault.Update, failed}, "stored 60", "store-error", "GET not stored 204 store-error"},
		"empty 200":       {"GET", "", 200, "", nil, nil, refusal{storefault.Update, failed}, "stored 60", "store-error", "GET not stored 200 store-error"},
		"empty redirect":  {"GET", "", 301, "", []string{"Location", "/b"}, nil, refusal{storefault.Update, failed}, "stored 60", "store-error", "GET not stored 301 store-error"},
		"with a body":     {"GET", "", 200, "body", nil, nil, refusal{storefault.Create, failed}, "stored 60", "store-error", "GET not stored 200 store-error"},
		"too large":       {"GET", "", 200, "body", nil, nil, refusal{storefault.Create, store.ErrTooLarge}, "stored 60", "too-large", "GET not stored 200 too-large"},
		"HEAD":            {"HEAD", "", 200, "", nil, nil, refusal{storefault.Update, failed}, "stored 60", "store-error", "HEAD not stored 200 store-error"},
		"HEAD of a GET":   {"HEAD", "GET", 200, "body", nil, []string{"Cache-Control", "no-cache"}, refusal{storefault.Update, failed}, "stored 60", "", ""},
		"304":             {"GET", "GET", 200, "body", nil, []string{"Cache-Control", "no-cache"}, refusal{storefault.Update, failed}, "stored 60", "", ""},
		"304 to a HEAD":   {"HEAD", "", 200, "body", nil, []string{"If-None-Match", `"1"`}, refusal{storefault.Update, failed}, "", "", "HEAD not stored 304 status"},
		"POST":            {"POST", "", 200, "body", []string{"Content-Location", "/a"}, nil, refusal{storefault.Create, failed}, "stored 60", "store-error", "POST not stored 200 store-error"},
		"POST, too large": {"POST", "", 200, "body", []string{"Content-Location", "/a"}, nil, refusal{storefault.Create, store.ErrTooLarge}, "stored 60", "too-large", "POST not stored 200 too-large"},
		"POST to nowhere": {"POST", "", 200, "body", nil, nil, refusal{storefault.Create, failed}, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, fails := range []bool{false, true} {
				harness.EachWorld(t, func(w *harness.World) {
					broken := storefault.Wrap(w.Store)
					w.Transport.Store = broken
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						fields := append([]string{"Cache-Control", "max-age=60"}, test.fields...)
						harness.Tagged(`"1"`, test.body, fields...)(statusWriter{rw, test.code}, r)
					})
					if test.before != "" {
						w.Do(w.Request(test.before, "/a"))
					}
					var mu sync.Mutex
					var told []string
					tell := func(what string) func(cachetrip.StoreInfo) {
						return func(info cachetrip.StoreInfo) {
							mu.Lock()
							defer mu.Unlock()
							told = append(told, strings.TrimSpace(fmt.Sprint(info.Request.Method, " ", what, " ", info.StatusCode, " ", info.Reason)))
						}
					}
					w.Transport.Trace = &cachetrip.Trace{Stored: tell("stored"), NotStored: tell("not stored")}
					if fails {
						broken.Inject(storefault.Fail(test.store.err), test.store.op)
						if name == "304" { // the first failure is noticed when the response is on its way
							w.Do(w.Request(test.method, "/a", test.request...))
						}
					}
					s := w.Do(w.Request(test.method, "/a", test.request...)).Status
					if err := w.Transport.Close(); err != nil {
						w.Error(err)
					}
					want, got := test.good, ""
					if fails {
						want = test.bad
					}
					switch {
					case s.Stored:
						got = fmt.Sprintf("stored %.0f", s.TTL.Seconds()+0.999)
						if strings.HasPrefix(got, "stored 6") || strings.HasPrefix(got, "stored 5") {
							got = "stored 60"
						}
					case s.Detail == "no-cache", s.Detail == "status":
					default:
						got = s.Detail
					}
					harness.Check(w, fmt.Sprintf("status, as the store fails: %t", fails), got, want)
					if fails {
						harness.Check(w, "what hooks were told", strings.Join(told, ", "), test.told)
					} else if strings.Contains(strings.Join(told, ", "), "not stored") != (name == "304 to a HEAD") {
						w.Errorf("hooks were told %q", told)
					}
				})
			}
		})
	}
}

// statusWriter answers with another code than 200.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w statusWriter) WriteHeader(code int) {
	if code == 200 {
		code = w.code
	}
	w.ResponseWriter.WriteHeader(code)
}

// TestUpgradeBelow has a transport below the cache ask for an upgrade: each
// caller is given the connection as it is, and nobody waits for another's.
func TestUpgradeBelow(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello\n")
			<-c.Gone
			c.HangUp()
		})
		defer origin.Close()
		base := r.HTTP
		contexts := make(chan context.Context, 100)
		r.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			contexts <- req.Context()
			out := req.Clone(req.Context())
			out.Header.Set("Connection", "Upgrade")
			out.Header.Set("Upgrade", "echo")
			return base.RoundTrip(out)
		})
		for _, ends := range []bool{false, true} {
			ctx, cancel := r.Context(), func() {}
			if ends {
				ctx, cancel = context.WithCancel(ctx)
			}
			var bodies []io.ReadWriteCloser
			for range 3 { // one after the other, while those before are open
				req := r.Request(ctx, origin.URL())
				//lint:ignore SA1019 a caller may still set it
				req.Cancel = make(chan struct{})
				resp, err := r.RoundTrip(req)
				if err != nil {
					r.Fatal(err)
				}
				conn, ok := resp.Body.(io.ReadWriteCloser)
				if resp.StatusCode != 101 || !ok {
					r.Fatalf("%d with a %T", resp.StatusCode, resp.Body)
				}
				if cachetrip.StatusOf(resp).Collapsed {
					r.Error("somebody else's connection")
				}
				bodies = append(bodies, conn)
			}
			r.WaitForQuiet() // while all are open
			for _, conn := range bodies {
				if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" || err != nil {
					r.Errorf("read %q, %v", line, err)
				}
			}
			for range bodies {
				if ctx := <-contexts; ctx.Err() != nil {
					r.Error("the request of Base has ended")
				} else if ends {
					defer harness.Within(r, "the context of Base's request", ctx.Done())
				}
			}
			cancel()
			for _, conn := range bodies {
				conn.Close()
			}
		}
	})
}
