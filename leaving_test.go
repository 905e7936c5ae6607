package cachetrip_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestContextEndsAlone: the end of the context ends a caller's part in a download, even if the caller
// neither reads nor closes: the request to the origin ends with that of the last, and files are closed.
func TestContextEndsAlone(t *testing.T) {
	for _, callers := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d callers", callers), func(t *testing.T) {
			inEachStore(t, func(r *rig) {
				origin := newRaw(r, func(c *rawCall) {
					c.head(200, fresh, "Content-Length: 10000000")
					c.content(noise(100_000, 50))
					<-c.gone
					c.hangUp()
				})
				defer origin.close()
				var cancels []context.CancelFunc
				var responses []*http.Response
				for range callers {
					ctx, cancel := context.WithCancel(r.Context())
					defer cancel()
					resp := r.send(ctx, origin.url())
					if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
						r.Fatal(err)
					}
					cancels, responses = append(cancels, cancel), append(responses, resp)
				}
				gone := origin.requests()[0].gone
				for i, cancel := range cancels {
					select {
					case <-gone:
						r.Errorf("ended before the context of caller %d", i)
					case <-time.After(10 * time.Millisecond):
					}
					cancel()
				}
				within(r, "the request ends at the origin", gone)
				for _, resp := range responses {
					if n, err := resp.Body.Read(make([]byte, 10)); n != 0 || !errors.Is(err, context.Canceled) {
						r.Errorf("got %d, %v, want %v", n, err, context.Canceled)
					}
					resp.Body.Close()
				}
			})
		})
	}
}
