// Package content reads the content of a request before the request is sent,
// because the content is part of the cache key. It promises:
//
//   - The content can be sent any number of times, always the same.
//   - At most 64 KiB are in memory.
//   - If the content cannot be known, the request can still be sent, with the
//     same bytes as without a cache.
//   - Nobody waits longer than a context for a body that does not come.
package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/straggler"
)

const (
	// maxBuffered is the largest content that is read into memory.
	maxBuffered = 64 << 10

	// maxHashed is the largest content that is read by GetBody, which costs time
	// and no memory. Queries are much shorter.
	maxHashed = 16 << 20
)

// Content is the content of a request. It does not change, and is safe for
// concurrent use.
type Content struct {
	Sum    [sha256.Size]byte // of the bytes
	Length int64

	buffered []byte                        // if GetBody is nil
	getBody  func() (io.ReadCloser, error) // of the request
}

// Take reads the content of a request. If it cannot be known, c is nil, and
// rest is the body to send instead. It reads the content from its beginning,
// and closing it closes the body of the request.
//
// length is the ContentLength of the request: 0 or less if it is unknown. body
// stays open, and must be closed by the caller. If getBody is not nil, body is
// not read. If the content has not come after patience, rest returns what comes
// as it comes. If ctx ends before the content has come, rest returns its cause.
// stragglers counts the goroutine that reads.
func Take(ctx context.Context, patience time.Duration, body io.ReadCloser, getBody func() (io.ReadCloser, error), length int64, stragglers *straggler.Counter) (c *Content, rest io.ReadCloser) {
	switch {
	case body == nil || body == http.NoBody:
		return &Content{Sum: sha256.Sum256(nil)}, nil
	case length > maxHashed || length > maxBuffered && getBody == nil:
		return nil, body
	}
	var take func() *Content
	var reads *reading
	if getBody != nil {
		rest = body
		take = func() *Content { return hashed(getBody, length) }
	} else {
		reads = &reading{ctx: ctx, body: body, progress: make(chan struct{}, 1)}
		rest = joined(reads, body)
		take = func() *Content { return reads.all(length) }
	}
	done := make(chan *Content, 1)
	stragglers.Add()
	go func() {
		defer stragglers.Done()
		var c *Content
		defer func() { done <- c }() // also if the body ends the goroutine
		defer func() {
			if p := recover(); p != nil && reads != nil {
				reads.end(fmt.Errorf("cachetrip: panic in the body of a request: %v", p))
			}
		}()
		c = take()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case c := <-done:
		if c != nil {
			return c, nil
		}
		return nil, rest
	case <-timer.C:
		return nil, rest
	case <-ctx.Done():
		return nil, joined(errorReader{context.Cause(ctx)}, body)
	}
}

var errGone = errors.New("cachetrip: the body of a request ended the goroutine that read it")

// hashed takes the content from getBody. It returns nil if that fails.
func hashed(getBody func() (io.ReadCloser, error), length int64) *Content {
	copied, err := getBody()
	if err != nil || copied == nil {
		return nil
	}
	defer copied.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(copied, maxHashed+1))
	if err != nil || n > maxHashed || length > 0 && n != length {
		return nil
	}
	return &Content{Sum: [sha256.Size]byte(h.Sum(nil)), Length: n, getBody: getBody}
}

// reading is a body that one goroutine reads ahead. It is itself a reader: it
// returns what was read ahead, as it comes, and then the rest of the body.
type reading struct {
	ctx      context.Context // limits each Read
	body     io.Reader
	progress chan struct{} // has an element after each step of the goroutine

	mu    sync.Mutex
	ahead []byte // was read ahead
	given bool   // a caller reads, so that nothing more must be read ahead
	over  bool   // the goroutine does not read any more
	err   error  // of the body
}

// all reads ahead, and returns the content if it is all there. It returns nil
// if the content is too long or has another length, or if the body fails.
func (r *reading) all(length int64) *Content {
	end := errGone // if the body ends the goroutine
	defer func() { r.end(end) }()
	piece := make([]byte, 4<<10)
	for goesOn := true; goesOn; {
		n, err := r.body.Read(piece)
		goesOn = r.step(piece[:n], err)
	}
	end = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != io.EOF || len(r.ahead) > maxBuffered || length > 0 && int64(len(r.ahead)) != length || r.given {
		return nil
	}
	return &Content{Sum: sha256.Sum256(r.ahead), Length: int64(len(r.ahead)), buffered: r.ahead}
}

// step notes what one Read has returned. It reports whether more may be read
// ahead.
func (r *reading) step(b []byte, err error) (goesOn bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead, r.err = append(r.ahead, b...), err
	r.tell()
	return err == nil && !r.given && len(r.ahead) <= maxBuffered
}

// end notes that no more is read ahead. err is not nil if nothing more can be
// read at all.
func (r *reading) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over = true; err != nil {
		r.err = err
	}
	r.tell()
}

// tell wakes a caller of Read.
func (r *reading) tell() {
	select {
	case r.progress <- struct{}{}:
	default:
	}
}

// Read implements [io.Reader].
func (r *reading) Read(p []byte) (int, error) {
	for {
		r.mu.Lock()
		r.given = true
		n := copy(p, r.ahead)
		r.ahead = r.ahead[n:]
		over, err := r.over, r.err
		r.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case over && err != nil:
			return 0, err
		case len(p) == 0:
			return 0, nil
		case over:
			return r.body.Read(p)
		}
		select {
		case <-r.progress:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
}

// Open returns the content to be sent once. If GetBody returns other content
// than before, the reader returns an error in place of the last bytes.
func (c *Content) Open() (io.ReadCloser, error) {
	switch {
	case c.Length == 0:
		return http.NoBody, nil
	case c.getBody == nil:
		return io.NopCloser(bytes.NewReader(c.buffered)), nil
	}
	body, err := c.getBody()
	if err != nil {
		return nil, err
	}
	return &verified{ReadCloser: body, want: c.Sum, left: c.Length, hash: sha256.New()}, nil
}

// Body is Open with a body that cannot be read in place of an error.
func (c *Content) Body() io.ReadCloser {
	body, err := c.Open()
	if err != nil {
		return joined(errorReader{err}, http.NoBody)
	}
	return body
}

// errChanged reports that a request no longer has the content that its key was
// made from.
var errChanged = errors.New("cachetrip: GetBody of a request returned other content than before")

// verified is a body that must have a sum. It holds back the last bytes of a
// body that has another one, because a sender may not read to io.EOF.
type verified struct {
	io.ReadCloser
	want [sha256.Size]byte
	left int64 // how many bytes are to come
	hash hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.hash.Write(p[:n])
	v.left -= int64(n)
	ends := v.left == 0 && n > 0 || err == io.EOF
	if v.left < 0 || ends && [sha256.Size]byte(v.hash.Sum(nil)) != v.want {
		return 0, errChanged
	}
	return n, err
}

// rest is a reader with the Close of a request's body.
type rest struct {
	io.Reader
	io.Closer
}

// joined returns a body that is read from r, and closes closer.
func joined(r io.Reader, closer io.Closer) io.ReadCloser { return rest{r, closer} }

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
