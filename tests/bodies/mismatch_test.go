package bodies_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

func sum256(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func sum512(b []byte) string {
	sum := sha512.Sum512(b)
	return "sha-512=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// traced makes the cache tell in reasons why responses are not stored.
func traced(r *harness.Cache) (reasons *[]string) {
	reasons = new([]string)
	r.Trace = &cachetrip.Trace{NotStored: func(info cachetrip.StoreInfo) {
		*reasons = append(*reasons, info.Reason+": "+fmt.Sprint(info.Err))
	}}
	return reasons
}

// TestDigestOfAMessage: a response is stored unless its body has another digest
// than its header says. Its caller gets it as it is in either case. RFC 9530,
// sections 2 and 3.
func TestDigestOfAMessage(t *testing.T) {
	body, other := harness.Noise(200_000, 71), harness.Noise(200_000, 72)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(body)
	w.Close()
	const content, repr, wrong = "Content-Digest: ", "Repr-Digest: ", "digest: the body does not match "
	for _, test := range []struct {
		name  string
		lines []string
		sends []byte // body by default
		want  string // the reason why it is not stored; empty if it is
		send  func(c *harness.RawCall, body []byte, lines []string)
	}{
		{"none", nil, nil, "", nil},
		{"Content-Digest", []string{content + sum256(body)}, nil, "", nil},
		{"Repr-Digest", []string{repr + sum512(body)}, nil, "", nil},
		{"both", []string{content + sum256(body), repr + sum256(body)}, nil, "", nil},
		{"another Content-Digest", []string{content + sum256(other)}, nil, wrong + "Content-Digest (sha-256)", nil},
		{"another Repr-Digest", []string{repr + sum512(other)}, nil, wrong + "Repr-Digest (sha-512)", nil},
		{"one of two", []string{content + sum512(body), repr + sum256(other)}, nil, wrong + "Repr-Digest (sha-256)", nil},
		{"the strongest one counts", []string{content + sum256(body), content + sum512(other)}, nil, wrong + "Content-Digest (sha-512)", nil},
		{"weaker ones do not", []string{content + sum256(other) + ", " + sum512(body)}, nil, "", nil},
		{"other algorithms", []string{content + "md5=:AAAA:, crc32c=:AAAAAA==:"}, nil, "", nil},
		{"malformed", []string{content + sum256(other) + ","}, nil, "", nil},
		{"not of this kind", []string{repr + "all"}, nil, "", nil},
		{"many", []string{content + strings.Repeat("a=1, ", 10_000) + sum256(other)}, nil, "", nil},
		{"coded", []string{"Content-Encoding: gzip", repr + sum256(zipped.Bytes())}, zipped.Bytes(), "", nil},
		{"coded, and the digest is not", []string{"Content-Encoding: gzip", repr + sum256(body)}, zipped.Bytes(), wrong + "Repr-Digest (sha-256)", nil},
		{"empty", []string{repr + sum256(nil)}, []byte{}, "", nil},
		{"empty, and the digest is not", []string{repr + sum256(body)}, []byte{}, wrong + "Repr-Digest (sha-256)", nil},
		{"until the end of the connection", []string{content + sum256(body)}, nil, "", close200},
		{"cut at the end of the connection", []string{content + sum256(body)}, body[:150_000], wrong + "Content-Digest (sha-256)", close200},
		{"in chunks", []string{content + sum256(body)}, nil, "", chunked200},
		{"in chunks, and another", []string{content + sum256(other)}, nil, wrong + "Content-Digest (sha-256)", chunked200},
		{"not found", []string{content + sum256(other)}, nil, wrong + "Content-Digest (sha-256)", func(c *harness.RawCall, body []byte, lines []string) {
			c.Head(404, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
			c.Content(body)
		}},
		{"in the trailer", nil, nil, "", func(c *harness.RawCall, body []byte, lines []string) {
			c.Head(200, append(lines, "Transfer-Encoding: chunked", "Trailer: Repr-Digest")...)
			c.Write(fmt.Sprintf("%x\r\n%s\r\n0\r\n%s\r\n\r\n", len(body), body, repr+sum256(other)))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, early := range []bool{false, true} {
				t.Run(fmt.Sprintf("closed early %t", early), func(t *testing.T) {
					harness.EachCache(t, func(r *harness.Cache) {
						sends, reasons := body, traced(r)
						if test.sends != nil {
							sends = test.sends
						}
						send := test.send
						if send == nil {
							send = func(c *harness.RawCall, body []byte, lines []string) { c.Whole(body, lines...) }
						}
						origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
							send(c, sends, append([]string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes"}, test.lines...))
						})
						defer origin.Close()
						fields := []string{"Accept-Encoding", "gzip"}
						if early { // the rest is drained
							r.DrainTime = time.Minute // the test is not about a loaded machine
							resp := r.Send(r.Context(), origin.URL(), fields...)
							io.ReadFull(resp.Body, make([]byte, min(len(sends), 100)))
							resp.Body.Close()
						} else {
							_, got := r.Get(origin.URL(), fields...)
							harness.WantBody(r, got, sends)
						}
						harness.Check(r, "reasons", strings.Join(*reasons, "; "), test.want)
						resp, got := r.Get(origin.URL(), fields...)
						harness.WantBody(r, got, sends)
						if test.want == "" {
							harness.WantStatus(r, resp, "hit")
						} else {
							harness.WantStatus(r, resp, "fwd=uri-miss")
						}
					})
				})
			}
		})
	}
}

// close200 answers with a body that ends with the connection.
func close200(c *harness.RawCall, body []byte, lines []string) {
	c.Head(200, append(lines, "Connection: close")...)
	c.Content(body)
	c.HangUp()
}

// chunked200 answers with a body of unknown length.
func chunked200(c *harness.RawCall, body []byte, lines []string) {
	c.Head(200, append(lines, "Transfer-Encoding: chunked")...)
	c.Write(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body))
}

// TestDigestNotChecked: the cache does not check what it cannot know.
func TestDigestNotChecked(t *testing.T) {
	body := harness.Noise(50_000, 73)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(body)
	w.Close()
	nonsense := "Repr-Digest: " + sum256([]byte("nonsense"))
	for _, test := range []struct {
		name    string
		prepare func(r *harness.Cache)
		method  string
		send    func(c *harness.RawCall)
	}{
		{"decoded by net/http", func(r *harness.Cache) { r.HTTP.DisableCompression = false }, "GET", func(c *harness.RawCall) {
			c.Whole(zipped.Bytes(), harness.Fresh, nonsense, "Content-Encoding: gzip")
		}},
		{"removed by the program", func(r *harness.Cache) {
			r.ModifyResponse = func(resp *http.Response) error {
				resp.Header.Del("Repr-Digest")
				return nil
			}
		}, "GET", func(c *harness.RawCall) { c.Whole(body, harness.Fresh, nonsense) }},
		{"HEAD", nil, "HEAD", func(c *harness.RawCall) {
			c.Head(200, harness.Fresh, nonsense, "Content-Digest: "+sum256(body), "Content-Length: "+strconv.Itoa(len(body)))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				if test.prepare != nil {
					test.prepare(r)
				}
				origin := harness.NewRawOrigin(r, test.send)
				defer origin.Close()
				for _, want := range []string{"stored", "hit"} {
					req := r.Request(r.Context(), origin.URL())
					req.Method = test.method
					resp, err := r.RoundTrip(req)
					if err != nil {
						r.Fatal(err)
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					harness.WantStatus(r, resp, want)
				}
			})
		})
	}
}

// TestDigestOfAPart: Content-Digest of a 206 is that of the part.
func TestDigestOfAPart(t *testing.T) {
	body := harness.Noise(100_000, 74)
	for _, test := range []struct {
		name   string
		asks   string
		from   int
		to     int
		digest string
		stored bool
	}{
		{"its own", "bytes=0-49999", 0, 50_000, "Content-Digest: " + sum256(body[:50_000]), true},
		{"that of the whole", "bytes=0-49999", 0, 50_000, "Content-Digest: " + sum256(body), false},
		{"of the representation", "bytes=0-49999", 0, 50_000, "Repr-Digest: " + sum256(body), true},
		{"of another representation, which cannot be known", "bytes=0-49999", 0, 50_000, "Repr-Digest: " + sum256(body[1:]), true},
		{"all of the representation", "bytes=0-", 0, 100_000, "Repr-Digest: " + sum256(body), true},
		{"all of another representation", "bytes=0-", 0, 100_000, "Repr-Digest: " + sum256(body[1:]), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					c.Part(body, test.from, test.to, harness.Fresh, harness.Tag, test.digest)
				})
				defer origin.Close()
				for _, want := range []string{"fwd=uri-miss", map[bool]string{true: "hit", false: "fwd=uri-miss"}[test.stored]} {
					resp, got := r.Get(origin.URL(), "Range", test.asks)
					harness.WantBody(r, got, body[test.from:test.to])
					harness.WantStatus(r, resp, want)
				}
			})
		})
	}
}

