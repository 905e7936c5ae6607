package bodies_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// reading are ways to read a body that ends in an error.
var reading = map[string]func(resp *http.Response) error{
	"to the end": func(resp *http.Response) error {
		_, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body})
		return err
	},
	"WriteTo": func(resp *http.Response) error {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	},
	"by the length": func(resp *http.Response) error {
		_, err := io.ReadFull(resp.Body, make([]byte, resp.ContentLength))
		return err
	},
}

// TestDigestOfAJoinedBody: a body that the cache has joined from several
// messages ends in an error if it has not the digest that it should have, and
// is dropped. So the next request gets the whole.
func TestDigestOfAJoinedBody(t *testing.T) {
	harness.LeavesNothing(t)
	body, other := harness.Noise(600_000, 75), harness.Noise(600_000, 76)
	const a, b, n = 200_000, 400_000, 600_000
	cut := func(c *harness.RawCall, lines ...string) {
		c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(n))...)
		c.Content(body[:a])
		<-c.Gone
		c.HangUp()
	}
	readPart := func(r *harness.Cache, url string) {
		resp := r.Send(r.Context(), url)
		io.ReadFull(resp.Body, make([]byte, a))
		resp.Body.Close()
	}
	part := func(from, to int) func(r *harness.Cache, url string) {
		return func(r *harness.Cache, url string) {
			r.Helper()
			resp, _ := r.Get(url, "Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
			harness.WantStatus(r, resp, "stored")
		}
	}
	for _, how := range []struct {
		name  string
		begin []func(r *harness.Cache, url string) // what came before the whole is requested
		want  string                               // of the response in parts
	}{
		{"resumed", []func(r *harness.Cache, url string){readPart}, "fwd-status=206"},
		{"resumed in another process", []func(r *harness.Cache, url string){readPart, func(r *harness.Cache, _ string) { r.Restart() }}, "fwd-status=206"},
		{"the end was held", []func(r *harness.Cache, url string){part(b, n)}, "fwd-status=206"},
		{"both ends were held", []func(r *harness.Cache, url string){part(0, a), part(b, n)}, "fwd-status=206"},
		{"in stored parts", []func(r *harness.Cache, url string){part(0, a), part(a, b), part(b, n)}, "hit"},
		{"continued", nil, "stored"},
	} {
		for _, digest := range []struct {
			name string
			line string
			ok   bool
		}{
			{"right", "Repr-Digest: " + sum256(body), true},
			{"right, longer", "Repr-Digest: " + sum512(body), true},
			{"wrong", "Repr-Digest: " + sum256(other), false},
			{"none", "X-None: 1", true},
		} {
			for by, read := range reading {
				if digest.ok && by != "to the end" {
					continue
				}
				t.Run(how.name+"/"+digest.name+"/"+by, func(t *testing.T) {
					harness.EachCacheInParallel(t, func(r *harness.Cache) {
						lines := []string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes", digest.line}
						whole := false
						origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
							from, to := 0, n
							ranged, _ := fmt.Sscanf(c.Header.Get("Range"), "bytes=%d-%d", &from, &to)
							switch {
							case whole:
								c.Whole(body, harness.Fresh, harness.Tag)
							case ranged == 2:
								c.Part(body, from, to+1, lines...)
							case ranged == 1:
								c.Part(body, from, n, lines...)
							case how.name == "continued":
								c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(n))...)
								c.Content(body[:a])
								c.HangUp()
							default:
								cut(c, lines...)
							}
						})
						defer origin.Close()
						for _, f := range how.begin {
							f(r, origin.URL())
						}
						resp := r.Send(r.Context(), origin.URL())
						harness.WantStatus(r, resp, how.want)
						if digest.ok {
							got, err := io.ReadAll(resp.Body)
							if err != nil {
								r.Fatal(err)
							}
							harness.WantBody(r, got, body)
							resp.Body.Close()
							for range 2 {
								resp, got := r.Get(origin.URL())
								harness.WantBody(r, got, body)
								harness.WantStatus(r, resp, "hit")
							}
							return
						}
						err := read(resp)
						if !errors.Is(err, io.ErrUnexpectedEOF) {
							r.Errorf("got %v, want %v", err, io.ErrUnexpectedEOF)
						}
						if by != "by the length" && !strings.Contains(fmt.Sprint(err), "does not match Repr-Digest (sha-256)") {
							r.Errorf("the error does not say why: %v", err)
						}
						resp.Body.Close()
						whole = true
						resp, got := r.Get(origin.URL())
						harness.WantBody(r, got, body)
						harness.WantStatus(r, resp, "fwd=uri-miss", "stored")
						resp, _ = r.Get(origin.URL())
						harness.WantStatus(r, resp, "hit")
					})
				})
			}
		}
	}
}

