package validation_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// groupOrigin answers GETs with the groups in the query, and other methods with
// the groups that the query says to invalidate.
func groupOrigin(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if code, err := strconv.Atoi(q.Get("code")); err == nil {
		defer rw.WriteHeader(code)
	}
	if names := q["invalidate"]; names != nil {
		rw.Header()["Cache-Group-Invalidation"] = names
	}
	if r.Method != http.MethodGet {
		return
	}
	harness.Tagged(`"1"`, "page", "Cache-Control", "max-age=60")(tagging{rw, q["groups"]}, r)
}

// tagging adds groups to responses, but not to a 304.
type tagging struct {
	http.ResponseWriter
	groups []string
}

func (t tagging) WriteHeader(code int) {
	if t.groups != nil && code != http.StatusNotModified {
		t.Header()["Cache-Groups"] = t.groups
	}
	t.ResponseWriter.WriteHeader(code)
}

func (t tagging) Write(b []byte) (int, error) {
	if t.groups != nil {
		t.Header()["Cache-Groups"] = t.groups
	}
	return t.ResponseWriter.Write(b)
}

const (
	hitPage     = "200 page | hit"
	invalidPage = "200 page | fwd=stale; fwd-status=304; stored; detail=invalidated"
)

// TestGroups invalidates groups in each way, and looks at which responses are
// validated.
func TestGroups(t *testing.T) {
	all32 := make([]string, 32)
	for i := range all32 {
		all32[i] = fmt.Sprintf(`"%032d"`, i)
	}
	for _, test := range []struct {
		name    string
		groups  string // of the stored response
		method  string
		query   string // of the request that invalidates
		touched bool
	}{
		{"the group", `"a"`, "POST", `invalidate="a"`, true},
		{"one of its groups", `"a", "b"`, "POST", `invalidate="b"`, true},
		{"one of several that are invalidated", `"b"`, "DELETE", `invalidate="a", "b";x`, true},
		{"two lines", `"b"`, "PUT", `invalidate="a"&invalidate="b"`, true},
		{"an unknown method", `"a"`, "FROB", `invalidate="a"`, true},
		{"an error", `"a"`, "POST", `invalidate="a"&code=500`, true},
		{"a redirect", `"a"`, "POST", `invalidate="a"&code=303`, true},
		{"32 groups of 32 characters", strings.Join(all32, ", "), "POST", "invalidate=" + all32[31], true},
		{"by 32 groups", all32[31], "POST", "invalidate=" + strings.Join(all32, ", "), true},
		{"more groups than are read", strings.Repeat(`"b", `, 128) + `"a"`, "POST", `invalidate="z"`, true},
		{"by more groups than are read", `"z"`, "POST", "invalidate=" + strings.Repeat(`"b", `, 128) + `"a"`, true},
		{"an escaped name", `"a\"\\"`, "POST", `invalidate="a\"\\"`, true},

		{"another group", `"a"`, "POST", `invalidate="b"`, false},
		{"another case", `"a"`, "POST", `invalidate="A"`, false},
		{"a part of the name", `"ab"`, "POST", `invalidate="a"`, false},
		{"no group", "", "POST", `invalidate="a"`, false},
		{"a safe method", `"a"`, "GET", `invalidate="a"`, false},
		{"HEAD", `"a"`, "HEAD", `invalidate="a"`, false},
		{"OPTIONS", `"a"`, "OPTIONS", `invalidate="a"`, false},
		{"a malformed field", `"a"`, "POST", `invalidate="a`, false},
		{"a token", `"a"`, "POST", `invalidate=a`, false},
		{"malformed groups", `"a", `, "POST", `invalidate="a"`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(groupOrigin)
				path := "/page"
				if test.groups != "" {
					path += "?groups=" + escape(test.groups)
				}
				w.Get(path)
				w.WantGet(hitPage, path)
				method := w.Request(test.method, "/write?"+escape(test.query))
				w.Do(method)
				want := hitPage
				if test.touched {
					want = invalidPage
				}
				w.WantGet(want, path)
				w.WantGet(hitPage, path)
			})
		})
	}
}

