package sharing_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// TestStoreFails: the store fails in the middle of a body. All readers still
// get all of it, at any pace. Later callers ask the origin again.
func TestStoreFails(t *testing.T) {
	for _, how := range []string{"full", "too large"} {
		t.Run(how, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				body := harness.Noise(4<<20, 20)
				kept := r.Store
				defer func() { r.Store = kept }()
				switch {
				case how == "full":
					r.Store = harness.NewFullStore(kept, 1<<20)
				case r.Dir == "":
					r.Store = store.NewMemory(4 << 20)
				default:
					small, err := store.OpenDisk(t.TempDir(), store.DiskOptions{MaxBytes: 4 << 20})
					if err != nil {
						r.Fatal(err)
					}
					defer small.Close()
					r.Store = small
				}
				half := make(chan struct{})
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					// Nothing says how long it is, so that the store learns
					// late that it is too long.
					c.Head(200, harness.Fresh, "Connection: close")
					c.Content(body[:2<<20])
					if c.N == 0 {
						<-half
					}
					c.Content(body[2<<20:])
					c.HangUp()
				})
				defer origin.Close()
				const readers = 6
				var wg sync.WaitGroup
				var joined sync.WaitGroup
				joined.Add(readers)
				for i := range readers {
					wg.Go(func() {
						ctx, cancel := context.WithCancel(r.Context())
						defer cancel()
						resp := r.Send(ctx, origin.URL())
						joined.Done()
						if i > 0 {
							joined.Wait() // the first reader, which drives the download, does not wait for the others at first
						}
						var got []byte
						buf := make([]byte, 50_000*(i+1))
						for {
							n, err := resp.Body.Read(buf)
							got = append(got, buf[:n]...)
							if i == 0 && len(got) > 500_000 {
								joined.Wait() // before the store is full, after which nobody can join
							}
							if i == readers-1 && len(got) > 3<<20 {
								cancel() // its place in the window goes with it
								break
							}
							if err != nil {
								if err != io.EOF {
									r.Error(err)
								}
								break
							}
							if i%2 == 1 {
								time.Sleep(time.Millisecond)
							}
						}
						resp.Body.Close()
						harness.WantBody(r, got, body[:len(got)])
						if i < readers-1 && len(got) != len(body) {
							r.Errorf("got %d bytes, want %d", len(got), len(body))
						}
					})
				}
				joined.Wait()
				time.Sleep(20 * time.Millisecond)
				close(half)
				wg.Wait()
				if n := len(origin.Requests()); n != 1 {
					r.Errorf("got %d requests, want 1", n)
				}
				_, got := r.Get(origin.URL())
				harness.WantBody(r, got, body)
				if n := len(origin.Requests()); n != 2 {
					r.Errorf("got %d requests, want 2", n)
				}
			})
		})
	}
}

// TestNobodyJoinsTooLate: once the store has failed, no later caller can get
// the beginning, even while others still read.
func TestNobodyJoinsTooLate(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(2<<20, 21)
		kept := r.Store
		defer func() { r.Store = kept }()
		r.Store = harness.NewFullStore(kept, 1<<20)
		finish := make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Head(200, harness.Fresh, "Content-Length: "+strconv.Itoa(len(body)))
			c.Content(body[:3<<19])
			if c.N == 0 {
				<-finish
			}
			c.Content(body[3<<19:])
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		got := make([]byte, 3<<19)
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			r.Fatal(err)
		}
		second, whole := r.Get(origin.URL())
		harness.WantStatus(r, second, "!collapsed")
		harness.WantBody(r, whole, body)
		close(finish)
		rest, err := io.ReadAll(resp.Body)
		if err != nil {
			r.Error(err)
		}
		resp.Body.Close()
		harness.WantBody(r, append(got, rest...), body)
	})
}

