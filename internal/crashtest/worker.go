package main

import (
	"bytes"
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
	"strings"
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
	Before, After state  `json:",omitempty"`

	Result  string `json:"r,omitempty"` // how the request was answered
	Version string `json:"v,omitempty"`
	Bytes   int64  `json:"n,omitempty"`
	Text    string `json:"t,omitempty"`
}

// Kinds of events.
const (
	eventChange    = "change"    // an Update is about to write
	eventDone      = "done"      // the Update returned without an error
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

	mu     sync.Mutex
	posted map[int]int // the version of each resource after this process's last unsafe request
}

// runWorker is the worker's main function. It returns when a promise is broken,
// or when the main process has ended.
func runWorker(config string, out io.Writer) error {
	w := &worker{out: out, resources: catalogue(), posted: make(map[int]int)}
	if err := json.Unmarshal([]byte(config), &w.workerConfig); err != nil {
		return err
	}
	disk, err := store.OpenDisk(w.Dir, store.DiskOptions{MaxBytes: w.MaxBytes})
	if err != nil {
		return err
	}
	w.transport = &cachetrip.Transport{
		Store: &watched{Disk: disk, w: w, rand: rand.New(rand.NewPCG(w.Seed, 1))},
		Base:  &http.Transport{MaxIdleConnsPerHost: w.Clients},
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
	}
	return "other"
}

// die has the process kill itself at a random moment within the next steps of
// the store.
func die(r *rand.Rand) {
	wait := time.Duration(r.ExpFloat64() * float64(60*time.Microsecond))
	go func() {
		for end := time.Now().Add(wait); time.Now().Before(end); {
		}
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			p.Kill()
		}
	}()
}

// watched is a Disk that reports all lookups and changes.
type watched struct {
	*store.Disk
	w *worker

	mu   sync.Mutex
	rand *rand.Rand
}

func (s *watched) dies() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.Float64() < s.w.Suicides
}

func (s *watched) dieSoon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	die(s.rand)
}

// lookedUp is what a request found in the store. The request's context carries
// it.
type lookedUp struct {
	mu      sync.Mutex
	entries []*store.Entry
	newest  map[string]int // the newest version of each variant that this request found
}

type lookedUpKey struct{}

func (s *watched) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	begun := time.Now().UnixNano()
	entries, err := s.Disk.Entries(ctx, key)
	if err != nil {
		s.w.failed("entries", err)
		return entries, err
	}
	s.w.tell(event{Kind: eventReading, Key: key, Begun: begun, Ended: time.Now().UnixNano(), After: stateOf(entries)})
	if found, ok := ctx.Value(lookedUpKey{}).(*lookedUp); ok {
		found.mu.Lock()
		defer found.mu.Unlock()
		found.entries = entries
		for _, e := range entries {
			if r, err := parseRepresentation(e.Header.Get(versionField)); err == nil {
				found.newest[r.variant] = max(found.newest[r.variant], r.version)
			}
		}
	}
	return entries, nil
}

func (s *watched) Update(ctx context.Context, key string, fn func([]*store.Entry) []*store.Entry) error {
	id := s.w.ids.Add(1)
	writes := false
	err := s.Disk.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
		before := stateOf(current)
		now := time.Now().UnixNano()
		next := fn(current)
		if len(next) == len(current) && (len(next) == 0 || &next[0] == &current[0]) {
			writes = false
			s.w.tell(event{Kind: eventReading, Key: key, Begun: now, Ended: now, After: before})
			return next
		}
		s.w.checkChange(current, next)
		writes = true
		s.w.tell(event{Kind: eventChange, ID: id, Key: key, Begun: now, Before: before, After: stateOf(next)})
		if s.dies() {
			s.dieSoon()
		}
		return next
	})
	switch {
	case err != nil:
		s.w.failed("update", err)
	case writes:
		s.w.tell(event{Kind: eventDone, ID: id, Key: key, Ended: time.Now().UnixNano()})
	}
	return err
}

func (s *watched) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	b, err := s.Disk.Open(ctx, key, blob)
	if err != nil {
		s.w.failed("open", err)
	}
	return b, err
}

func (s *watched) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	d, err := s.Disk.Create(ctx, key, size)
	if err != nil {
		s.w.failed("create", err)
		return nil, err
	}
	return &watchedDraft{d, s}, nil
}

