package bodies_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/google/go-cmp/cmp"
)

// digests returns those of a response: the fields that vouch for its content,
// or for the representation.
func digests(h http.Header) []string {
	var got []string
	for _, name := range []string{"Content-Digest", "Content-Md5", "Digest", "Repr-Digest"} {
		if value := h.Get(name); value != "" {
			got = append(got, name+" "+value)
		}
	}
	return got
}

// TestDigests: the cache leaves out a digest of one message's content when it
// serves a part of that content, or joins parts of several messages. It keeps
// the digest of the representation. RFC 9530, sections 2 and 3.
func TestDigests(t *testing.T) {
	body := harness.Noise(100_000, 70)
	const half = 50_000
	lines := func(what string) []string {
		return []string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Content-Digest: " + what, "Content-MD5: " + what, "Digest: " + what, "Repr-Digest: all"}
	}
	of := func(what string) []string {
		return []string{"Content-Digest " + what, "Content-Md5 " + what, "Digest " + what, "Repr-Digest all"}
	}
	none := []string{"Repr-Digest all"}
	for _, trailers := range []bool{false, true} {
		t.Run(fmt.Sprintf("trailers %t", trailers), func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					code, from, to := 200, 0, len(body)
					what, end := "whole", len(body)
					if n, _ := fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-%d", &from, &to); n > 0 {
						code, what = 206, "part"
						if n == 2 {
							to++
						}
						end = to
					}
					if c.URL.Path == "/cut" && code == 200 {
						end = half
					}
					if c.N == 4 { // the transfer that was cut is not to be continued in place
						c.Head(404, "Content-Length: 0")
						return
					}
					fields := lines(what)
					if code == 206 {
						fields = append(fields, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, to-1, len(body)))
					}
					if !trailers {
						c.Head(code, append(fields, "Content-Length: "+strconv.Itoa(to-from))...)
						c.Content(body[from:end])
						if end < to {
							c.HangUp()
						}
						return
					}
					c.Head(code, append(fields[:3:3], append(fields[7:], "Trailer: Content-Digest, Content-MD5, Digest, Repr-Digest", "Transfer-Encoding: chunked")...)...)
					c.Write(fmt.Sprintf("%x\r\n", end-from))
					c.Content(body[from:end])
					if end < to {
						c.HangUp()
						return
					}
					c.Write("\r\n0\r\n")
					for _, field := range fields[3:7] {
						c.Write(field + "\r\n")
					}
					c.Write("\r\n")
				})
				defer origin.Close()
				check := func(what, path string, want []string, status string, fields ...string) {
					r.Helper()
					resp := r.Send(r.Context(), origin.URL()+path, fields...)
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					h := resp.Header
					if trailers && resp.StatusCode != 304 {
						h = resp.Trailer
					}
					if diff := cmp.Diff(want, digests(h)); diff != "" {
						r.Errorf("%s (-want +got):\n%s", what, diff)
					}
					harness.WantStatus(r, resp, status)
				}
				check("whole", "/whole", of("whole"), "stored")
				check("whole again", "/whole", of("whole"), "hit")
				check("part of the whole", "/whole", none, "hit", "Range", "bytes=10-20")
				check("parts of the whole", "/whole", none, "hit", "Range", "bytes=10-20,30-40")
				notModified := none
				if trailers {
					notModified = nil
				}
				check("nothing of the whole", "/whole", notModified, "hit", "If-None-Match", `"1"`)

				check("part", "/parts", of("part"), "stored", "Range", "bytes=0-49999")
				check("part again", "/parts", none, "hit", "Range", "bytes=0-49999")
				check("resumed part", "/parts", none, "stored")
				check("put together", "/parts", none, "hit")

				resp := r.Send(r.Context(), origin.URL()+"/cut")
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if trailers {
					check("resumed whole", "/cut", none, "stored")
					check("resumed whole again", "/cut", none, "hit")
				} else {
					check("resumed whole", "/cut", of("whole"), "stored")
					check("resumed whole again", "/cut", of("whole"), "hit")
				}
			})
		})
	}
}
