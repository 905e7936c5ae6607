package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// This file is the worker: a process with its own Transport on the shared
// directory. It makes requests, verifies the responses, and reports them on its
// standard output, until it is killed.

// workerVariable is the environment variable that makes a process a worker.
const workerVariable = "CRASHTEST_WORKER"

// workerConfig is the value of workerVariable, as JSON.
type workerConfig struct {
	Name     string
	Dir      string
	MaxBytes int64
	Origin   string
	Seed     uint64
	Clients  int     // concurrent requests
	Suicides float64 // the share of store changes during which the worker kills itself
}

// event is a line of a worker's output. It is short enough to be written whole
// or not at all.
type event struct {
	Kind string `json:"k"`

	ID            uint64 `json:"i,omitempty"` // of the Update
	Key           string `json:"y,omitempty"`
	Begun         int64  `json:"b,omitempty"`
	Ended         int64  `json:"e,omitempty"`
	Arrived       int64  `json:"a,omitempty"` // when this process had the origin's response, at the latest; 0 if another one asked
	Before, After state  `json:",omitempty"`
	Fresh         bool   `json:"f,omitempty"` // the Update only freshens what is stored

	Result  string `json:"r,omitempty"` // how the request was answered
	Version string `json:"v,omitempty"`
	Bytes   int64  `json:"n,omitempty"`
	Text    string `json:"t,omitempty"`
}

// Kinds of events.
const (
	eventChange    = "change"    // an Update is about to write
	eventDone      = "done"      // the Update returned without an error
	eventDropped   = "dropped"   // the Update waited for a lock in vain, and may have removed the entries
	eventReading   = "reading"   // the entries of a key were read
	eventAnswer    = "answer"    // a request was answered, and its content verified
	eventError     = "error"     // an expected failure
	eventViolation = "violation" // a broken promise
	eventEvictions = "evictions"
)

// These are the ways in which a request is answered.
const (
	resultHit       = "hit"
	resultCollapsed = "collapsed"
	resultValidated = "304"
	resultOrigin    = "origin"
	resultPost      = "post"
)

type worker struct {
	workerConfig
	out       io.Writer
	resources []resource
	transport *cachetrip.Transport
	ids       atomic.Uint64

	mu      sync.Mutex
	posted  map[int]int      // the version of each resource after this process's last unsafe request
	arrived map[string]int64 // when the response to each request to the origin was there, by its requestField; 0: not known yet
}

// runWorker is the worker's main function. It returns when a promise is broken,
// or when the main process has ended.
func runWorker(config string, out io.Writer) error {
	w := &worker{out: out, resources: catalogue(), posted: make(map[int]int), arrived: make(map[string]int64)}
	if err := json.Unmarshal([]byte(config), &w.workerConfig); err != nil {
		return err
	}
	disk, err := store.OpenDisk(w.Dir, store.DiskOptions{MaxBytes: w.MaxBytes})
	if err != nil {
		return err
	}
	w.transport = &cachetrip.Transport{
		Store: &watched{Disk: disk, w: w, rand: rand.New(rand.NewPCG(w.Seed, 1))},
		Base:  &numbered{&http.Transport{MaxIdleConnsPerHost: w.Clients}, w},
	}
	for i := range w.Clients {
		r := rand.New(rand.NewPCG(w.Seed, uint64(i)+2))
		go func() {
			for again := -1; ; {
				again = w.request(r, again)
				time.Sleep(time.Duration(r.ExpFloat64() * float64(2*time.Millisecond)))
			}
		}()
	}
	go func() {
		for last := uint64(0); ; {
			time.Sleep(100 * time.Millisecond)
			now := disk.Evictions()
			w.tell(event{Kind: eventEvictions, Bytes: int64(now - last)})
			last = now
		}
	}()
	// Standard input ends when the main process ends, so that no worker
	// outlives it.
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// numbered numbers the requests to the origin. The origin repeats the number in
// its response. The response is there once the cache has given it to the caller
// that led, and not when Base returns it: the process may be stopped in between.
type numbered struct {
	base http.RoundTripper
	w    *worker
}

func (n *numbered) RoundTrip(req *http.Request) (*http.Response, error) {
	number := n.w.Name + "." + strconv.FormatUint(n.w.ids.Add(1), 10)
	req = req.Clone(req.Context())
	req.Header.Set(requestField, number)
	n.w.mu.Lock()
	n.w.arrived[number] = 0
	n.w.mu.Unlock()
	return n.base.RoundTrip(req)
}

// noteArrival notes that a caller has a response of the origin.
func (w *worker) noteArrival(number string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.arrived[number]; ok && at == 0 {
		w.arrived[number] = time.Now().UnixNano()
	}
}

// arrival returns when the response to a request to the origin was there, at the
// latest. It returns 0 if another process has made the request.
func (w *worker) arrival(number string) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok := w.arrived[number]
	if ok && at == 0 {
		return time.Now().UnixNano() // the caller that led has not got it yet
	}
	return at
}

// tell writes one line. A pipe takes up to 4 KiB at once or not at all, so a
// killed worker never writes part of a line.
func (w *worker) tell(e event) {
	if len(e.Text) > 2000 {
		e.Text = e.Text[:2000]
	}
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	w.out.Write(append(line, '\n'))
}

func (w *worker) violation(format string, args ...any) {
	w.tell(event{Kind: eventViolation, Text: w.Name + ": " + fmt.Sprintf(format, args...)})
}

func (w *worker) failed(what string, err error) {
	w.tell(event{Kind: eventError, Result: what + ": " + kindOf(err), Text: err.Error()})
	if kindOf(err) == "other" {
		w.violation("%s: %v", what, err)
	}
}

// kindOf returns whether an error is an expected failure or a broken promise.
func kindOf(err error) string {
	switch {
	case errors.Is(err, store.ErrTooLarge):
		return "no room"
	case errors.Is(err, store.ErrDamaged):
		return "damaged or gone"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, fs.ErrNotExist):
		return "gone"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "cut by the origin"
	case errors.Is(err, context.DeadlineExceeded):
		return "too slow"
	case store.CauseOf(err) == store.CauseLocked:
		return "locked"
	}
	return "other"
}
