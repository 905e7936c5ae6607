package sharing_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// written is a response as http.Response.Write has written it, and as it is
// read again.
type written struct {
	Code    int
	Body    string
	Length  int64
	Trailer http.Header
}

// write has a response written, as a proxy does it, and reads it again.
func write(t testing.TB, resp *http.Response) written {
	t.Helper()
	defer resp.Body.Close()
	var b bytes.Buffer
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	again, err := http.ReadResponse(bufio.NewReader(&b), resp.Request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(again.Body)
	if err != nil {
		t.Fatal(err)
	}
	return written{again.StatusCode, string(body), again.ContentLength, again.Trailer}
}

// TestWriteTrailers: http.Response.Write writes the trailer of a response from
// the cache, as that of one from net/http, and where there is none the length.
func TestWriteTrailers(t *testing.T) {
	const text = "content"
	for _, body := range []string{"", text} {
		harness.EachCache(t, func(r *harness.Cache) {
			begun, release := make(chan bool, 10), make(chan bool)
			origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
				if c.URL.Path == "/plain" {
					c.Whole([]byte(body), harness.Fresh)
					return
				}
				c.Head(200, harness.Fresh, `ETag: "1"`, "Transfer-Encoding: chunked", "Trailer: Digest")
				begun <- true
				<-release
				if body != "" {
					c.Write(strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n")
				}
				c.Write("0\r\nDigest: right\r\n\r\n")
			})
			defer origin.Close()
			want := written{200, body, -1, http.Header{"Digest": {"right"}}}
			var all sync.WaitGroup
			for range 2 { // the second is collapsed, or a hit
				resp := make(chan *http.Response)
				all.Go(func() {
					got, err := r.RoundTrip(r.Request(r.Context(), origin.URL()))
					if err != nil {
						r.Error(err)
					}
					resp <- got
				})
				got := <-resp
				all.Go(func() { harness.Check(r, "a miss, or collapsed", write(r, got), want) })
			}
			<-begun
			close(release)
			all.Wait()
			for range 2 {
				resp := r.Send(r.Context(), origin.URL())
				harness.WantStatus(r, resp, "hit")
				if resp.ContentLength != -1 || !slices.Equal(resp.TransferEncoding, []string{"chunked"}) {
					r.Errorf("a hit with a trailer: length %d, %q", resp.ContentLength, resp.TransferEncoding)
				}
				harness.Check(r, "a hit", write(r, resp), want)
			}
			r.Get(origin.URL() + "/plain")
			resp := r.Send(r.Context(), origin.URL()+"/plain")
			harness.WantStatus(r, resp, "hit")
			harness.Check(r, "a hit without a trailer", write(r, resp), written{200, body, int64(len(body)), nil})
			if body == "" {
				return
			}
			resp = r.Send(r.Context(), origin.URL(), "Range", "bytes=1-3")
			harness.WantStatus(r, resp, "hit")
			harness.Check(r, "a part", write(r, resp), written{206, body[1:4], 3, nil})
			req := r.Request(r.Context(), origin.URL())
			req.Method = http.MethodHead
			resp, err := r.RoundTrip(req)
			if err != nil {
				r.Fatal(err)
			}
			harness.WantStatus(r, resp, "hit")
			resp.Body.Close()
		})
	}
}

// TestWriteTrailersOfHTTP2: so it is if the origin speaks HTTP/2, unless it has
// announced the length.
func TestWriteTrailersOfHTTP2(t *testing.T) {
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeHTTP2)
	w.Handle(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			rw.Header().Set("Content-Length", "7")
		}
		harness.Answer(rw, 200, "content", "Cache-Control", "max-age=60", "Trailer", "Digest")
		rw.(http.Flusher).Flush()
		rw.Header().Set("Digest", "right")
	})
	for path, want := range map[string]written{"/": {200, "content", -1, http.Header{"Digest": {"right"}}}, "/length": {200, "content", 7, nil}} {
		w.Get(path)
		resp, err := w.Client.Get(w.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		harness.Check(t, "hit", cachetrip.StatusOf(resp).Hit, true)
		harness.Check(t, "trailer", resp.Trailer["Digest"] == nil, false)
		resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/1.1", 1, 1 // which is what Write writes
		harness.Check(t, path, write(t, resp), want)
	}
}
