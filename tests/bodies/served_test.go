package bodies_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// servedRanges are ways to request a stored body: all of it, one part and two.
var servedRanges = []string{"", "bytes=100-900000", "bytes=5-800000,3-4"}

func servedFields(ranges string) []string {
	if ranges == "" {
		return nil
	}
	return []string{"Range", ranges}
}

// TestCloseWhileReading: a body from the store may be closed while it is being
// read or copied, and gives nothing after that.
func TestCloseWhileReading(t *testing.T) {
	for _, size := range []int{1000, 60_000, 1 << 20} {
		for _, ranges := range servedRanges {
			t.Run(fmt.Sprintf("%d bytes, %s", size, ranges), func(t *testing.T) {
				harness.EachCache(t, func(r *harness.Cache) {
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole(harness.Noise(size, 60), harness.Fresh, `ETag: "1"`) })
					defer origin.Close()
					r.Get(origin.URL())
					for round := range 30 {
						resp := r.Send(r.Context(), origin.URL(), servedFields(ranges)...)
						harness.WantStatus(r, resp, "hit")
						begun := make(chan struct{})
						var wg sync.WaitGroup
						wg.Go(func() {
							var once sync.Once
							var err error
							if round%2 == 0 {
								b := make([]byte, 100)
								for err == nil {
									_, err = resp.Body.Read(b)
									once.Do(func() { close(begun) })
								}
							} else {
								_, err = io.Copy(writerFunc(func(p []byte) (int, error) {
									once.Do(func() { close(begun) })
									return len(p), nil
								}), resp.Body)
							}
							if err != nil && err != io.EOF && !errors.Is(err, http.ErrBodyReadAfterClose) {
								r.Error(err)
							}
						})
						<-begun
						resp.Body.Close()
						wg.Wait()
						if n, err := resp.Body.Read(make([]byte, 10)); n != 0 || err != http.ErrBodyReadAfterClose {
							r.Errorf("after Close: got %d, %v", n, err)
						}
						if n, err := resp.Body.(io.WriterTo).WriteTo(io.Discard); n != 0 || err != http.ErrBodyReadAfterClose {
							r.Errorf("after Close: got %d, %v", n, err)
						}
					}
				})
			})
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestReadToTheEnd: a body that was read from the store to its end holds no
// file, even if it is never closed.
func TestReadToTheEnd(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close files, too
	for _, ranges := range servedRanges {
		for _, copied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, copied %t", ranges, copied), func(t *testing.T) {
				harness.EachCache(t, func(r *harness.Cache) {
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole(harness.Noise(1<<20, 61), harness.Fresh, `ETag: "1"`) })
					defer origin.Close()
					r.Get(origin.URL())
					r.Get(origin.URL(), servedFields(ranges)...)
					var before int
					for i := range 20 {
						if i == 10 { // by then the store holds its files open
							before = harness.Descriptors()
						}
						resp := r.Send(r.Context(), origin.URL(), servedFields(ranges)...)
						harness.WantStatus(r, resp, "hit")
						body := io.Reader(resp.Body)
						if !copied {
							body = struct{ io.Reader }{body}
						}
						if _, err := io.Copy(io.Discard, body); err != nil {
							r.Error(err)
						}
						if n, err := resp.Body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
							r.Errorf("at the end: got %d, %v", n, err)
						}
					}
					// The store may have a file open for a moment.
					harness.Soon(r, "no more files are open than before", func() bool { return harness.Descriptors() <= before })
				})
			})
		}
	}
}

// TestReadByMany: several goroutines that read and copy one body from the store
// have each byte of it once between them.
func TestReadByMany(t *testing.T) {
	for _, size := range []int{10_000, 60_000, 1 << 20} {
		for _, ranges := range servedRanges {
			t.Run(fmt.Sprintf("%d bytes, %s", size, ranges), func(t *testing.T) {
				harness.EachCache(t, func(r *harness.Cache) {
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole(harness.Noise(size, 62), harness.Fresh, `ETag: "1"`) })
					defer origin.Close()
					r.Get(origin.URL())
					_, want := r.Get(origin.URL(), servedFields(ranges)...)
					for range 10 {
						resp := r.Send(r.Context(), origin.URL(), servedFields(ranges)...)
						harness.WantStatus(r, resp, "hit")
						// The boundaries of two multipart bodies differ, but not their lengths.
						var counts [256]int
						var length int
						var mu sync.Mutex
						took := writerFunc(func(p []byte) (int, error) {
							mu.Lock()
							defer mu.Unlock()
							length += len(p)
							for _, c := range p {
								counts[c]++
							}
							return len(p), nil
						})
						var wg sync.WaitGroup
						for i := range 4 {
							wg.Go(func() {
								var err error
								if i == 0 {
									_, err = io.Copy(took, resp.Body)
								} else {
									_, err = io.CopyBuffer(took, struct{ io.Reader }{resp.Body}, make([]byte, 300+i))
								}
								if err != nil {
									r.Error(err)
								}
							})
						}
						wg.Wait()
						resp.Body.Close()
						if length != len(want) {
							r.Fatalf("%d bytes were read, want %d", length, len(want))
						}
						if strings.Contains(ranges, ",") {
							continue
						}
						for _, c := range want {
							counts[c]--
						}
						if counts != [256]int{} {
							r.Error("bytes were read twice, and others not at all")
						}
					}
				})
			})
		}
	}
}

