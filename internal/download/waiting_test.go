package download_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Tests of waiting: which readers wait for which others, and how long.

// wantTook checks the time since began.
func wantTook(t *testing.T, began time.Time, want time.Duration) {
	t.Helper()
	if took := time.Since(began); took != want {
		t.Errorf("took %v, want %v", took, want)
	}
}

func TestContextEnds(t *testing.T) {
	// The reader that started a fetch gets the cause of its context. The other
	// reader gets everything.
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the caller has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(cause) })
		r := strings.NewReader("content")
		f := start(t, newSource(func(p []byte, _ <-chan struct{}) (int, error) {
			time.Sleep(10 * time.Second)
			return r.Read(p)
		}), nil)
		ended := make(chan bool, 1)
		leaves := f.caller(ctx, 2, nil)
		leave := leaves.Leave
		leaves.Leave = func(e bool) { ended <- e; leave(e) }
		first, second := f.Take(leaves), f.Join(f.caller(t.Context(), 2, nil))
		began := time.Now()
		f.wantRead(first, "", cause)
		wantTook(t, began, time.Second)
		if !<-ended {
			t.Error("the reader was not said to have been ended")
		}
		f.wantRead(second, "content", nil)
	})
}

func TestSlowReaderIsLeftBehind(t *testing.T) {
	// Once the draft is full, the others wait for a reader that does not read,
	// for a while.
	for _, test := range []struct {
		name  string
		alone func(download.Shared) download.Rest
		want  string
		err   error
	}{
		{"it gets an error", nil, long[:10], io.ErrUnexpectedEOF},
		{"it asks for the rest", restOf(long, io.EOF), long, nil},
		{"its rest is another one", restOf("other"+long, io.EOF), long[:10], io.ErrUnexpectedEOF},
		{"its rest breaks once", breaksOnce(long), long, nil},
		{"its rest breaks for good", restOf(long[:2*pieceSize], errFull), long[:2*pieceSize], errFull},
	} {
		for _, slow := range []bool{false, true} {
			for _, room := range []int{0, pieceSize} { // of the draft
				t.Run(fmt.Sprintf("%s, slow %t, room %d", test.name, slow, room), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						left := room
						f := start(t, text(long, io.EOF), func(f *fixture, _ *download.Config) {
							f.draft.slow = slow
							f.draft.write = func(p []byte) error {
								if left -= len(p); left < 0 {
									return errFull
								}
								return nil
							}
						})
						first, idle := f.Take(f.caller(t.Context(), 2, nil)), f.Join(f.caller(t.Context(), 2, test.alone))
						read := room + 10
						if n, err := io.ReadFull(idle, make([]byte, read)); n != read || err != nil {
							t.Fatalf("got %d, %v", n, err)
						}
						began := time.Now()
						f.wantRead(first, long, nil)
						wantTook(t, began, 3*time.Second)
						want := test.want
						if len(want) < read {
							want = long[:read] // it had got that
						}
						f.wantRead(idle, want[read:], test.err)
					})
				})
			}
		}
	}
}

func TestLeaderIsNotLeftBehind(t *testing.T) {
	// The first reader may make the network wait for any time.
	synctest.Test(t, func(t *testing.T) {
		f := start(t, text(long, io.EOF), func(f *fixture, _ *download.Config) {
			f.draft.write = func([]byte) error { return errFull }
		})
		leader, joined := f.Take(f.caller(t.Context(), 2, nil)), f.Join(f.caller(t.Context(), 2, restOf(long, io.EOF)))
		began := time.Now()
		f.wantRead(joined, long, nil) // alone
		wantTook(t, began, 5*time.Second)
		time.Sleep(time.Hour)
		f.wantRead(leader, long, nil)
	})
}

func TestStall(t *testing.T) {
	// The source stalls after a while. The leader waits for it, the others do not.
	for _, test := range []struct {
		name  string
		alone func(download.Shared) download.Rest
		want  string
		err   error
		took  time.Duration
	}{
		{"with a rest", restOf(long, io.EOF), long, nil, 5 * time.Second},
		{"with a rest that breaks once", breaksOnce(long), long, nil, 5 * time.Second},
		{"without a rest", nil, long[:20], io.ErrUnexpectedEOF, 30 * time.Second},
		{"with another content", restOf(strings.ToUpper(long), io.EOF), long[:20], io.ErrUnexpectedEOF, 35 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, textThenStall(long[:20]), nil)
				leader, joined := f.Take(f.caller(t.Context(), 2, nil)), f.Join(f.caller(t.Context(), 2, test.alone))
				began := time.Now()
				f.wantRead(joined, test.want, test.err)
				wantTook(t, began, test.took)
				if (f.lost > 0) != (test.alone != nil) {
					t.Errorf("lost %d", f.lost)
				}
				if _, err := io.ReadFull(leader, make([]byte, 20)); err != nil {
					t.Error(err)
				}
				leader.Close()
				f.wantResult(download.Result{Taken: 20, End: download.ErrAbandoned, Broken: true})
			})
		})
	}
}