// TestSlowReader: a reader that reads slowly, or not at all, does not slow the
// others.
func TestSlowReader(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(8<<20, 22)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole(body, harness.Fresh) })
		defer origin.Close()
		var idle []*http.Response
		for range 3 {
			resp := r.Send(r.Context(), origin.URL())
			io.ReadFull(resp.Body, make([]byte, 10))
			idle = append(idle, resp)
		}
		_, got := r.Get(origin.URL())
		harness.WantBody(r, got, body)
		for _, resp := range idle {
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				r.Error(err)
			}
			resp.Body.Close()
			harness.WantBody(r, got, body[10:])
		}
		if n := len(origin.Requests()); n != 1 {
			r.Errorf("got %d requests, want 1", n)
		}
	})
}

// TestBackPressure: the cache hardly fetches more bytes than callers read.
func TestBackPressure(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Head(200, harness.Fresh, "Content-Length: 60000000")
			c.Content(make([]byte, 60000000))
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		io.ReadFull(resp.Body, make([]byte, 10))
		time.Sleep(50 * time.Millisecond)
		if n := r.Stats().BytesReceived; n > 128<<10 {
			r.Errorf("%d bytes were taken of which 10 were read", n)
		}
		resp.Body.Close()
	})
}

// TestDecoderLeavesComplete: a json.Decoder does not read to the end, but the
// whole body is stored.
func TestDecoderLeavesComplete(t *testing.T) {
	for _, framing := range []string{"length", "chunks, the last one late", "to the end of the connection"} {
		t.Run(framing, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				text := []byte(`{"name": "value"}` + "\n")
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					switch framing {
					case "length":
						c.Whole(text, harness.Fresh)
					case "to the end of the connection":
						c.Head(200, harness.Fresh, "Connection: close")
						c.Content(text)
						c.HangUp()
					default:
						c.Head(200, harness.Fresh, "Transfer-Encoding: chunked")
						c.Write(fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
						time.Sleep(10 * time.Millisecond)
						c.Write("0\r\n\r\n")
					}
				})
				defer origin.Close()
				r.DrainTime = time.Minute // more than a loaded machine takes
				for _, want := range []string{"stored", "hit"} {
					resp := r.Send(r.Context(), origin.URL())
					var v struct{ Name string }
					if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.Name != "value" {
						r.Errorf("got %v, %v", v, err)
					}
					resp.Body.Close()
					harness.WantStatus(r, resp, want)
				}
				if n := len(origin.Requests()); n != 1 {
					r.Errorf("got %d requests, want 1", n)
				}
			})
		})
	}
}

// TestDrainBudget: a remainder within the budget is taken on Close, and nothing
// beyond.
func TestDrainBudget(t *testing.T) {
	const size = 1 << 20
	body := harness.Noise(size, 23)
	for _, test := range []struct {
		name   string
		bytes  int64
		time   time.Duration
		left   int // of the body, when it is closed
		stalls bool
		known  bool // the length is
		stored bool
	}{
		{name: "within the default", left: 256 << 10, known: true, time: time.Minute, stored: true},
		{name: "beyond the default", left: 256<<10 + 1, known: true, time: time.Minute},
		{name: "within", bytes: 700_000, time: time.Minute, left: 700_000, known: true, stored: true},
		{name: "beyond", bytes: 700_000, time: time.Minute, left: 700_001, known: true},
		{name: "within, of unknown length", bytes: 700_000, time: time.Minute, left: 500_000, stored: true},
		{name: "beyond, of unknown length", bytes: 300_000, time: time.Minute, left: 700_000},
		{name: "too late", bytes: 700_000, time: 50 * time.Millisecond, left: 500_000, known: true, stalls: true},
		{name: "too late, by default", left: 100_000, known: true, stalls: true},
		{name: "never", bytes: -1, left: 1, known: true, stalls: true},
		{name: "no time", time: -1, left: 1, known: true, stalls: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				r.DrainBytes, r.DrainTime = test.bytes, test.time
				read := size - test.left
				go2 := make(chan struct{})
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					if c.N > 0 {
						c.Whole(body, harness.Fresh)
						return
					}
					if test.known {
						c.Head(200, harness.Fresh, "Content-Length: "+strconv.Itoa(size))
					} else {
						c.Head(200, harness.Fresh, "Connection: close")
					}
					c.Content(body[:read])
					<-go2
					if test.stalls {
						<-c.Gone
					} else {
						c.Content(body[read:])
					}
					c.HangUp()
				})
				defer origin.Close()
				resp := r.Send(r.Context(), origin.URL())
				if _, err := io.ReadFull(resp.Body, make([]byte, read)); err != nil {
					r.Fatal(err)
				}
				close(go2)
				start := time.Now()
				resp.Body.Close() // if it waited for the origin, it would never return
				took := time.Since(start)
				limit := test.time
				switch {
				case test.bytes < 0:
					limit = -1
				case limit == 0:
					limit = 100 * time.Millisecond
				}
				if test.stalls && took < limit {
					r.Errorf("Close took %v, want to wait %v", took, limit)
				}
				received := r.Stats().BytesReceived
				if budget := test.bytes; budget > 0 && !test.stored && received > int64(read)+budget+256<<10 {
					r.Errorf("%d bytes were taken, of which %d were read, with a budget of %d", received, read, budget)
				}
				resp, got := r.Get(origin.URL())
				harness.WantBody(r, got, body)
				if hit := cachetrip.StatusOf(resp).Hit; hit != test.stored {
					r.Errorf("got a hit: %t, want %t", hit, test.stored)
				}
			})
		})
	}
}

