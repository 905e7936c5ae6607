package download_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/span"
)

func TestReaders(t *testing.T) {
	// Readers that read pieces of their own size get the whole content, which
	// is read once.
	for _, slow := range []bool{false, true} {
		src := text(long, io.EOF)
		f := start(t, src, func(f *fixture, _ *download.Config) { f.draft.slow = slow })
		const n = 5
		var wg sync.WaitGroup
		for i := range n {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var r *download.Reader
			if i == 0 {
				r = f.Take(f.caller(context.Background(), n, nil))
			} else {
				r = f.Join(f.caller(ctx, n, nil))
			}
			wg.Go(func() {
				f.wantRead(r, long, nil)
				if r.Close(); i%2 == 0 {
					r.Close()
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || err != http.ErrBodyReadAfterClose {
					t.Errorf("read after Close: %d, %v", n, err)
				}
			})
		}
		wg.Wait()
		f.wantResult(download.Result{Taken: int64(len(long)), End: io.EOF})
		f.wantClosed(src)
		if string(f.draft.content) != long {
			t.Error("the draft has other content")
		}
		if got := f.received.Load(); got != int64(len(long)) {
			t.Errorf("received %d bytes, want %d", got, len(long))
		}
	}
}

func TestReaderForSeveralGoroutines(t *testing.T) {
	// Each byte goes to one of them.
	f := start(t, text(long, io.EOF), nil)
	r := f.Take(f.caller(t.Context(), 1, nil))
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := 0
	for range 4 {
		wg.Go(func() {
			buf := make([]byte, 1+rand.IntN(5000))
			for {
				n, err := r.Read(buf)
				mu.Lock()
				total += n
				mu.Unlock()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if total != len(long) {
		t.Errorf("read %d bytes, want %d", total, len(long))
	}
}

func TestWriteTo(t *testing.T) {
	var b strings.Builder
	f := start(t, text(long, io.EOF), nil)
	n, err := f.Take(f.caller(t.Context(), 1, nil)).WriteTo(&b)
	if n != int64(len(long)) || err != nil || b.String() != long {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	f = start(t, text(long, io.EOF), nil)
	r := f.Take(f.caller(t.Context(), 1, nil))
	if n, err := r.WriteTo(shortWriter{}); n != 1 || err != io.ErrShortWrite {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	r.Close()
}

type shortWriter struct{}

func (shortWriter) Write([]byte) (int, error) { return 1, nil }

func TestBackPressure(t *testing.T) {
	// Nothing is fetched that no reader asks for.
	f := start(t, text(long, io.EOF), nil)
	r := f.Take(f.caller(context.Background(), 2, nil))
	other := f.Join(f.caller(context.Background(), 2, nil))
	for _, r := range []*download.Reader{r, other, r} {
		if _, err := r.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.received.Load(); got > pieceSize {
		t.Errorf("received %d bytes of which 20 were read", got)
	}
	r.Close()
	other.Close()
	f.wantResult(download.Result{Taken: f.received.Load(), End: download.ErrAbandoned, Broken: true})
}

func TestLengths(t *testing.T) {
	const content = "0123456789"
	for _, test := range []struct {
		name   string
		source string
		end    error
		length int64 // announced; -1: it is not
		held   bool  // the cache vouches for the length
		want   string
		err    error
		result download.Result
	}{
		{"right", content, io.EOF, 10, false, content, nil, download.Result{Taken: 10, End: io.EOF}},
		{"unknown", content, io.EOF, -1, false, content, nil, download.Result{Taken: 10, End: io.EOF}},
		{"short", "01234", io.EOF, 10, false, "01234", nil, download.Result{Taken: 5, End: download.ErrLength}},
		{"long", content + "x", io.EOF, 10, false, content + "x", nil, download.Result{Taken: 11, End: download.ErrLength}},
		{"broken", "01234", errBroken, 10, false, "01234", errBroken, download.Result{Taken: 5, End: errBroken, Broken: true}},
		{"refused on purpose", "01234", errFull, 10, false, "01234", errFull, download.Result{Taken: 5, End: errFull}},
		{"right beside held", content, io.EOF, 10, true, "<" + content + ">", nil, download.Result{Taken: 10, End: io.EOF}},
		{"short beside held", "01234", io.EOF, 10, true, "<01234", io.ErrUnexpectedEOF, download.Result{Taken: 5, End: io.ErrUnexpectedEOF, Broken: true}},
		{"long beside held", content + "x", io.EOF, 10, true, "<" + content, io.ErrUnexpectedEOF, download.Result{Taken: 10, End: download.ErrLength}},
	} {
		t.Run(test.name, func(t *testing.T) {
			src, kept := text(test.source, test.end), &held{content: "<__________>"}
			f := start(t, src, func(_ *fixture, c *download.Config) {
				c.Span, c.Length = span.Of(0, test.length), test.length
				if test.held {
					c.Held, c.Span, c.Length = kept, span.Of(1, 11), 12
				}
			})
			f.wantRead(f.Take(f.caller(t.Context(), 1, nil)), test.want, test.err)
			f.wantResult(test.result)
			f.wantClosed(src)
			if kept.closed != test.held {
				t.Errorf("held closed: %t", kept.closed)
			}
		})
	}
}

func TestHeld(t *testing.T) {
	// Held content around the span is read from Held, and may be copied to the
	// draft.
	const content = "the beginning is longer than ten bytes, the middle comes, and the end is held"
	middle := span.Of(int64(strings.Index(content, "the middle")), int64(strings.Index(content, ", and")))
	for _, copies := range []bool{false, true} {
		src := text(content[middle.Start:middle.End], io.EOF)
		f := start(t, src, func(_ *fixture, c *download.Config) {
			c.Held, c.Span, c.Length, c.CopyHeld = &held{content: content}, middle, int64(len(content)), copies
		})
		first, second := f.Take(f.caller(t.Context(), 2, nil)), f.Join(f.caller(t.Context(), 2, nil))
		f.wantRead(first, content, nil)
		f.wantRead(second, content, nil)
		f.wantResult(download.Result{Taken: middle.Length(), End: io.EOF})
		want := content[middle.Start:middle.End]
		if copies {
			want = content[:middle.End]
		}
		if got := string(f.draft.content); got != want {
			t.Errorf("the draft has %q, want %q", got, want)
		}
	}
}

func TestJoinAfterLoss(t *testing.T) {
	// A caller that comes when the draft has failed is not let in, as the
	// beginning is gone. Earlier readers get everything.
	f := start(t, text("content", io.EOF), func(f *fixture, _ *download.Config) {
		f.draft.write = func([]byte) error { return errFull }
	})
	early := f.Join(f.caller(t.Context(), 2, nil))
	if n, err := early.Read(make([]byte, 7)); n != 7 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	if f.Join(f.caller(t.Context(), 2, nil)) != nil {
		t.Error("let in, and the beginning is gone")
	}
	f.wantRead(f.Take(f.caller(t.Context(), 2, nil)), "content", nil)
	f.wantRead(early, "", nil)
	if f.Join(f.caller(t.Context(), 2, nil)) != nil {
		t.Error("let in after the end")
	}
	f.wantResult(download.Result{End: io.EOF, Refused: errFull})
	if f.lost != 1 || f.left != 2 {
		t.Errorf("lost %d, left %d, want 1, 2", f.lost, f.left)
	}
}

func TestJoinAfterEnd(t *testing.T) {
	f := start(t, text(long, io.EOF), nil)
	first := f.Take(f.caller(t.Context(), 2, nil))
	if _, err := io.ReadFull(first, make([]byte, len(long)-1)); err != nil {
		t.Fatal(err)
	}
	if n, err := first.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	late := f.Join(f.caller(t.Context(), 2, nil))
	f.wantRead(first, "", nil)
	f.wantRead(late, long, nil)
}

func TestDraftForgets(t *testing.T) {
	// A reader that keeps up with the source reads nothing back. Another reader
	// asks the origin for the lost bytes, if it may.
	f := start(t, text(long, io.EOF), func(f *fixture, _ *download.Config) {
		f.draft.copies = true
		f.draft.readAt = func([]byte, int64) (int, error) { return 0, errors.New("input/output error") }
	})
	first := f.Take(f.caller(t.Context(), 3, nil))
	asks := f.Join(f.caller(t.Context(), 3, restOf(long, io.EOF)))
	fails := f.Join(f.caller(t.Context(), 3, nil))
	f.wantRead(first, long, nil)
	f.wantRead(asks, long, nil)
	if _, err := io.ReadAll(fails); err == nil {
		t.Error("no error of a draft that has lost its content")
	}
}

// restOf returns what gives a reader the rest of content, which ends with err.
func restOf(content string, err error) func(download.Shared) download.Rest {
	return func(s download.Shared) download.Rest {
		return func(position int64) (io.ReadCloser, int64) {
			if !s.Begins(strings.NewReader(content), position) {
				return nil, 0
			}
			return text(content[position:], err), -1
		}
	}
}

func TestPanics(t *testing.T) {
	for _, test := range []struct {
		name   string
		source func([]byte, <-chan struct{}) (int, error)
		write  func([]byte) error
		finish func(download.Result)
		result *download.Result
		panics bool
	}{
		{name: "source", source: func([]byte, <-chan struct{}) (int, error) { panic("source") }, panics: true},
		{name: "source ends its goroutine", source: func([]byte, <-chan struct{}) (int, error) { runtime.Goexit(); return 0, nil }},
		{name: "draft", write: func([]byte) error { panic("draft") }, panics: true},
		{name: "draft ends its goroutine", write: func([]byte) error { runtime.Goexit(); return nil }},
		{name: "finish", finish: func(download.Result) { panic("finish") }, panics: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := text(long, io.EOF)
			if test.source != nil {
				src = newSource(test.source)
			}
			finished := 0
			f := start(t, src, func(f *fixture, c *download.Config) {
				f.draft.write = test.write
				c.Finish = func(r download.Result) {
					finished++
					if test.finish != nil {
						test.finish(r)
					} else if r.End == io.EOF || r.Broken {
						t.Errorf("finished with %+v", r)
					}
				}
			})
			readers := []*download.Reader{f.Take(f.caller(t.Context(), 2, nil)), f.Join(f.caller(t.Context(), 2, nil))}
			var wg sync.WaitGroup
			for _, r := range readers {
				wg.Go(func() {
					_, err := io.ReadAll(r)
					if (err == nil) != (test.finish != nil) {
						t.Errorf("read to the end: %v", err)
					}
				})
			}
			wg.Wait()
			if (len(f.panicked) == 1) != test.panics || finished != 1 {
				t.Errorf("panicked with %v, finished %d times", f.panicked, finished)
			}
			f.wantClosed(src)
		})
	}
}

func TestDecline(t *testing.T) {
	// The readers that joined do not wait for a caller that does not read.
	synctest.Test(t, func(t *testing.T) {
		f := start(t, text(long, io.EOF), func(f *fixture, _ *download.Config) {
			f.draft.write = func([]byte) error { return errFull }
		})
		joined := f.Join(f.caller(t.Context(), 1, nil))
		time.AfterFunc(time.Second, f.Decline)
		began := time.Now()
		f.wantRead(joined, long, nil)
		if took := time.Since(began); took != time.Second {
			t.Errorf("waited %v, want 1s", took)
		}
	})
}

func TestAtEnd(t *testing.T) {
	f := start(t, text("content", io.EOF), nil)
	r := f.Take(f.caller(t.Context(), 1, nil))
	calls := 0
	r.AtEnd(func() { calls++ })
	io.ReadAll(r)
	r.Read(make([]byte, 1))
	r.Close()
	if calls != 1 {
		t.Errorf("called %d times, want 1", calls)
	}
}

// checkOf returns the check of content whose digest is that of text.
func checkOf(t *testing.T, text string) *digest.Check {
	sum := sha256.Sum256([]byte(text))
	d, ok := digest.Of(digest.ReprField, []string{"sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"})
	if !ok {
		t.Fatal("no digest")
	}
	return (*digest.Check)(nil).With(d, span.Of(0, int64(len(text))))
}

func TestWrongMessage(t *testing.T) {
	// The first reader gets it as it is, and others only if the source has it a
	// second time.
	other := strings.Repeat("x", len(long))
	for _, again := range []string{long, other, ""} {
		src := text(long, io.EOF)
		f := start(t, src, func(f *fixture, c *download.Config) { c.Check = checkOf(t, other) })
		asks := func(s download.Shared) download.Rest {
			return func(position int64) (io.ReadCloser, int64) {
				body := text(again, io.EOF)
				if !s.Whole || !s.Begins(body, position) {
					return nil, 0
				}
				return body, -1
			}
		}
		first, second := f.Take(f.caller(t.Context(), 3, nil)), f.Join(f.caller(t.Context(), 3, asks))
		unable := f.Join(f.caller(t.Context(), 3, nil))
		f.wantRead(first, long, nil)
		var wantErr error
		if again != long {
			wantErr = io.ErrUnexpectedEOF
		}
		f.wantRead(second, long, wantErr)
		f.wantRead(unable, long, io.ErrUnexpectedEOF)
		if first.Wrong() == nil || f.Join(f.caller(t.Context(), 1, nil)) != nil {
			t.Error("the download can be joined")
		}
		if len(f.results) != 1 || f.results[0].End != first.Wrong() || f.results[0].Checked {
			t.Errorf("finished with %+v", f.results)
		}
		f.wantClosed(src)
	}
}

func TestWrongWhole(t *testing.T) {
	// Content that is joined from parts ends in an error, before its last piece.
	const a, b = 1000, 2 * pieceSize
	for _, test := range []struct {
		name       string
		begin, end int
		again      bool // the source breaks
		drain      bool // the reader leaves before the source is read
	}{
		{"held before", a, len(long), false, false},
		{"held after", 0, b, false, false},
		{"held on both sides", a, b, false, false},
		{"continued", 0, len(long), true, false},
		{"held before, and not read", len(long) - 100, len(long), false, true},
	} {
		for _, right := range []bool{true, false} {
			hashed := strings.Repeat("x", len(long))
			if right {
				hashed = long
			}
			mismatched := 0
			part := long[test.begin:test.end]
			f := start(t, text(part, io.EOF), func(f *fixture, c *download.Config) {
				c.Check, c.Length, c.Span = checkOf(t, hashed), int64(len(long)), span.Of(int64(test.begin), int64(test.end))
				c.Mismatched = func(error) { mismatched++ }
				if test.again {
					c.Source = text(part[:a], errBroken)
					c.Again = func(position int64) (io.ReadCloser, int64) { return text(long[position:], io.EOF), int64(len(long)) }
				} else {
					c.Held = &held{content: long}
				}
			})
			r := f.Take(download.Caller{Context: t.Context(), Leave: func(bool) { f.Drain(1000, time.Minute); f.Close(func() {}) }})
			if test.drain {
				r.Close()
			} else {
				got, err := io.ReadAll(r)
				switch {
				case right && (err != nil || string(got) != long):
					t.Errorf("%s: got %s, %v", test.name, short(string(got)), err)
				case !right && (!errors.Is(err, io.ErrUnexpectedEOF) || len(got) >= len(long)):
					t.Errorf("%s: got %d bytes, %v", test.name, len(got), err)
				}
			}
			after := test.end < len(long)
			if got, want := f.results[0].Checked, right && !after; got != want {
				t.Errorf("%s: checked before it was stored: %t, want %t", test.name, got, want)
			}
			if (mismatched > 0) != (after && !right) || mismatched > 1 {
				t.Errorf("%s: told %d times of a mismatch", test.name, mismatched)
			}
			if _, ok := errors.AsType[*digest.Mismatch](f.results[0].End); ok != (!right && !after) {
				t.Errorf("%s: finished with %+v", test.name, f.results)
			}
		}
	}
}