type watchedDraft struct {
	store.Draft
	s *watched
}

func (d *watchedDraft) Write(p []byte) (int, error) {
	if len(p) > 16<<10 && d.s.dies() {
		d.s.dieSoon()
	}
	n, err := d.Draft.Write(p)
	if err != nil {
		d.s.w.failed("write", err)
	}
	return n, err
}

func (d *watchedDraft) Commit() (store.Blob, error) {
	if d.s.dies() {
		d.s.dieSoon()
	}
	b, err := d.Draft.Commit()
	if err != nil {
		d.s.w.failed("commit", err)
	}
	return b, err
}

// checkChange checks that a change neither replaces a newer response by an
// older one, nor makes an invalidated response usable without asking the
// origin.
func (w *worker) checkChange(current, next []*store.Entry) {
	for _, e := range next {
		if e == nil || !e.InvalidatedAt.IsZero() {
			continue // it must be validated before use
		}
		r, err := parseRepresentation(e.Header.Get(versionField))
		if err != nil {
			w.violation("an entry is stored for %s whose header is not the origin's: %v", e.URL, err)
			continue
		}
		if e.Header.Get("ETag") != r.etag() {
			w.violation("an entry is stored for %s that has the tag %s with the content of %v", e.URL, e.Header.Get("ETag"), r)
		}
		for _, old := range current {
			was, err := parseRepresentation(old.Header.Get(versionField))
			if old == e || err != nil || was.variant != r.variant {
				continue
			}
			if was.version > r.version {
				w.violation("%v is stored in the place of %v, and would be used", r, was)
			}
			if was.version == r.version && !old.InvalidatedAt.IsZero() && e.RequestTime.Before(old.InvalidatedAt) {
				w.violation("%v was invalidated at %v, and is to be used again by the answer to a request of %v", r, old.InvalidatedAt, e.RequestTime)
			}
		}
	}
}

// request makes one request for the resource with the given index, or for a
// random one if index is negative, and verifies the response. It returns the
// index for the next request.
func (w *worker) request(r *rand.Rand, index int) (next int) {
	next = -1
	method, action := http.MethodGet, r.Float64()
	switch {
	case index >= 0:
		action = 1
	case r.Float64() < .5:
		index = r.IntN(len(w.resources))
	default:
		index = int(float64(len(w.resources)) * r.Float64() * r.Float64() * r.Float64()) // some resources are requested more often
	}
	url := w.Origin + "/" + strconv.Itoa(index)
	want := representation{resource: index, variant: variants[0]}
	found := &lookedUp{newest: make(map[string]int)}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), lookedUpKey{}, found))
	defer cancel()
	switch {
	case action < .02:
		method = http.MethodPost
		next = index // requests the changed resource while earlier requests for it are under way
		for range 3 {
			other := rand.New(rand.NewPCG(r.Uint64(), 0))
			go w.request(other, index)
		}
		time.Sleep(time.Duration(r.Int64N(int64(5 * time.Millisecond))))
	case action < .05:
		method = http.MethodHead
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		panic(err)
	}
	if w.resources[index].vary {
		want.variant = variants[r.IntN(len(variants))]
		req.Header.Set(variantField, want.variant)
	}
	stopAt := int64(-1)
	switch {
	case action < .05:
	case action < .08:
		req.Header.Set("Cache-Control", "no-cache")
	case action < .13 && w.resources[index].size > 2:
		from := r.Int64N(w.resources[index].size / 2)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+r.Int64N(w.resources[index].size/2)))
	case action < .18:
		stopAt = r.Int64N(w.resources[index].size + 1)
	}
	w.mu.Lock()
	posted := w.posted[index]
	w.mu.Unlock()

	begun := time.Now().UnixNano()
	resp, err := w.transport.RoundTrip(req)
	if err != nil {
		w.violation("%s %s: %v", method, url, err)
		return next
	}
	defer resp.Body.Close()
	status := cachetrip.StatusOf(resp)
	if method == http.MethodPost {
		w.answeredPost(index, begun, resp)
		return next
	}
	result := resultOrigin
	switch {
	case status.Hit:
		result = resultHit
	case status.Collapsed:
		result = resultCollapsed
	case status.FwdStatus == http.StatusNotModified:
		result = resultValidated
	}
	got, err := parseRepresentation(resp.Header.Get(versionField))
	name := fmt.Sprintf("%s %s (%s; %s; Range %q; Cache-Status %s)", method, url, want.variant, resp.Header.Get(versionField), req.Header.Get("Range"), resp.Header.Get("Cache-Status"))
	switch {
	case err != nil:
		w.violation("%s: %v", name, err)
		return next
	case got.resource != want.resource || got.variant != want.variant:
		w.violation("%s: the content of another request", name)
		return next
	case resp.Header.Get("ETag") != got.etag():
		w.violation("%s: the tag %s with the version of another response", name, resp.Header.Get("ETag"))
		return next
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent:
		w.violation("%s: status %s", name, resp.Status)
		return next
	}
	found.mu.Lock()
	newest, held := found.newest[got.variant], result != resultHit
	for _, e := range found.entries {
		held = held || e.InvalidatedAt.IsZero() && e.Header.Get(versionField) == got.String()
	}
	found.mu.Unlock()
	switch {
	case newest > got.version:
		w.violation("%s: older than version %d, which the request found in the store", name, newest)
	case !held:
		w.violation("%s: a hit that the store did not hold", name)
	case posted > got.version:
		w.violation("%s: older than what this process's own unsafe request made: %d", name, posted)
	}
	var n int64
	if method == http.MethodGet {
		n, err = w.verify(resp, got, stopAt)
		switch {
		case errors.Is(err, errWrong):
			w.violation("%s: %v", name, err)
		case err != nil && resp.Header.Get(cutField) == "1" && result != resultHit:
			w.tell(event{Kind: eventError, Result: "body: cut by the origin"})
		case err != nil:
			w.violation("%s: after %d bytes: %v", name, n, err)
		}
	}
	w.tell(event{Kind: eventAnswer, Begun: begun, Ended: time.Now().UnixNano(), Result: result, Version: got.String(), Bytes: n, Text: name})
	return next
}