// TestEndlessStream: events are read as they come, and Close does not wait for
// the end of the stream. For how long it waits, see TestCloseOfAStream.
func TestEndlessStream(t *testing.T) {
	for _, chatty := range []bool{false, true} {
		t.Run(fmt.Sprintf("chatty %t", chatty), func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				next := make(chan struct{})
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					c.Head(200, harness.Fresh, "Content-Type: text/event-stream", "Connection: close")
					for {
						c.Write("data: x\n\n")
						if chatty {
							select {
							case <-c.Gone:
								c.HangUp()
								return
							case <-time.After(time.Millisecond):
								continue
							}
						}
						select {
						case <-next:
						case <-c.Gone:
							c.HangUp()
							return
						}
					}
				})
				defer origin.Close()
				r.DrainTime = 70 * time.Millisecond
				resp := r.Send(r.Context(), origin.URL())
				event := make([]byte, 9)
				for range 5 {
					if _, err := io.ReadFull(resp.Body, event); err != nil || string(event) != "data: x\n\n" {
						r.Errorf("got %q, %v", event, err)
					}
					if !chatty {
						next <- struct{}{}
					}
				}
				resp.Body.Close()
				harness.Within(r, "the stream ends at the origin", origin.Requests()[0].Gone)
			})
		})
	}
}

// TestJoinsWhileDrained: while the rest is being taken for who has left, others
// may still join.
func TestJoinsWhileDrained(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(200_000, 24)
		half := make(chan struct{})
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Head(200, harness.Fresh, "Content-Length: "+strconv.Itoa(len(body)))
			c.Content(body[:100_000])
			<-half
			c.Content(body[100_000:])
		})
		defer origin.Close()
		r.DrainTime = time.Minute
		resp := r.Send(r.Context(), origin.URL())
		io.ReadFull(resp.Body, make([]byte, 10))
		closed := make(chan struct{})
		go func() {
			resp.Body.Close()
			close(closed)
		}()
		time.Sleep(20 * time.Millisecond)
		second := r.Send(r.Context(), origin.URL())
		harness.WantStatus(r, second, "collapsed")
		close(half)
		harness.Within(r, "Close", closed)
		got, err := io.ReadAll(second.Body)
		second.Body.Close()
		if err != nil {
			r.Error(err)
		}
		harness.WantBody(r, got, body)
		if n := len(origin.Requests()); n != 1 {
			r.Errorf("got %d requests, want 1", n)
		}
	})
}