// TestDigestsThatDiffer: two messages that state different digests are not
// joined, even if they have the same entity tag.
func TestDigestsThatDiffer(t *testing.T) {
	body, other := harness.Noise(200_000, 77), harness.Noise(200_000, 78)
	const half = 100_000
	harness.EachCache(t, func(r *harness.Cache) {
		lines := []string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Repr-Digest: " + sum256(body)}
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			switch {
			case c.N == 0:
				c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
				c.Content(body[:half])
				<-c.Gone
				c.HangUp()
			case c.Header.Get("Range") != "":
				c.Rest(other, harness.Fresh, harness.Tag, "Repr-Digest: "+sum256(other))
			default:
				c.Whole(other, harness.Fresh, harness.Tag, "Repr-Digest: "+sum256(other))
			}
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		io.ReadFull(resp.Body, make([]byte, half))
		resp.Body.Close()
		resp, got := r.Get(origin.URL())
		harness.WantBody(r, got, other)
		harness.WantStatus(r, resp, "fwd=partial", "fwd-status=200", "stored")
		resp, got = r.Get(origin.URL())
		harness.WantBody(r, got, other)
		harness.WantStatus(r, resp, "hit")
	})
}

// TestDigestAfterA304: a 304 brings no bytes, so it does not change the digest
// of those that are stored.
func TestDigestAfterA304(t *testing.T) {
	body := harness.Noise(1000, 79)
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			if c.Header.Get("If-None-Match") != "" {
				c.Head(304, harness.Tag, "Cache-Control: no-cache", "Repr-Digest: "+sum256(body[1:]))
				return
			}
			c.Whole(body, harness.Tag, "Cache-Control: no-cache", "Repr-Digest: "+sum256(body))
		})
		defer origin.Close()
		for _, want := range []string{"fwd-status=200", "fwd-status=304", "fwd-status=304"} {
			resp, got := r.Get(origin.URL())
			harness.WantBody(r, got, body)
			harness.WantStatus(r, resp, want)
			harness.Check(r, "Repr-Digest", resp.Header.Get("Repr-Digest"), sum256(body))
		}
	})
}

// TestDigestIsCheckedOnce: a body that was checked when it was resumed is not
// checked again by each hit.
func TestDigestIsCheckedOnce(t *testing.T) {
	body := harness.Noise(200_000, 82)
	harness.EachCache(t, func(r *harness.Cache) {
		origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
			lines := []string{"Cache-Control: no-cache", harness.Tag, "Accept-Ranges: bytes", "Repr-Digest: " + sum256(body)}
			switch {
			case c.Header.Get("If-None-Match") != "":
				c.Head(304, lines...)
			case c.Header.Get("Range") != "":
				c.Rest(body, lines...)
			default:
				c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
				c.Content(body[:100_000])
				<-c.Gone
				c.HangUp()
			}
		})
		defer origin.Close()
		resp := r.Send(r.Context(), origin.URL())
		io.ReadFull(resp.Body, make([]byte, 100_000))
		resp.Body.Close()
		for _, want := range []string{"fwd-status=206", "fwd-status=304", "fwd-status=304"} {
			resp, got := r.Get(origin.URL())
			harness.WantStatus(r, resp, want)
			harness.WantBody(r, got, body)
			for e, err := range r.Entries(r.Context(), "") {
				if err != nil {
					r.Fatal(err)
				}
				if len(e.Parts) != 2 || e.Selecting[":checked"] != "yes" {
					r.Errorf("after %s the entry has %d parts, and the notes %v", want, len(e.Parts), e.Selecting)
				}
			}
		}
	})
}

// TestDigestOfADrainedBody: the stored part is checked, too, if the caller has
// not read it.
func TestDigestOfADrainedBody(t *testing.T) {
	body, other := harness.Noise(200_000, 84), harness.Noise(200_000, 85)
	for digest, want := range map[string]string{sum256(body): "hit", sum256(other): "fwd=uri-miss"} {
		harness.EachCache(t, func(r *harness.Cache) {
			origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
				lines := []string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Repr-Digest: " + digest}
				if c.Header.Get("Range") != "" {
					c.Rest(body, lines...)
					return
				}
				c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
				c.Content(body[:150_000])
				<-c.Gone
				c.HangUp()
			})
			defer origin.Close()
			r.DrainBytes, r.DrainTime = 50_000, time.Minute
			for _, n := range []int{150_000, 1000} {
				resp := r.Send(r.Context(), origin.URL())
				if n > 1000 {
					r.DrainBytes = -1 // the first transfer is cut
				}
				io.ReadFull(resp.Body, make([]byte, n))
				resp.Body.Close()
				r.DrainBytes = 50_000
			}
			resp := r.Send(r.Context(), origin.URL())
			resp.Body.Close()
			harness.WantStatus(r, resp, want)
		})
	}
}

