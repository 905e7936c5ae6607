package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
)

// This file makes the requests of a worker, and judges the responses.

// attempt is a request of a worker, and what is known of its response.
type attempt struct {
	req    *http.Request
	want   representation // its resource and variant
	stopAt int64          // how many bytes of the body are read; -1 for all
	found  *lookedUp
	posted int   // the version that this process's own unsafe requests had made before
	begun  int64 // when the request was made
}

// request makes one request for the resource with the given index, or for a
// random one if index is negative, and verifies the response. It returns the
// index for the next request.
func (w *worker) request(r *rand.Rand, index int) (next int) {
	a := w.choose(r, index)
	index, next = a.want.resource, -1
	if a.req.Method == http.MethodPost {
		next = index // requests the changed resource while earlier requests for it are under way
		for range 3 {
			other := rand.New(rand.NewPCG(r.Uint64(), 0))
			go w.request(other, index)
		}
		time.Sleep(time.Duration(r.Int64N(int64(5 * time.Millisecond))))
	}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), lookedUpKey{}, a.found))
	defer cancel()
	w.mu.Lock()
	a.posted = w.posted[index]
	w.mu.Unlock()

	a.begun = time.Now().UnixNano()
	resp, err := w.transport.RoundTrip(a.req.WithContext(ctx))
	if err != nil {
		w.violation("%s %s: %v", a.req.Method, a.req.URL, err)
		return next
	}
	defer resp.Body.Close()
	if a.req.Method == http.MethodPost {
		w.answeredPost(index, a.begun, resp)
	} else {
		w.answered(a, resp)
	}
	return next
}

// choose returns a random request for the resource with the given index, or for
// any one if index is negative.
func (w *worker) choose(r *rand.Rand, index int) *attempt {
	action := r.Float64()
	switch {
	case index >= 0:
		action = 1
	case r.Float64() < .5:
		index = r.IntN(len(w.resources))
	default:
		index = int(float64(len(w.resources)) * r.Float64() * r.Float64() * r.Float64()) // some resources are requested more often
	}
	method := http.MethodGet
	switch {
	case action < .02:
		method = http.MethodPost
	case action < .05:
		method = http.MethodHead
	}
	req, err := http.NewRequest(method, w.Origin+"/"+strconv.Itoa(index), nil)
	if err != nil {
		panic(err)
	}
	a := &attempt{
		req:    req,
		want:   representation{resource: index, variant: variants[0]},
		stopAt: -1,
		found:  &lookedUp{newest: make(map[string]int)},
	}
	if w.resources[index].vary {
		a.want.variant = variants[r.IntN(len(variants))]
		req.Header.Set(variantField, a.want.variant)
	}
	switch size := w.resources[index].size; {
	case action < .05:
	case action < .08:
		req.Header.Set("Cache-Control", "no-cache")
	case action < .13 && size > 2:
		from := r.Int64N(size / 2)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+r.Int64N(size/2)))
	case action < .18:
		a.stopAt = r.Int64N(size + 1)
	}
	return a
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

// answered judges the response to a GET or HEAD, and reports it.
func (w *worker) answered(a *attempt, resp *http.Response) {
	h, result := resp.Header, resultOf(resp)
	if result == resultOrigin || result == resultValidated {
		w.noteArrival(h.Get(requestField))
	}
	name := fmt.Sprintf("%s %s (%s; %s; Range %q; Cache-Status %s)", a.req.Method, a.req.URL, a.want.variant,
		h.Get(versionField), a.req.Header.Get("Range"), h.Get("Cache-Status"))
	got, err := parseRepresentation(h.Get(versionField))
	switch {
	case err != nil:
		w.violation("%s: %v", name, err)
		return
	case got.resource != a.want.resource || got.variant != a.want.variant:
		w.violation("%s: the content of another request", name)
		return
	case h.Get("ETag") != got.etag():
		w.violation("%s: the tag %s with the version of another response", name, h.Get("ETag"))
		return
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent:
		w.violation("%s: status %s", name, resp.Status)
		return
	}
	newest, held := a.found.of(got)
	switch {
	case newest > got.version:
		w.violation("%s: older than version %d, which the request found in the store", name, newest)
	case result == resultHit && !held:
		w.violation("%s: a hit that the store did not hold", name)
	case a.posted > got.version:
		w.violation("%s: older than what this process's own unsafe request made: %d", name, a.posted)
	}
	var n int64
	if a.req.Method == http.MethodGet {
		n, err = w.verify(resp, got, a.stopAt)
		switch {
		case errors.Is(err, errWrong):
			w.violation("%s: %v", name, err)
		case err != nil && h.Get(cutField) == "1" && result != resultHit:
			w.tell(event{Kind: eventError, Result: "body: cut by the origin"})
		case err != nil:
			w.violation("%s: after %d bytes: %v", name, n, err)
		}
	}
	w.tell(event{Kind: eventAnswer, Begun: a.begun, Ended: time.Now().UnixNano(), Arrived: w.arrival(h.Get(requestField)), Result: result, Version: got.String(), Bytes: n, Text: name})
}

// resultOf returns the way in which a request was answered.
func resultOf(resp *http.Response) string {
	switch status := cachetrip.StatusOf(resp); {
	case status.Hit:
		return resultHit
	case status.Collapsed:
		return resultCollapsed
	case status.FwdStatus == http.StatusNotModified:
		return resultValidated
	}
	return resultOrigin
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