// TestWriterTo: stored and arriving bodies copy themselves to files, sockets
// and other writers: whole, in part, and after a beginning was read.
func TestWriterTo(t *testing.T) {
	for _, size := range []int{1, 10_000, 100_000, 3 << 20} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				body := harness.Noise(size, 25)
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole(body, harness.Fresh) })
				defer origin.Close()
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					r.Fatal(err)
				}
				defer listener.Close()
				copyOut := func(fields []string, skip int, want []byte) {
					for _, to := range []string{"file", "socket", "buffer"} {
						resp := r.Send(r.Context(), origin.URL(), fields...)
						if _, ok := resp.Body.(io.WriterTo); !ok {
							r.Fatalf("%T is no io.WriterTo", resp.Body)
						}
						if _, err := io.ReadFull(resp.Body, make([]byte, skip)); err != nil {
							r.Fatal(err)
						}
						var got []byte
						var n int64
						switch to {
						case "file":
							name := filepath.Join(t.TempDir(), "f")
							f, err := os.Create(name)
							if err != nil {
								r.Fatal(err)
							}
							if n, err = io.Copy(f, resp.Body); err != nil {
								r.Error(err)
							}
							f.Close()
							got, _ = os.ReadFile(name)
						case "socket":
							received := make(chan []byte)
							go func() {
								conn, err := listener.Accept()
								if err != nil {
									r.Error(err)
								}
								b, _ := io.ReadAll(conn)
								conn.Close()
								received <- b
							}()
							conn, err := net.Dial("tcp", listener.Addr().String())
							if err != nil {
								r.Fatal(err)
							}
							if n, err = io.Copy(conn, resp.Body); err != nil {
								r.Error(err)
							}
							conn.Close()
							got = <-received
						case "buffer":
							var b bytes.Buffer
							var err error
							if n, err = io.Copy(&b, resp.Body); err != nil {
								r.Error(err)
							}
							got = b.Bytes()
						}
						resp.Body.Close()
						if n != int64(len(want)-skip) {
							r.Errorf("to a %s: got %d, want %d", to, n, len(want)-skip)
						}
						harness.WantBody(r, got, want[skip:])
					}
				}
				copyOut(nil, 0, body) // the first of these arrives
				copyOut(nil, size/3, body)
				if size > 100 {
					copyOut([]string{"Range", fmt.Sprintf("bytes=10-%d", size-10)}, 7, body[10:size-9])
					resp, b := r.Get(origin.URL(), "Range", "bytes=5-20,30-40")
					if resp.StatusCode != 206 {
						r.Fatalf("got %s", resp.Status)
					}
					resp = r.Send(r.Context(), origin.URL(), "Range", "bytes=5-20,30-40")
					if _, ok := resp.Body.(io.WriterTo); !ok {
						r.Errorf("%T is no io.WriterTo", resp.Body)
					}
					n, err := io.Copy(io.Discard, resp.Body)
					if n != int64(len(b)) || n != resp.ContentLength || err != nil {
						r.Errorf("got %d of %d, %v", n, len(b), err)
					}
					resp.Body.Close()
				}
				if n := len(origin.Requests()); n != 1 {
					r.Errorf("got %d requests, want 1", n)
				}
			})
		})
	}
}

// failing is a writer that takes so many bytes.
type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	n := min(f.left, len(p))
	if f.left -= n; n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

// TestWriteFails: the error of a writer is that of the copy, and nobody else's.
func TestWriteFails(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(1<<20, 26)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole(body, harness.Fresh) })
		defer origin.Close()
		for range 3 {
			resp := r.Send(r.Context(), origin.URL())
			if n, err := io.Copy(&failing{1000}, resp.Body); n != 1000 || err != io.ErrClosedPipe {
				r.Errorf("got %d, %v", n, err)
			}
			resp.Body.Close()
		}
		_, got := r.Get(origin.URL())
		harness.WantBody(r, got, body)
	})
}
