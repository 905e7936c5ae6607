package sharing_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cachetrip/cachetrip/internal/harness"
)

// changes are the ways to invalidate the stored responses of a URL.
var changes = []struct {
	name string
	make func(w *harness.World)
}{
	{"POST", func(w *harness.World) { w.Do(w.Request("POST", "/")) }},
	{"Purge", func(w *harness.World) {
		if err := w.Transport.Purge(context.Background(), w.URL+"/"); err != nil {
			w.Error(err)
		}
	}},
	{"Invalidate", func(w *harness.World) {
		if err := w.Transport.Invalidate(context.Background(), w.URL+"/"); err != nil {
			w.Error(err)
		}
	}},
}

// heldOrigin answers GETs by a page that is fresh for a minute, and holds back
// those with X-Hold until released.
type heldOrigin struct {
	version  atomic.Int32
	hold     atomic.Bool // the next request with X-Hold
	arrived  chan bool
	released chan bool
	tagged   bool
}

func newHeldOrigin() *heldOrigin {
	return &heldOrigin{arrived: make(chan bool), released: make(chan bool)}
}

func (o *heldOrigin) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.Method == "POST" {
		return
	}
	body := string(rune('0' + o.version.Load()))
	if r.Header.Get("X-Hold") != "" && o.hold.CompareAndSwap(true, false) {
		o.arrived <- true
		<-o.released
	}
	if o.tagged {
		harness.Tagged(`"1"`, "page", "Cache-Control", "max-age=60")(rw, r)
		return
	}
	harness.Answer(rw, 200, body, "Cache-Control", "max-age=60")
}

// held makes a request that the origin holds back, and returns what waits for
// its answer once it is released.
func (o *heldOrigin) held(w *harness.World, fields ...string) (release func() *harness.Result) {
	o.hold.Store(true)
	got := make(chan *harness.Result, 1)
	go func() {
		r, err := w.Try(w.Request("GET", "/", append(fields, "X-Hold", "1")...))
		if err != nil {
			w.Error(err)
		}
		got <- r
	}()
	<-o.arrived
	return func() *harness.Result {
		o.released <- true
		return <-got
	}
}

// TestOrderInOneInstant: a clock, such as that of Windows or of a bubble, may
// give one time to all that happens within milliseconds. The order of events is
// known nevertheless.
func TestOrderInOneInstant(t *testing.T) {
	for _, change := range changes {
		each := func(name string, test func(w *harness.World, o *heldOrigin)) {
			t.Run(change.name+"/"+name, func(t *testing.T) {
				harness.EachWorldInBubble(t, func(w *harness.World) {
					o := newHeldOrigin()
					w.Handle(o.ServeHTTP)
					test(w, o)
				})
			})
		}
		for _, before := range []bool{false, true} {
			name := "a request after it, with nothing stored"
			if before {
				name = "a request after it"
			}
			each(name, func(w *harness.World, o *heldOrigin) {
				for range 3 {
					if before {
						w.Get("/")
					}
					change.make(w)
					o.version.Add(1)
					body := w.Get("/").Body
					w.WantGet("200 "+body+" | hit", "/")
				}
			})
		}
		each("a request under way", func(w *harness.World, o *heldOrigin) {
			release := o.held(w)
			change.make(w)
			o.version.Store(1)
			harness.Check(w, "the request under way", release().Body, "0")
			w.Asked()
			harness.Check(w, "after it", w.Get("/").Body, "1")
			harness.Check(w, "number of requests", len(w.Asked()), 1)
			w.WantGet("200 1 | hit", "/")
		})
		each("a validation under way", func(w *harness.World, o *heldOrigin) {
			o.tagged = true
			w.Get("/")
			release := o.held(w, "Cache-Control", "no-cache")
			change.make(w)
			harness.Check(w, "the request under way", release().Body, "page")
			w.Asked()
			w.Get("/")
			again := 1
			if change.name == "Purge" {
				again = 0 // the 304 came to nothing that is stored, and the request was repeated after the change
			}
			harness.Check(w, "number of requests", len(w.Asked()), again)
			w.WantGet("200 page | hit", "/")
		})
		for _, first := range []bool{false, true} { // whether the change is first
			name := "who joined before it"
			if first {
				name = "who joined after it"
			}
			each(name, func(w *harness.World, o *heldOrigin) {
				if first {
					change.make(w)
				}
				w.Asked()
				release := o.held(w)
				got := make(chan *harness.Result, 1)
				go func() { got <- w.Get("/") }()
				synctest.Wait() // it waits for the other one
				if !first {
					change.make(w)
				}
				o.version.Store(1)
				harness.Check(w, "the request under way", release().Body, "0")
				r := <-got
				harness.Check(w, "the request that waited", []any{r.Body, r.Status.Collapsed}, []any{map[bool]string{false: "1", true: "0"}[first], first})
			})
		}
	}
}

// TestNewerAnswerInOneInstant: of two responses, the response to the later
// request is newer, even if it comes first.
func TestNewerAnswerInOneInstant(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		o := newHeldOrigin()
		w.Handle(o.ServeHTTP)
		release := o.held(w, "Cache-Control", "no-cache")
		o.version.Store(1)
		w.WantGet("200 1 | fwd=uri-miss; fwd-status=200; stored", "/", "Cache-Control", "no-cache")
		harness.Check(w, "the request under way", release().Body, "0")
		harness.Check(w, "after it", w.Get("/").Body, "1")
		w.WantGet("200 1 | hit", "/")
		for i := range int32(3) { // one after the other
			o.version.Store(2 + i)
			body := w.Get("/", "Cache-Control", "no-cache").Body
			w.WantGet("200 "+body+" | hit", "/")
		}
	})
}
