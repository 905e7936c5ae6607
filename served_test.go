package cachetrip_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"testing"
)

// servedRanges are ways to ask for what is stored: all of it, one part and two.
var servedRanges = []string{"", "bytes=100-900000", "bytes=5-800000,3-4"}

func servedFields(ranges string) []string {
	if ranges == "" {
		return nil
	}
	return []string{"Range", ranges}
}

// TestCloseWhileReading: a body from the store may be closed while it is being read or copied, and gives
// nothing after that.
func TestCloseWhileReading(t *testing.T) {
	for _, size := range []int{1000, 60_000, 1 << 20} {
		for _, ranges := range servedRanges {
			t.Run(fmt.Sprintf("%d bytes, %s", size, ranges), func(t *testing.T) {
				inEachStore(t, func(r *rig) {
					origin := newRaw(r, func(c *rawCall) { c.whole(noise(size, 60), fresh, `ETag: "1"`) })
					defer origin.close()
					r.get(origin.url())
					for round := range 30 {
						resp := r.send(r.Context(), origin.url(), servedFields(ranges)...)
						wantStatus(r, resp, "hit")
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

// TestReadToTheEnd: what was read from the store to its end holds no file, even if it is never closed.
func TestReadToTheEnd(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close files, too
	for _, ranges := range servedRanges {
		for _, copied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, copied %t", ranges, copied), func(t *testing.T) {
				inEachStore(t, func(r *rig) {
					origin := newRaw(r, func(c *rawCall) { c.whole(noise(1<<20, 61), fresh, `ETag: "1"`) })
					defer origin.close()
					r.get(origin.url())
					r.get(origin.url(), servedFields(ranges)...)
					var before int
					for i := range 20 {
						if i == 10 { // by when the store holds open what it wants to
							before = descriptors()
						}
						resp := r.send(r.Context(), origin.url(), servedFields(ranges)...)
						wantStatus(r, resp, "hit")
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
					if n := descriptors(); n > before {
						r.Errorf("%d files are open, %d were before", n, before)
					}
				})
			})
		}
	}
}
