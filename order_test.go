package cachetrip_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// changes are what makes what is stored of a URL invalid.
var changes = []struct {
	name string
	make func(w *world)
}{
	{"POST", func(w *world) { w.do(w.request("POST", "/")) }},
	{"Purge", func(w *world) {
		if err := w.cache.Purge(context.Background(), w.url+"/"); err != nil {
			w.Error(err)
		}
	}},
	{"Invalidate", func(w *world) {
		if err := w.cache.Invalidate(context.Background(), w.url+"/"); err != nil {
			w.Error(err)
		}
	}},
}

// heldOrigin answers GETs by a page that is fresh for a minute, and holds back those with X-Hold until released.
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
		tagged(`"1"`, "page", "Cache-Control", "max-age=60")(rw, r)
		return
	}
	answer(rw, 200, body, "Cache-Control", "max-age=60")
}

// held makes a request that the origin holds back, and returns what waits for its answer once it is released.
func (o *heldOrigin) held(w *world, fields ...string) (release func() *result) {
	o.hold.Store(true)
	got := make(chan *result, 1)
	go func() {
		r, err := w.try(w.request("GET", "/", append(fields, "X-Hold", "1")...))
		if err != nil {
			w.Error(err)
		}
		got <- r
	}()
	<-o.arrived
	return func() *result {
		o.released <- true
		return <-got
	}
}

// TestOrderInOneInstant: a clock, such as that of Windows or of a bubble, may give one time to all that happens within
// milliseconds. What came after what is told apart all the same.
func TestOrderInOneInstant(t *testing.T) {
	for _, change := range changes {
		each := func(name string, test func(w *world, o *heldOrigin)) {
			t.Run(change.name+"/"+name, func(t *testing.T) {
				inBubbles(t, func(w *world) {
					o := newHeldOrigin()
					w.handle(o.ServeHTTP)
					test(w, o)
				})
			})
		}
		for _, before := range []bool{false, true} {
			name := "a request after it, with nothing stored"
			if before {
				name = "a request after it"
			}
			each(name, func(w *world, o *heldOrigin) {
				for range 3 {
					if before {
						w.get("/")
					}
					change.make(w)
					o.version.Add(1)
					body := w.get("/").Body
					w.wantGet("200 "+body+" | hit", "/")
				}
			})
		}
		each("a request under way", func(w *world, o *heldOrigin) {
			release := o.held(w)
			change.make(w)
			o.version.Store(1)
			check(w, "the request under way", release().Body, "0")
			w.asked()
			check(w, "after it", w.get("/").Body, "1")
			check(w, "number of requests", len(w.asked()), 1)
			w.wantGet("200 1 | hit", "/")
		})
		each("a validation under way", func(w *world, o *heldOrigin) {
			o.tagged = true
			w.get("/")
			release := o.held(w, "Cache-Control", "no-cache")
			change.make(w)
			check(w, "the request under way", release().Body, "page")
			w.asked()
			w.get("/")
			again := 1
			if change.name == "Purge" {
				again = 0 // the 304 came to nothing that is stored, and the request was repeated after the change
			}
			check(w, "number of requests", len(w.asked()), again)
			w.wantGet("200 page | hit", "/")
		})
		for _, first := range []bool{false, true} { // whether the change is first
			name := "who joined before it"
			if first {
				name = "who joined after it"
			}
			each(name, func(w *world, o *heldOrigin) {
				if first {
					change.make(w)
				}
				w.asked()
				release := o.held(w)
				got := make(chan *result, 1)
				go func() { got <- w.get("/") }()
				synctest.Wait() // it waits for the other one
				if !first {
					change.make(w)
				}
				o.version.Store(1)
				check(w, "the request under way", release().Body, "0")
				r := <-got
				check(w, "the request that waited", []any{r.Body, r.Status.Collapsed}, []any{map[bool]string{false: "1", true: "0"}[first], first})
			})
		}
	}
}

// TestNewerAnswerInOneInstant: of two answers the one to the later request is newer, when the other comes last.
func TestNewerAnswerInOneInstant(t *testing.T) {
	inBubbles(t, func(w *world) {
		o := newHeldOrigin()
		w.handle(o.ServeHTTP)
		release := o.held(w, "Cache-Control", "no-cache")
		o.version.Store(1)
		w.wantGet("200 1 | fwd=uri-miss; fwd-status=200; stored", "/", "Cache-Control", "no-cache")
		check(w, "the request under way", release().Body, "0")
		check(w, "after it", w.get("/").Body, "1")
		w.wantGet("200 1 | hit", "/")
		for i := range int32(3) { // one after the other
			o.version.Store(2 + i)
			body := w.get("/", "Cache-Control", "no-cache").Body
			w.wantGet("200 "+body+" | hit", "/")
		}
	})
}
