package download_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/straggler"
)

// pieceSize is the most that a download asks its source for at once.
const pieceSize = 128 << 10

var (
	errBroken = errors.New("connection reset")
	errFull   = errors.New("no space left on device")
)

// draft is a draft in memory. Each of its functions may be replaced.
type draft struct {
	ctx    context.Context
	slow   bool // AtOnce reports false
	copies bool // AvailableBuffer returns nil
	lends  func()
	write  func(p []byte) error
	readAt func(p []byte, offset int64) (int, error)

	mu      sync.Mutex
	content []byte
	waiting context.Context
	limit   time.Time // of LimitWait; zero if there is none
	closed  bool
	lent    []byte
}

// AvailableBuffer lends a buffer. It overwrites the buffer that it lent before.
func (d *draft) AvailableBuffer() []byte {
	if d.slow || d.copies {
		return nil
	}
	if d.lends != nil {
		d.lends()
	}
	for i := range d.lent {
		d.lent[i] = 0xff
	}
	d.lent = make([]byte, pieceSize)
	return d.lent[:0]
}

func (d *draft) Write(p []byte) (int, error) {
	if d.write != nil {
		if err := d.write(p); err != nil {
			return 0, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.content = append(d.content, p...)
	return len(p), nil
}

func (d *draft) ReadAtWithin(_ context.Context, p []byte, offset int64) (int, error) {
	if d.readAt != nil {
		return d.readAt(p, offset)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.NewReader(d.content).ReadAt(p, offset)
}

func (d *draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

func (d *draft) Context() context.Context {
	if d.ctx != nil {
		return d.ctx
	}
	return context.Background()
}

func (d *draft) SetWaiting(ctx context.Context) { d.waiting = ctx }
func (d *draft) AtOnce() bool                   { return !d.slow }

func (d *draft) LimitWait(most time.Duration) {
	d.limit = time.Time{}
	if most >= 0 {
		d.limit = time.Now().Add(most)
	}
}

// held is stored content, which gives at most ten bytes at once.
type held struct {
	content string
	closed  bool
}

func (h *held) ReadAt(p []byte, offset int64) (int, error) {
	n := copy(p[:min(len(p), 10)], h.content[offset:])
	return n, nil
}

func (h *held) Close() error { h.closed = true; return nil }

// source is a body whose reads a test answers.
type source struct {
	read   func(p []byte) (int, error)
	closed chan struct{}
	close  sync.Once
}

// newSource returns a source. read gets a channel that is closed with the
// source.
func newSource(read func(p []byte, closed <-chan struct{}) (int, error)) *source {
	s := &source{closed: make(chan struct{})}
	s.read = func(p []byte) (int, error) { return read(p, s.closed) }
	return s
}

func (s *source) Read(p []byte) (int, error) { return s.read(p) }

func (s *source) Close() error {
	s.close.Do(func() { close(s.closed) })
	return nil
}

// text returns a source of a text that ends with err.
func text(content string, err error) *source {
	r := io.MultiReader(strings.NewReader(content), failing{err})
	return newSource(func(p []byte, _ <-chan struct{}) (int, error) { return r.Read(p) })
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// textThenStall returns a source of a text that then waits until it is closed.
func textThenStall(content string) *source {
	r := strings.NewReader(content)
	return newSource(func(p []byte, closed <-chan struct{}) (int, error) {
		if r.Len() > 0 {
			return r.Read(p)
		}
		<-closed
		return 0, errBroken
	})
}

// fixture is a download, with a record of its calls.
type fixture struct {
	*testing.T
	*download.Download
	draft      *draft
	stragglers straggler.Counter
	received   atomic.Int64

	mu       sync.Mutex
	results  []download.Result
	lost     int
	left     int
	panicked []any
}

// start makes a download of a source. change may change its configuration.
func start(t *testing.T, source io.ReadCloser, change func(*fixture, *download.Config)) *fixture {
	f := &fixture{T: t, draft: &draft{}}
	c := download.Config{
		Source: source, Draft: f.draft, Span: span.Of(0, -1), Length: -1,
		Broken:   func(err error) bool { return err == errBroken || err == io.ErrUnexpectedEOF || err == io.EOF },
		Received: &f.received, Served: new(atomic.Int64), Stragglers: &f.stragglers,
		Lost: func() { f.locked(func() { f.lost++ }) },
		Finish: func(r download.Result) {
			f.locked(func() { f.results = append(f.results, r) })
		},
		Panicked: func(p any, _ []byte) { f.locked(func() { f.panicked = append(f.panicked, p) }) },
	}
	if change != nil {
		change(f, &c)
	}
	f.Download = download.New(c)
	return f
}

func (f *fixture) locked(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// caller returns a Caller that reads within ctx. The last of n callers closes
// the download.
func (f *fixture) caller(ctx context.Context, n int, alone func(download.Shared) download.Rest) download.Caller {
	return download.Caller{Context: ctx, Alone: alone, Leave: func(bool) {
		last := false
		f.locked(func() { f.left++; last = f.left == n })
		if last {
			f.Close(func() {})
		}
	}}
}

// wantRead checks what a reader reads to its end.
func (f *fixture) wantRead(r *download.Reader, want string, wantErr error) {
	f.Helper()
	got, err := io.ReadAll(r)
	if string(got) != want || !errors.Is(err, wantErr) {
		f.Errorf("read %s, %v, want %s, %v", short(string(got)), err, short(want), wantErr)
	}
}

// wantResult checks what Finish was told.
func (f *fixture) wantResult(want download.Result) {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.results) != 1 || f.results[0] != want {
		f.Errorf("finished with %+v, want %+v", f.results, want)
	}
}

// wantClosed checks that nothing is left open. A straggler, for which no caller
// waits, has a second to close its source or draft.
func (f *fixture) wantClosed(s *source) {
	f.Helper()
	f.stragglers.Wait(time.Now().Add(time.Minute))
	f.draft.mu.Lock()
	defer f.draft.mu.Unlock()
	if !f.draft.closed {
		f.Error("the draft is open")
	}
	select {
	case <-s.closed:
	default:
		f.Error("the source is open")
	}
}

func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// long is content of many pieces, in which no two stretches are alike.
var long = func() string {
	var b strings.Builder
	for i := 0; b.Len() < 6*pieceSize; i++ {
		b.WriteString(strings.Repeat(string(rune('a'+i%26)), 1+i%7))
		b.WriteByte(byte(i))
	}
	return b.String()[:6*pieceSize]
}()
