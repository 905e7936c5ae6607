package validation_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// recorded makes the cache log, and tell hooks, into a text.
func recorded(w *harness.World) *harness.LockedBuffer {
	b := new(harness.LockedBuffer)
	w.Transport.Logger = slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.Transport.Trace = &cachetrip.Trace{StaleHit: func(info cachetrip.AnswerInfo) {
		fmt.Fprintln(b, "stale hit after", info.Status.FwdStatus, "wait", info.Status.RetryAfter)
	}}
	return b
}

// TestRetryAfter: a caller that gets a stale response because the origin has
// failed learns when to ask again. So do the log and the hooks.
func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		name   string
		code   int
		fields []string
		want   time.Duration
	}{
		{"429", 429, []string{"Retry-After", "30"}, 30 * time.Second},
		{"429, and it does not say", 429, nil, 0},
		{"403", 403, []string{"Retry-After", "3600"}, time.Hour},
		{"403, nothing remains", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1"}, 0},
		{"503", 503, []string{"Retry-After", "120"}, 2 * time.Minute},
		{"500", 500, []string{"Retry-After", "1"}, time.Second},
		{"a date", 503, []string{"Retry-After", "DATE"}, 90 * time.Second},
		{"a date in the past", 429, []string{"Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"}, 0},
		{"0", 429, []string{"Retry-After", "0"}, 0},
		{"endless", 429, []string{"Retry-After", "99999999999999999999"}, (1 << 31) * time.Second},
		{"negative", 429, []string{"Retry-After", "-5"}, 0},
		{"nonsense", 429, []string{"Retry-After", "soon"}, 0},
		{"twice", 429, []string{"Retry-After", "5", "Retry-After", "6"}, 0},
	} {
		for _, by := range []string{"Transport", "Policy"} {
			t.Run(test.name+"/"+by, func(t *testing.T) {
				harness.EachWorldInBubble(t, func(w *harness.World) {
					told := recorded(w)
					req := w.Request("GET", "/?secret=1")
					if by == "Transport" {
						w.Transport.StaleIfError = time.Hour
					} else {
						req = req.WithContext(cachetrip.WithPolicy(context.Background(), cachetrip.Policy{StaleIfError: time.Hour}))
					}
					w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=10", "ETag", `"1"`))
					w.Get("/?secret=1")
					time.Sleep(time.Minute)
					fields := append([]string(nil), test.fields...)
					if len(fields) > 1 && fields[1] == "DATE" {
						fields[1] = time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat)
					}
					w.Handle(harness.Always(test.code, "limit", fields...))
					r := w.WantDo(fmt.Sprintf("200 good | fwd=stale; fwd-status=%d; detail=stale-if-error", test.code), req)
					harness.Check(w, "RetryAfter", r.Status.RetryAfter, test.want)
					harness.Check(w, "Retry-After of the stored response", r.Header["Retry-After"], []string(nil))
					hook := fmt.Sprintf("stale hit after %d wait %v\n", test.code, test.want)
					line := fmt.Sprintf("fwd-status=%d", test.code)
					if test.want > 0 {
						line += fmt.Sprintf(" retry-after=%v", test.want)
					}
					got := told.String()
					if !strings.Contains(got, hook) || !strings.Contains(got, line+" ttl=") || strings.Contains(got, "secret") {
						w.Errorf("told, without %q or %q:\n%s", hook, line, got)
					}
				})
			})
		}
	}
}

// TestRetryAfterOfAFollower: a caller that waited for a request of another one
// learns it, too.
func TestRetryAfterOfAFollower(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Transport.StaleIfError = time.Hour
		w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=10"))
		w.Get("/")
		time.Sleep(time.Minute)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			harness.Answer(rw, 429, "limit", "Retry-After", "30")
		})
		w.Asked()
		results, errs := w.Herd(w.Request("GET", "/"), w.Request("GET", "/"), w.Request("GET", "/"))
		for i, r := range results {
			if errs[i] != nil {
				w.Fatal(errs[i])
			}
			harness.Check(w, "response", r.String(), "200 good | fwd=stale; fwd-status=429; detail=stale-if-error")
			harness.Check(w, "RetryAfter", r.Status.RetryAfter, 30*time.Second)
		}
		harness.Check(w, "requests", len(w.Asked()), 1)
	})
}

// TestRefreshAtARateLimit: a rate limit that is noticed in the background says
// nothing about the resource. A refusal and a removal do.
func TestRefreshAtARateLimit(t *testing.T) {
	const stale = "200 good | hit; detail=stale-while-revalidate"
	for _, test := range []struct {
		name   string
		code   int
		fields []string
		next   string // the response to the next request
		late   string // the same when the response is too old for stale-while-revalidate
	}{
		{"429", 429, []string{"Retry-After", "30"}, stale, "200 good | fwd=stale; fwd-status=429; detail=stale-if-error"},
		{"403 with Retry-After", 403, []string{"Retry-After", "30"}, stale, "200 good | fwd=stale; fwd-status=403; detail=stale-if-error"},
		{"403, nothing remains", 403, []string{"X-RateLimit-Remaining", "0"}, stale, "200 good | fwd=stale; fwd-status=403; detail=stale-if-error"},
		{"503", 503, []string{"Retry-After", "30"}, stale, "200 good | fwd=stale; fwd-status=503; detail=stale-if-error"},
		{"401", 401, nil, "401 limit | fwd=stale; fwd-status=401; detail=invalidated", "401 limit | fwd=stale; fwd-status=401; detail=invalidated"},
		{"403", 403, nil, "403 limit | fwd=stale; fwd-status=403; detail=invalidated", "403 limit | fwd=stale; fwd-status=403; detail=invalidated"},
		{"404", 404, nil, "404 limit | hit", "404 limit | fwd=stale; fwd-status=404; stored"},
		{"410", 410, nil, "410 limit | hit", "410 limit | fwd=stale; fwd-status=410; stored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				told := recorded(w)
				w.Transport.StaleIfError = time.Hour
				w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=10, stale-while-revalidate=60", "ETag", `"1"`))
				w.Get("/")
				time.Sleep(20 * time.Second)
				w.Handle(harness.Always(test.code, "limit", append([]string{"Cache-Control", "max-age=10"}, test.fields...)...))
				w.WantGet(stale, "/")
				synctest.Wait()
				got := told.String()
				if failed := strings.Contains(got, fmt.Sprintf("fwd-status=%d retry-after=", test.code)); failed != (test.next == stale) {
					w.Errorf("told of a failure: %t\n%s", failed, got)
				}
				w.WantGet(test.next, "/")
				time.Sleep(time.Minute)
				w.WantGet(test.late, "/")
			})
		})
	}
}