// TestDigestOfARest: the store loses a stored body in the middle, or a shared
// body stalls. If there is a digest, the origin is asked for the whole, so that
// it can be checked, and the caller is not given a mixture.
func TestDigestOfARest(t *testing.T) {
	harness.LeavesNothing(t)
	body := harness.Noise(500_000, 86)
	damaged := bytes.Clone(body)
	damaged[450_000] ^= 1
	early := bytes.Clone(body)
	early[100] ^= 1
	for _, how := range []string{"lost", "stalled"} {
		for _, test := range []struct {
			name   string
			second []byte
			fails  bool
		}{{"the same", body, false}, {"damaged in the rest", damaged, how == "lost"}, {"damaged before it", early, true}} {
			t.Run(how+"/"+test.name, func(t *testing.T) {
				harness.EachCacheInParallel(t, func(r *harness.Cache) {
					lines := []string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes", "Repr-Digest: " + sum256(body)}
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						switch {
						case c.Header.Get("Range") != "":
							c.Rest(test.second, lines...)
						case c.N > 0:
							c.Whole(test.second, lines...)
						case how == "lost":
							c.Whole(body, lines...)
						default:
							c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
							c.Content(body[:200_000])
							<-c.Gone
							c.HangUp()
						}
					})
					defer origin.Close()
					// A caller that waits a second for others, and never misses
					// its deadline.
					ctx := patience.Until(r.Context(), time.Now().Add(4*time.Second))
					if test.fails && how == "stalled" {
						// The rest does not fit, so the caller waits for the leader,
						// until its own deadline.
						ending, cancel := context.WithTimeout(r.Context(), 2*time.Second)
						defer cancel()
						ctx = ending
					}
					if how == "lost" {
						r.Get(origin.URL())
						kept := r.Store
						defer func() { r.Store = kept }()
						faulty := storefault.Wrap(kept)
						faulty.Inject(storefault.Beyond(200_000, syscall.EIO))
						r.Store = faulty
					} else {
						leader := r.Send(r.Context(), origin.URL())
						defer leader.Body.Close()
					}
					resp := r.Send(ctx, origin.URL())
					harness.WantStatus(r, resp, map[string]string{"lost": "hit", "stalled": "collapsed"}[how])
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if (err != nil) != test.fails || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && how != "stalled" {
						r.Errorf("got %d bytes, %v", len(got), err)
					}
					if err == nil {
						harness.WantBody(r, got, test.second)
					} else if len(got) == len(body) {
						r.Errorf("got all, and then %v", err)
					}
				})
			})
		}
	}
}

// TestDigestOfARestAlone: the 206 that completes a body may have a
// Content-Digest of its own. If it is wrong, that is a message with a wrong
// digest: its caller gets it as it came, and it is not stored. If the whole has
// the digest that it should have, nothing is wrong.
func TestDigestOfARestAlone(t *testing.T) {
	body := harness.Noise(200_000, 87)
	const half = 100_000
	for _, test := range []struct {
		name  string
		whole []string // in the first header
		rest  string
		want  string // of the next request
	}{
		{"right", nil, "Content-Digest: " + sum256(body[half:]), "hit"},
		{"that of the whole", nil, "Content-Digest: " + sum256(body), "fwd=uri-miss"},
		{"that of the whole, which is right", []string{"Repr-Digest: " + sum256(body)}, "Content-Digest: " + sum256(body), "hit"},
	} {
		for _, end := range []bool{false, true} { // the end is held, or the beginning
			t.Run(fmt.Sprintf("%s/end held %t", test.name, end), func(t *testing.T) {
				harness.EachCache(t, func(r *harness.Cache) {
					reasons := traced(r)
					lines := append([]string{harness.Fresh, harness.Tag, "Accept-Ranges: bytes"}, test.whole...)
					origin := harness.NewRawOrigin(r, func(c *harness.RawCall) {
						switch {
						case c.N == 0 && end:
							c.Part(body, half, len(body), lines...)
						case c.N == 0:
							c.Part(body, 0, half, lines...)
						case c.Header.Get("Range") == "":
							c.Whole(body, harness.Fresh, harness.Tag)
						case end:
							c.Part(body, 0, half, append(lines, strings.Replace(test.rest, sum256(body[half:]), sum256(body[:half]), 1))...)
						default:
							c.Part(body, half, len(body), append(lines, test.rest)...)
						}
					})
					defer origin.Close()
					r.Get(origin.URL(), "Range", map[bool]string{false: "bytes=0-99999", true: "bytes=100000-199999"}[end])
					resp, got := r.Get(origin.URL())
					harness.WantStatus(r, resp, "fwd=partial", "fwd-status=206")
					harness.WantBody(r, got, body)
					if told := strings.Join(*reasons, "; "); (told != "") != (test.want != "hit") {
						r.Errorf("not stored because of %q", told)
					}
					resp, got = r.Get(origin.URL())
					harness.WantStatus(r, resp, test.want)
					harness.WantBody(r, got, body)
				})
			})
		}
	}
}