// escape makes a text fit for a query, without its delimiters.
func escape(text string) string {
	return strings.NewReplacer(" ", "%20", `"`, "%22", `\`, "%5C", ";", "%3B").Replace(text)
}

// TestGroupOfMany invalidates a group with many members, for two identities,
// and on one origin only.
func TestGroupOfMany(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(groupOrigin)
		other := harness.NewWorld(w.T, harness.InMemory, harness.ServeLoopback)
		other.Handle(groupOrigin)
		elsewhere := &http.Client{Transport: &cachetrip.Transport{Store: w.Store, Base: other.Transport.Base}}
		get := func() *http.Response {
			resp, err := elsewhere.Get(other.URL + "/?groups=%22a%22")
			if err != nil {
				t.Fatal(err)
			}
			http.MaxBytesReader(nil, resp.Body, 100).Read(make([]byte, 100))
			resp.Body.Close()
			return resp
		}
		get()
		each := func(want string) {
			for i := range 20 {
				path := fmt.Sprintf("/%d?groups=%%22a%%22,%%22g%d%%22", i, i)
				for _, user := range []string{"", "Bearer token-of-alice", "Bearer token-of-bob"} {
					r := w.Request("GET", path)
					if user != "" {
						r.Header.Set("Authorization", user)
					}
					if got := w.Do(r); want != "" && got.String() != want {
						w.Errorf("%s as %q: got %s, want %s", path, user, got, want)
					}
				}
			}
		}
		each("")
		each(hitPage)
		w.Do(w.Request("POST", "/write?invalidate=%22a%22", "Authorization", "Bearer token-of-alice"))
		each(invalidPage)
		each(hitPage)
		if status, _ := cachetrip.StatusOf(get()), 0; !status.Hit {
			w.Errorf("a response of another origin is invalid: %+v", status)
		}
	})
}

// TestGroupsOfProcesses invalidates by a second Transport on the same
// directory, which has the same effect.
func TestGroupsOfProcesses(t *testing.T) {
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	w.Handle(groupOrigin)
	second := &cachetrip.Transport{Store: harness.OpenDisk(t, w.Dir, storeOptions), Base: w.Transport.Base}
	defer second.Close()
	const path = "/page?groups=%22a%22"
	w.Get(path)
	for range 3 {
		w.WantGet(hitPage, path)
		time.Sleep(time.Millisecond) // processes order events by time
		resp, err := second.RoundTrip(w.Request("POST", "/write?invalidate=%22a%22"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		w.WantGet(invalidPage, path)
	}
}

// TestLostLedger removes what the cache knows of invalidations. A response is
// then validated, because an invalidation may be among what is lost.
func TestLostLedger(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(groupOrigin)
		const path = "/page?groups=%22a%22"
		w.Get(path)
		w.WantGet(hitPage, path)
		w.Do(w.Request("POST", "/write?invalidate=%22a%22"))
		removeNotes(w)
		w.Transport.Close() // and what the process remembers
		w.Transport = &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}
		w.Client.Transport = w.Transport
		w.WantGet(invalidPage, path)
		w.WantGet(hitPage, path)
	})
}

// TestGroupsWhileClockStands invalidates between two requests without the time
// moving on.
func TestGroupsWhileClockStands(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(groupOrigin)
		const path = "/page?groups=%22a%22"
		w.Get(path)
		for range 3 {
			w.WantGet(hitPage, path)
			w.Do(w.Request("POST", "/write?invalidate=%22a%22"))
			w.WantGet(invalidPage, path)
		}
	})
}

// TestManyInvalidations invalidates more groups than a ledger has room for.
// Responses of a group that the ledger has forgotten are validated.
func TestManyInvalidations(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(groupOrigin)
		const path = "/page?groups=%22first%22"
		w.Get(path)
		w.Do(w.Request("POST", "/write?invalidate=%22first%22"))
		w.Get("/calm?groups=%22calm%22")
		for i := range 600 {
			w.Do(w.Request("POST", fmt.Sprintf("/write?invalidate=%%22g%d%%22", i)))
		}
		largest := 0
		for _, e := range notes(w) {
			size := 0
			for _, lines := range e.Header {
				size += len(strings.Join(lines, ""))
			}
			largest = max(largest, size)
		}
		if largest == 0 || largest > 16<<10 {
			w.Errorf("the largest note has %d bytes", largest)
		}
		w.WantGet(invalidPage, path)
		w.WantGet(invalidPage, "/calm?groups=%22calm%22")
		w.WantGet(hitPage, path)
		w.WantGet(hitPage, "/calm?groups=%22calm%22")
	})
}