// breaksOnce returns a function for Caller.Alone. The first rest breaks after a
// byte, the next one is whole.
func breaksOnce(content string) func(download.Shared) download.Rest {
	return func(download.Shared) download.Rest {
		asked := 0
		return func(position int64) (io.ReadCloser, int64) {
			if asked++; asked == 1 {
				return text(content[position:position+1], errBroken), int64(len(content))
			}
			return text(content[position:], io.EOF), int64(len(content))
		}
	}
}

func TestStallEnds(t *testing.T) {
	// A reader that found no rest continues with the shared source.
	synctest.Test(t, func(t *testing.T) {
		r := strings.NewReader(long)
		f := start(t, newSource(func(p []byte, _ <-chan struct{}) (int, error) {
			time.Sleep(7 * time.Second)
			return r.Read(p)
		}), nil)
		f.Decline()
		none := func(download.Shared) download.Rest {
			return func(int64) (io.ReadCloser, int64) { return nil, 0 }
		}
		f.wantRead(f.Join(f.caller(t.Context(), 1, none)), long, nil)
	})
}

func TestSourceEndsEarly(t *testing.T) {
	// The first reader gets the error that ends the source. The others ask for
	// the rest.
	for _, whole := range []bool{false, true} {
		end := errBroken
		if whole {
			end = errFull // on purpose
		}
		f := start(t, text(long[:20], end), nil)
		alone := func(s download.Shared) download.Rest {
			if s.Whole != whole {
				t.Errorf("Whole is %t, want %t", s.Whole, whole)
			}
			return restOf(long, io.EOF)(s)
		}
		leader, joined := f.Take(f.caller(t.Context(), 2, nil)), f.Join(f.caller(t.Context(), 2, alone))
		f.wantRead(leader, long[:20], end)
		f.wantRead(joined, long, nil)
	}
}

func TestAgain(t *testing.T) {
	for _, test := range []struct {
		name   string
		length int64
		again  []string // contents of the sources that continue
		want   string
		err    error
	}{
		{"continued", 10, []string{"56789"}, "0123456789", nil},
		{"continued twice", 10, []string{"56", "789"}, "0123456789", nil},
		{"of unknown length", -1, []string{"56", "789"}, "0123456789", nil},
		{"given up", 10, []string{"56"}, "0123456", errBroken},
		{"too long", 10, []string{"567890"}, "0123456789", io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			sources := []*source{text("01234", errBroken)}
			f := start(t, sources[0], func(_ *fixture, c *download.Config) {
				c.Span, c.Length = span.Of(0, test.length), test.length
				c.Again = func(position int64) (io.ReadCloser, int64) {
					if len(test.again) == 0 {
						return nil, 0
					}
					end := errBroken
					if position+int64(len(test.again[0])) == 10 {
						end = io.EOF
					}
					s := text(test.again[0], end)
					sources, test.again = append(sources, s), test.again[1:]
					return s, 10
				}
			})
			f.wantRead(f.Take(f.caller(t.Context(), 1, nil)), test.want, test.err)
			for _, s := range sources {
				f.wantClosed(s)
			}
		})
	}
}

func TestDrain(t *testing.T) {
	const pause = 50 * time.Millisecond // before each piece, and before the end
	for _, test := range []struct {
		name   string
		budget int64
		limit  time.Duration
		known  bool // the length is
		full   bool // the draft is
		stream bool
		took   time.Duration
		whole  bool
	}{
		{name: "within both", budget: 6 * pieceSize, limit: time.Second, known: true, took: 7 * pause, whole: true},
		{name: "beyond the budget", budget: 3 * pieceSize, limit: time.Second, known: true},
		{name: "beyond the time", budget: 6 * pieceSize, limit: 3*pause - 1, known: true, took: 3*pause - 1},
		{name: "of unknown length", budget: 6 * pieceSize, limit: time.Second, took: 7 * pause, whole: true},
		{name: "of unknown length, beyond the budget", budget: 3*pieceSize - 1, limit: time.Second, took: 3 * pause},
		{name: "of unknown length, idle", budget: 6 * pieceSize, limit: 4*pause - 4, took: pause - 1},
		{name: "no time", budget: 6 * pieceSize, limit: 0, known: true},
		{name: "a full draft", budget: 6 * pieceSize, limit: time.Second, known: true, full: true},
		{name: "a stream", budget: 6 * pieceSize, limit: time.Second, stream: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, first := strings.NewReader(long), true
				f := start(t, newSource(func(p []byte, closed <-chan struct{}) (int, error) {
					if first {
						first = false
						return r.Read(p[:1])
					}
					select {
					case <-time.After(pause):
						return r.Read(p)
					case <-closed:
						return 0, errBroken
					}
				}), func(f *fixture, c *download.Config) {
					if test.known {
						c.Length = int64(len(long))
						c.Span = span.Of(0, c.Length)
					}
					if test.full {
						f.draft.write = func([]byte) error { return errFull }
					}
					c.Endless = test.stream
				})
				reader := f.Take(f.caller(t.Context(), 2, nil))
				if _, err := reader.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				reader.Close()
				began := time.Now()
				f.Drain(test.budget, test.limit)
				wantTook(t, began, test.took)
				f.Close(func() {})
				if whole := len(f.results) == 1 && f.results[0].End == io.EOF; whole != test.whole {
					t.Errorf("finished with %+v, want everything: %t", f.results, test.whole)
				}
				f.stragglers.Wait(time.Now().Add(time.Minute))
			})
		})
	}
}