// TestWriteErrors: any error of a writer ends the copying of a stored body to
// it.
func TestWriteErrors(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		for i, size := range []int{1000, 60_000, 1 << 20} {
			origin := harness.NewRawOrigin(r, func(c *harness.RawCall) { c.Whole(harness.Noise(size, 63), harness.Fresh, `ETag: "1"`) })
			defer origin.Close()
			r.Get(origin.URL())
			for _, ranges := range servedRanges {
				for _, want := range []error{io.EOF, io.ErrShortWrite, errors.New("full")} {
					resp := r.Send(r.Context(), origin.URL(), servedFields(ranges)...)
					if size == 1000 && ranges != "" && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
						resp.Body.Close()
						continue
					}
					harness.WantStatus(r, resp, "hit")
					_, err := io.Copy(writerFunc(func(p []byte) (int, error) { return len(p) / 2, want }), resp.Body)
					if err != want {
						r.Errorf("%d, %s: got %v, want %v", i, ranges, err, want)
					}
					resp.Body.Close()
				}
			}
		}
		if faults := r.Stats().StoreErrors; faults != 0 {
			r.Errorf("%d errors of the store", faults)
		}
	})
}

// TestDamageWhileCopying: if a body turns out to be damaged while it is copied,
// its rest comes from the origin, as it does while the body is read.
func TestDamageWhileCopying(t *testing.T) {
	harness.EachCache(t, func(r *harness.Cache) {
		body := harness.Noise(1<<20, 64)
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			var from int
			if n, _ := fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-", &from); n == 1 {
				c.Head(206, harness.Fresh, `ETag: "1"`, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, len(body)-1, len(body)), fmt.Sprint("Content-Length: ", len(body)-from))
				c.Content(body[from:])
				return
			}
			c.Whole(body, harness.Fresh, `ETag: "1"`, "Accept-Ranges: bytes")
		})
		defer origin.Close()
		for _, copied := range []bool{true, false} {
			good := r.Store
			r.Get(origin.URL())
			faulty := storefault.Wrap(good)
			faulty.Inject(storefault.Beyond(int64(len(body)/2), store.ErrDamaged))
			r.Store = faulty
			resp := r.Send(r.Context(), origin.URL())
			harness.WantStatus(r, resp, "hit")
			from := io.Reader(resp.Body)
			if !copied {
				from = struct{ io.Reader }{from}
			}
			var got bytes.Buffer
			if _, err := io.Copy(struct{ io.Writer }{&got}, from); err != nil {
				r.Errorf("copied %t: %v", copied, err)
			}
			resp.Body.Close()
			harness.WantBody(r, got.Bytes(), body)
			r.Store = good
		}
	})
}

// TestRefusalReadByMany: the body of a refusal is like those of hits.
func TestRefusalReadByMany(t *testing.T) {
	c := &cachetrip.Transport{Store: store.NewMemory(0)}
	refused := func() io.ReadCloser {
		req, err := http.NewRequest("GET", "http://origin.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cache-Control", "only-if-cached")
		resp, err := c.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp.Body
	}
	want, err := io.ReadAll(refused())
	if err != nil {
		t.Fatal(err)
	}
	body := refused()
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b := make([]byte, 3)
			for {
				n, err := body.Read(b)
				got.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if int(got.Load()) != len(want) {
		t.Errorf("got %d bytes, want %d", got.Load(), len(want))
	}
	body.Close()
	if n, err := body.Read(make([]byte, 10)); n != 0 || err != http.ErrBodyReadAfterClose {
		t.Errorf("after Close: got %d, %v", n, err)
	}
	if n := c.Stats().BytesServed; n != 0 {
		t.Errorf("%d bytes are said to come from the store", n)
	}
}
