package contract_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// TestExplain compares the result of Explain with the outcome of the request.
func TestExplain(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		t := w.T
		working := false
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			h := rw.Header()
			switch r.URL.Path {
			case "/a":
				h.Set("Cache-Control", "max-age=100, stale-while-revalidate=100")
				h.Set("ETag", `"1"`)
				if r.Header.Get("If-None-Match") == `"1"` {
					rw.WriteHeader(http.StatusNotModified)
					return
				}
			case "/expires":
				h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
				h.Set("Expires", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
				h.Set("Cache-Control", "must-revalidate")
			case "/malformed":
				h.Set("Cache-Control", "max-age=60; private")
				h.Set("ETag", `"1"`)
			case "/heuristic":
				h.Set("Last-Modified", time.Now().Add(-1000*time.Hour).UTC().Format(http.TimeFormat))
			case "/language":
				h.Set("Cache-Control", "max-age=100, stale-if-error=100")
				h.Set("Vary", "Accept-Language")
				h.Set("ETag", `"`+r.Header.Get("Accept-Language")+`"`)
			case "/broken":
				h.Set("ETag", `"1"`)
				if r.Header.Get("Range") != "" {
					if !working { // the cache tries by itself, but not forever
						panic(http.ErrAbortHandler)
					}
					http.ServeContent(rw, r, "", time.Time{}, strings.NewReader("0123456789"))
					return
				}
				h.Set("Accept-Ranges", "bytes")
				h.Set("Content-Length", "10")
				io.WriteString(rw, "01234")
				return
			}
			io.WriteString(rw, "hello")
		})
		for _, test := range []struct {
			method, path string
			fields       []string
			sleep        time.Duration
			action       string
			says         []string
		}{
			{"GET", "/a", nil, 0, "fetch", []string{"Nothing is stored for this URL."}},
			{"GET", "/a", []string{"Cache-Control: only-if-cached"}, 0, "serve", []string{"One response is stored", "it has a lifetime and a validator (section 3)", "Its lifetime is 1m40s, from Cache-Control: max-age (section 4.2.1).", "fresh for another 1m39s", "nothing is sent (section 4)"}},
			{"GET", "/a", []string{"Cache-Control: no-cache"}, 0, "revalidate", []string{"The request says Cache-Control: no-cache.", `It is sent with If-None-Match: "1".`, "section 4.3.3"}},
			{"GET", "/a", nil, 150 * time.Second, "serve-and-revalidate", []string{"stale for 51s", "RFC 5861, section 3"}},
			{"GET", "/a", nil, time.Hour, "revalidate", []string{"Its age is 1h: 0s when it was received", "If the origin fails, so does the request"}},
			{"GET", "/a", []string{"Cache-Control: only-if-cached"}, time.Hour, "refuse", []string{"section 5.2.1.7"}},
			{"GET", "/a", []string{"Authorization: Bearer open-sesame-and-let-me-in"}, 0, "fetch", []string{"Nothing is stored for this URL with these credentials.", "One response is stored for other"}},
			{"GET", "/a", []string{"Cache-Control: no-store"}, 0, "forward", []string{"section 5.2.1.5"}},
			{"POST", "/a", nil, 0, "forward", []string{"section 4.4"}},
			{"GET", "/a", nil, 0, "revalidate", []string{"it was invalidated"}},
			{"GET", "/a", []string{"If-Match: x"}, 0, "forward", []string{"precondition (RFC 9111, section 4.3.2)"}},
			{"GET", "/expires", nil, 0, "fetch", nil},
			{"GET", "/expires", nil, 0, "serve", []string{"Its lifetime is 1h: Expires minus Date"}},
			{"GET", "/expires", []string{"Cache-Control: max-stale"}, 2 * time.Hour, "revalidate", []string{"must-revalidate forbids", "for the whole response", "must not be used without validation"}},
			{"GET", "/malformed", nil, 0, "fetch", nil},
			{"GET", "/malformed", nil, 0, "revalidate", []string{"Its Cache-Control is malformed, and is read in the stricter way"}},
			{"GET", "/heuristic", nil, 0, "fetch", nil},
			{"GET", "/heuristic", nil, 0, "serve", []string{"It states no lifetime. The cache assumes 4d4h"}},
			{"GET", "/language", []string{"Accept-Language: de"}, 0, "fetch", nil},
			{"GET", "/language", []string{"Accept-Language: en"}, 0, "revalidate", []string{"another value of Accept-Language", `If-None-Match: "de"`}},
			{"GET", "/language", []string{"Accept-Language: en"}, 0, "serve", []string{"2 responses are stored", "is selected by Accept-Language"}},
			{"GET", "/language", []string{"Accept-Language: en"}, 150 * time.Second, "revalidate", []string{"the stored response is served (stale-if-error"}},
			{"GET", "/broken", nil, 0, "fetch", nil},
			{"GET", "/broken", nil, 0, "resume", []string{"bytes 0-4 of 10 bytes", "It is sent with Range: bytes=5-.", `It is sent with If-Range: "1".`}},
		} {
			time.Sleep(test.sleep)
			req, err := http.NewRequestWithContext(t.Context(), test.method, w.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range test.fields {
				name, value, _ := strings.Cut(line, ": ")
				req.Header.Set(name, value)
			}
			name := test.method + " " + test.path + " " + strings.Join(test.fields, ", ")
			before := w.Transport.Stats()
			explained, err := w.Transport.Explain(req)
			working = test.action == "resume"
			if err != nil {
				t.Fatal(name, err)
			}
			if diff := cmp.Diff(before, w.Transport.Stats()); diff != "" {
				t.Errorf("%s: Explain changed what is counted:\n%s", name, diff)
			}
			text := explained.String()
			if explained.Action != test.action {
				t.Errorf("%s: %s, want %s; %s", name, explained.Action, test.action, text)
			}
			for _, want := range test.says {
				if !strings.Contains(text, want) {
					t.Errorf("%s: %q is not in\n%s", name, want, text)
				}
			}
			if strings.Contains(text, "open-sesame-and-let-me-in") {
				t.Errorf("%s: credentials in\n%s", name, text)
			}
			asked := w.Count()
			resp, err := w.Client.Do(req)
			if err != nil {
				t.Fatal(name, err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			time.Sleep(time.Second)
			if explained.Action == "refuse" {
				if resp.StatusCode != http.StatusGatewayTimeout {
					t.Errorf("%s: %s, want a refusal", name, resp.Status)
				}
				continue
			}
			status := cachetrip.StatusOf(resp)
			if explained.Status.Hit != status.Hit || explained.Status.Fwd != status.Fwd ||
				explained.Status.Detail != "" && explained.Status.Detail != status.Detail {
				t.Errorf("%s: explained %+v, then %+v", name, explained.Status, status)
			}
			sent := w.Count() - asked
			if (explained.Sent != nil) != (sent > 0) {
				t.Errorf("%s: %d requests sent, explained %v", name, sent, explained.Sent)
			}
			if sent > 0 && test.action != "forward" {
				got := w.Nth(asked).Header.Clone()
				for _, added := range []string{"User-Agent", "Accept-Encoding"} { // by net/http
					got.Del(added)
				}
				if diff := cmp.Diff(got, explained.Sent, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("%s: what was sent (-) and what was explained (+):\n%s", name, diff)
				}
			}
		}
	})
}

// TestExplainErrors explains what can't be, and what needs no store.
func TestExplainErrors(t *testing.T) {
	req, err := http.NewRequest("GET", "http://127.0.0.1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := new(cachetrip.Transport).Explain(req); err != nil || e.Action != "forward" || e.String() != "The request goes to the origin, past the cache." {
		t.Errorf("without a store: %+v, %v", e, err)
	}
	if _, err := new(cachetrip.Transport).Explain(&http.Request{}); err == nil {
		t.Error("without a URL: no error")
	}
	disk := harness.OpenDisk(t, t.TempDir(), store.DiskOptions{})
	disk.Close()
	if _, err := (&cachetrip.Transport{Store: disk}).Explain(req); err == nil {
		t.Error("with a closed store: no error")
	}
}

// TestReasonsHaveTexts looks for every reason in the rules' source: each is
// explained.
func TestReasonsHaveTexts(t *testing.T) {
	source, err := os.ReadFile("../../storable.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(source)) {
		if _, rest, ok := strings.Cut(line, `return "`); ok {
			reason, _, _ := strings.Cut(rest, `"`)
			if n++; reason != "" && cachetrip.ReasonText(reason) == "" {
				t.Errorf("no text for %q", reason)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d reasons found", n)
	}
}