// TestDigestOfASharedBody: the caller whose request brought a body with another
// digest gets it as it is. A caller that shares it does so only if the origin
// sends it the same.
func TestDigestOfASharedBody(t *testing.T) {
	body, other := harness.Noise(300_000, 80), harness.Noise(300_000, 81)
	line := "Repr-Digest: " + sum256(body)
	damaged := bytes.Clone(body)
	damaged[1234] ^= 1
	for _, test := range []struct {
		name          string
		first, second []byte
		fails         bool
	}{
		{"the same", other, other, false},
		{"damaged on the way", damaged, body, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachCache(t, func(r *harness.Cache) {
				begun, finish := make(chan bool), make(chan bool)
				origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
					lines := []string{harness.Fresh, harness.Tag, line}
					if c.N > 0 {
						c.Whole(test.second, lines...)
						return
					}
					c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
					c.Content(test.first[:100_000])
					close(begun)
					<-finish
					c.Content(test.first[100_000:])
				})
				defer origin.Close()
				leader := r.Send(r.Context(), origin.URL())
				<-begun
				follower := r.Send(r.Context(), origin.URL())
				harness.WantStatus(r, follower, "collapsed")
				io.ReadFull(follower.Body, make([]byte, 1000))
				close(finish)
				got, err := io.ReadAll(leader.Body)
				leader.Body.Close()
				if err != nil {
					r.Error(err)
				}
				harness.WantBody(r, got, test.first)
				got, err = io.ReadAll(follower.Body)
				follower.Body.Close()
				if test.fails {
					if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "does not match Repr-Digest") {
						r.Errorf("the other caller got %v", err)
					}
				} else {
					if err != nil {
						r.Error(err)
					}
					harness.WantBody(r, got, test.second[1000:])
				}
				harness.Check(r, "requests", len(origin.Requests()), 2)
				resp, got := r.Get(origin.URL())
				harness.WantBody(r, got, test.second)
				harness.WantStatus(r, resp, "fwd=uri-miss")
			})
		})
	}
}

// TestDigestInTheBackground: a revalidation that brings a body with another
// digest has failed, and is not repeated by the next stale hit.
func TestDigestInTheBackground(t *testing.T) {
	body := harness.Noise(2000, 83)
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			c.Whole(body[c.N:], "Cache-Control: max-age=0, stale-while-revalidate=60", "Repr-Digest: "+sum256(body))
		})
		defer origin.Close()
		for range 3 {
			_, got := r.Get(origin.URL())
			harness.WantBody(r, got, body)
			r.WaitForQuiet()
		}
		harness.Check(r, "requests", len(origin.Requests()), 2)
	})
}