func (w *worker) answeredPost(index int, begun int64, resp *http.Response) {
	got, err := parseRepresentation(resp.Header.Get(versionField))
	if err != nil || resp.StatusCode != http.StatusNoContent {
		w.violation("POST of %d: status %s, version %v", index, resp.Status, err)
		return
	}
	w.mu.Lock()
	w.posted[index] = max(w.posted[index], got.version)
	w.mu.Unlock()
	w.tell(event{Kind: eventAnswer, Begun: begun, Ended: time.Now().UnixNano(), Result: resultPost, Version: got.String()})
}

var errWrong = errors.New("wrong bytes")

// verify reads the content of a response, or its beginning, and compares it
// with the expected bytes.
func (w *worker) verify(resp *http.Response, r representation, stopAt int64) (n int64, err error) {
	offset, end := int64(0), r.length(w.resources)
	whole := end
	if resp.StatusCode == http.StatusPartialContent {
		var length int64
		field := strings.TrimPrefix(resp.Header.Get("Content-Range"), "bytes ")
		if _, err := fmt.Sscanf(field, "%d-%d/%d", &offset, &end, &length); err != nil || length != whole {
			return 0, fmt.Errorf("%w: Content-Range %q of a content of %d bytes", errWrong, field, whole)
		}
		end++
	}
	if resp.ContentLength >= 0 && resp.ContentLength != end-offset {
		return 0, fmt.Errorf("%w: a length of %d bytes instead of %d", errWrong, resp.ContentLength, end-offset)
	}
	got, want := make([]byte, 32<<10), make([]byte, 32<<10)
	for stopAt < 0 || n < stopAt {
		m, err := resp.Body.Read(got)
		if n+int64(m) > end-offset {
			return n, fmt.Errorf("%w: more than %d bytes", errWrong, end-offset)
		}
		r.fill(want[:m], offset+n)
		if !bytes.Equal(got[:m], want[:m]) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			return n, fmt.Errorf("%w at %d of %d", errWrong, offset+n+int64(i), whole)
		}
		n += int64(m)
		switch {
		case err == io.EOF && n < end-offset:
			return n, fmt.Errorf("%w: a clean end after %d of %d bytes", errWrong, n, end-offset)
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		}
	}
	return n, nil
}