func TestCloseInterrupts(t *testing.T) {
	// A source that is being read is closed, and waited for as a straggler.
	synctest.Test(t, func(t *testing.T) {
		src := textThenStall("")
		f := start(t, src, nil)
		ctx, cancel := context.WithCancel(t.Context())
		r := f.Take(f.caller(ctx, 1, nil))
		time.AfterFunc(time.Second, cancel)
		f.wantRead(r, "", context.Canceled)
		f.stragglers.Wait(time.Now().Add(time.Minute))
		f.wantClosed(src)
		f.wantResult(download.Result{End: download.ErrAbandoned, Broken: true})
	})
}

func TestCloseWhileLending(t *testing.T) {
	// The last reader leaves while the draft makes room, and the source stalls
	// then.
	synctest.Test(t, func(t *testing.T) {
		src := textThenStall("content")
		f := start(t, src, func(f *fixture, _ *download.Config) {
			f.draft.lends = func() { time.Sleep(2 * time.Second) }
		})
		ctx, cancel := context.WithCancel(t.Context())
		r := f.Take(f.caller(ctx, 1, nil))
		time.AfterFunc(3*time.Second, cancel)
		f.wantRead(r, "content", context.Canceled)
		time.Sleep(2 * time.Second)
		f.wantClosed(src)
		f.stragglers.Wait(time.Now().Add(time.Minute))
	})
}

func TestFinishHangs(t *testing.T) {
	// No reader waits for a store that hangs longer than its patience. Storing
	// then continues in the background.
	synctest.Test(t, func(t *testing.T) {
		src := text("content", io.EOF)
		f := start(t, src, func(_ *fixture, c *download.Config) {
			finish := c.Finish
			c.Finish = func(r download.Result) {
				time.Sleep(time.Minute)
				finish(r)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		r := f.Take(f.caller(ctx, 1, nil))
		began := time.Now()
		f.wantRead(r, "content", nil)
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %v of 8s", took)
		}
		r.Close()
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %v of 8s to close", took)
		}
		f.stragglers.Wait(began.Add(time.Hour))
		wantTook(t, began, time.Minute)
		f.wantResult(download.Result{Taken: 7, End: io.EOF})
		f.wantClosed(src)
	})
}

func TestWaiting(t *testing.T) {
	// A draft gets the earliest deadline of the readers that wait for it. A
	// reader whose deadline has passed does not wait.
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := start(t, text(long, io.EOF), func(f *fixture, _ *download.Config) { f.draft.slow = slow })
			soon, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			late, cancel2 := context.WithTimeout(t.Context(), time.Minute)
			defer cancel2()
			past := patience.Until(t.Context(), time.Now())
			r, other, gone := f.Take(f.caller(late, 3, nil)), f.Join(f.caller(soon, 3, nil)), f.Join(f.caller(past, 3, nil))
			want, _ := soon.Deadline()
			r.Read(make([]byte, 1))
			if got, ok := f.draft.waiting.Deadline(); !ok || !got.Equal(want) {
				t.Errorf("slow %t: the deadline is %v, want %v", slow, got, want)
			}
			other.Close()
			gone.Close()
			f.wantRead(r, long[1:], nil)
			want, _ = late.Deadline()
			if got, ok := f.draft.waiting.Deadline(); !ok || !got.Equal(want) {
				t.Errorf("slow %t: the deadline is %v, want %v", slow, got, want)
			}
		})
	}
}

func TestLimitWait(t *testing.T) {
	// Whenever a draft is called, it knows how long its reader waits for it,
	// however slowly that reads. After the deadline, nobody waits for it.
	synctest.Test(t, func(t *testing.T) {
		const limit = 16 * time.Second
		began, calls := time.Now(), 0
		f := start(t, text(strings.Repeat("x", 8*pieceSize), io.EOF), func(f *fixture, _ *download.Config) {
			check := func(call string) {
				calls++
				at := time.Since(began)
				want := began.Add(at + min((limit-at)/4, patience.Longest))
				if at >= limit {
					want = time.Time{}
				}
				if !f.draft.limit.Equal(want) {
					t.Errorf("%s after %v waits until %v, want %v", call, at, f.draft.limit, want)
				}
			}
			f.draft.lends = func() { check("AvailableBuffer") }
			f.draft.write = func([]byte) error { check("Write"); return nil }
		})
		ctx := patience.Until(t.Context(), began.Add(limit)) // its end is not noticed
		r := f.Take(f.caller(ctx, 1, nil))
		defer r.Close()
		piece := make([]byte, pieceSize)
		for n := 0; n < 8*pieceSize; time.Sleep(3 * time.Second) {
			m, err := r.Read(piece)
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		if calls < 2*8 {
			t.Errorf("the draft was called %d times", calls)
		}
	})
}
