package validation_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
)

// Bad input from the origin, the disk or the program. It leads to a clear error
// or a plain miss, never to a panic or wrong bytes.

// serveRaw answers each request with the text, as it is, and hangs up. It
// returns the URL.
func serveRaw(t *testing.T, text string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					io.WriteString(conn, text)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Wait()
	})
	return "http://" + l.Addr().String()
}

func TestOddResponsesAreWhatTheyAreWithoutACache(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	fresh := func(lines ...string) string {
		return ok + "Cache-Control: max-age=60\r\n" + strings.Join(lines, "\r\n") + "\r\n"
	}
	full := func(lines ...string) string {
		return ok + "Content-Length: 4\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\nbody"
	}
	const hit, miss = true, false
	for _, test := range []struct {
		name string
		raw  string
		want bool // whether the second request is a hit
	}{
		// Lengths that lie.
		{"content shorter than its length", fresh("Content-Length: 10") + "\r\nbody", miss},
		{"nothing of its length", fresh("Content-Length: 10") + "\r\n", miss},
		{"content longer than its length", fresh("Content-Length: 4") + "\r\nbody and more", hit},
		{"two lengths", fresh("Content-Length: 4", "Content-Length: 5") + "\r\nbody", miss},
		{"the same length twice", fresh("Content-Length: 4", "Content-Length: 4") + "\r\nbody", hit},
		{"negative length", fresh("Content-Length: -4") + "\r\nbody", miss},
		{"huge length", fresh("Content-Length: 9223372036854775807") + "\r\nbody", miss},
		{"length out of range", fresh("Content-Length: 99999999999999999999") + "\r\nbody", miss},
		{"length and chunks", fresh("Content-Length: 3", "Transfer-Encoding: chunked") + "\r\n4\r\nbody\r\n0\r\n\r\n", hit},
		{"no length", fresh("Connection: close") + "\r\nbody", hit},
		{"no length in HTTP/1.0", "HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\nbody", hit},

		// Chunks.
		{"chunked", fresh("Transfer-Encoding: chunked") + "\r\n4\r\nbody\r\n0\r\n\r\n", hit},
		{"chunks without their end", fresh("Transfer-Encoding: chunked") + "\r\n4\r\nbody\r\n", miss},
		{"chunk that is cut", fresh("Transfer-Encoding: chunked", `ETag: "1"`, "Accept-Ranges: bytes") + "\r\n8\r\nbody", miss},
		{"last chunk without its end", fresh("Transfer-Encoding: chunked") + "\r\n4\r\nbody\r\n0\r\n", miss},
		{"chunk size that is none", fresh("Transfer-Encoding: chunked") + "\r\nzz\r\nbody\r\n0\r\n\r\n", miss},
		{"gzip that is none", fresh("Content-Encoding: gzip", "Content-Length: 4") + "\r\nbody", miss},
		{"gzip that is cut", fresh("Content-Encoding: gzip", "Content-Length: 10") + "\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", miss},

		// Heads.
		{"no response", "", miss},
		{"no HTTP", "hello\r\n\r\n", miss},
		{"head that is cut", ok + "Cache-Control: max-age=60\r\nX-Cu", miss},
		{"field without a name", fresh(": x", "Content-Length: 4") + "\r\nbody", miss},
		{"NUL in a value", full("Cache-Control: max-age=60", "X-Nul: a\x00b"), miss},
		{"CR in a value", full("Cache-Control: max-age=60", "X-Cr: a\rb"), miss},
		{"high bytes in a value", full("Cache-Control: max-age=60", "X-High: \xff\xfe\xe4"), hit},
		{"high bytes in the reason", "HTTP/1.1 200 \xff\xfe\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody", hit},
		{"status without a reason", "HTTP/1.1 200\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody", hit},
		{"status of three digits that is none", "HTTP/1.1 999 What\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody", hit},
		{"status 600", "HTTP/1.1 600 What\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody", hit},
		{"206 to no range", "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody", miss},
		{"206 with a range of its own", "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 2-5/10\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\nbody", miss},
		{"206 with a range that is none", "HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 5-2/1\r\nETag: \"1\"\r\nCache-Control: max-age=60\r\n\r\nbody", miss},
		{"416 to no range", "HTTP/1.1 416 No\r\nContent-Length: 4\r\n\r\nbody", miss},
		{"content in a 204", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\n\r\nbody", hit},
		{"many interim responses", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 3) + full("Cache-Control: max-age=60"), hit},

		// Directives.
		{"max-age without a value", full("Cache-Control: max-age"), miss},
		{"max-age of nothing", full("Cache-Control: max-age="), miss},
		{"max-age of letters", full("Cache-Control: max-age=abc"), miss},
		{"max-age below zero", full("Cache-Control: max-age=-60"), miss},
		{"max-age with a fraction", full("Cache-Control: max-age=60.5"), miss},
		{"max-age that overflows", full("Cache-Control: max-age=99999999999999999999999"), hit},
		{"max-age in quotes", full(`Cache-Control: max-age="60"`), hit},
		{"max-age in an open quote", full(`Cache-Control: max-age="60`), miss},
		{"two max-ages, the strict one counts", full("Cache-Control: max-age=60, max-age=0"), miss},
		{"letter case", full("cache-control: MaX-aGe=60"), hit},
		{"no-store in another line", full("Cache-Control: max-age=60", "Cache-Control: NO-STORE"), miss},
		{"no-store in a quoted string is none", full(`Cache-Control: max-age=60, x="no-store"`), hit},
		{"commas and nothing", full("Cache-Control: ,,, ,max-age=60,,"), hit},
		{"unknown ones", full("Cache-Control: x, y=z, \"\", =, max-age=60"), hit},
		{"endless directives", full("Cache-Control: max-age=60" + strings.Repeat(", x=1", 10_000)), hit},

		// Dates and ages.
		{"Expires of 0", full("Expires: 0"), miss},
		{"Expires of nonsense", full("Expires: tomorrow"), miss},
		{"Expires far away", full("Expires: Fri, 31 Dec 9999 23:59:59 GMT"), hit},
		{"Expires before time", full("Expires: Mon, 01 Jan 0001 00:00:00 GMT"), miss},
		{"two Expires", full("Expires: Fri, 31 Dec 9999 23:59:59 GMT", "Expires: 0"), miss},
		{"Date of nonsense", full("Date: now", "Cache-Control: max-age=60"), hit},
		{"Date long ago", full("Date: Mon, 01 Jan 0001 00:00:00 GMT", "Cache-Control: max-age=60"), miss},
		{"Date in the future", full("Date: Fri, 31 Dec 9999 23:59:59 GMT", "Cache-Control: max-age=60"), hit},
		{"Age of nonsense", full("Age: old", "Cache-Control: max-age=60"), hit},
		{"Age below zero", full("Age: -5", "Cache-Control: max-age=60"), hit},
		{"Age that overflows", full("Age: 99999999999999999999999", "Cache-Control: max-age=60"), miss},
		{"Last-Modified in the future", full("Last-Modified: Fri, 31 Dec 9999 23:59:59 GMT"), miss},
		{"Last-Modified of nonsense", full("Last-Modified: yesterday"), miss},

		// Tags and Vary.
		{"tag without quotes", full("ETag: abc", "Cache-Control: max-age=60"), hit},
		{"tag of nothing", full("ETag:", "Cache-Control: max-age=60"), hit},
		{"tag with commas and high bytes", full("ETag: \"a, b\xff\"", "Cache-Control: max-age=60"), hit},
		{"endless tag", full(`ETag: "`+strings.Repeat("x", 100_000)+`"`, "Cache-Control: max-age=60"), hit},
		{"Vary: *", full("Vary: *", "Cache-Control: max-age=60"), miss},
		{"Vary with a * in it", full("Vary: Accept, *", "Cache-Control: max-age=60"), miss},
		{"Vary of commas", full("Vary: ,, ,", "Cache-Control: max-age=60"), hit},
		{"Vary of nonsense", full("Vary: a b, \x7f, (", "Cache-Control: max-age=60"), miss},
		{"endless Vary", full("Vary: X"+strings.Repeat(", X-Y", 5_000), "Cache-Control: max-age=60"), hit},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := serveRaw(t, test.raw)
			type outcome struct {
				Code   int
				Body   string
				Failed bool
			}
			ask := func(transport http.RoundTripper) (o outcome, header http.Header, resp *http.Response) {
				req, err := http.NewRequest("GET", url+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err = transport.RoundTrip(req)
				if err != nil {
					return outcome{Failed: true}, nil, nil
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				return outcome{resp.StatusCode, string(body), err != nil}, resp.Header, resp
			}
			plain := &http.Transport{DisableKeepAlives: true}
			want, wantHeader, _ := ask(plain)
			for _, keep := range []func(*testing.T) (store.Store, string){harness.OnDisk, harness.InMemory} {
				s, _ := keep(t)
				cache := &cachetrip.Transport{Store: s, Base: plain}
				for i := range 3 {
					got, header, resp := ask(cache)
					harness.Check(t, fmt.Sprint("response ", i), got, want)
					if want.Failed {
						continue
					}
					status := cachetrip.StatusOf(resp)
					if wantHit := test.want && i > 0; status.Hit != wantHit {
						t.Errorf("response %d: %+v, want a hit: %t", i, status, wantHit)
					}
					header = header.Clone()
					header.Del("Cache-Status")
					if !status.Hit {
						if diff := cmp.Diff(wantHeader, header); diff != "" && status.FwdStatus != 304 {
							t.Errorf("header of response %d (-want +got):\n%s", i, diff)
						}
					}
				}
				if err := cache.Close(); err != nil {
					t.Error(err)
				}
				if stats := cache.Stats(); want.Failed && stats.Hits != 0 {
					t.Errorf("what failed was stored: %+v", stats)
				}
			}
		})
	}
}

func TestOddTagsAreSentBackAsTheyCame(t *testing.T) {
	for _, tag := range []string{`"a, b"`, "unquoted", `W/"weak"`, "\"high \xff\"", `""`} {
		t.Run(tag, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("If-None-Match") == tag {
						harness.Answer(rw, 304, "", "ETag", tag)
						return
					}
					harness.Answer(rw, 200, "body", "ETag", tag, "Cache-Control", "max-age=0")
				})
				w.Get("/")
				w.WantGet("200 body | fwd=stale; fwd-status=304; stored", "/")
				harness.Check(w, "requests to the origin", len(w.Asked()), 2)
			})
		})
	}
}

func TestTooLargeToKeep(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
	}{
		{"head", harness.Always(200, "body", "Cache-Control", "max-age=60", "X-Large", large)},
		{"body", harness.Always(200, strings.Repeat(large, 4), "Cache-Control", "max-age=60")},
		{"body of known length", harness.Always(200, strings.Repeat(large, 4), "Cache-Control", "max-age=60", "Content-Length", fmt.Sprint(4*len(large)))},
	} {
		t.Run(test.name, func(t *testing.T) {
			for kind, keep := range map[string]func(*testing.T) (store.Store, string){
				"memory": func(*testing.T) (store.Store, string) { return store.NewMemory(4 << 20), "" },
				"disk": func(t *testing.T) (store.Store, string) {
					dir := filepath.Join(t.TempDir(), "cache")
					return harness.OpenDisk(t, dir, store.DiskOptions{MaxBytes: 4 << 20}), dir
				},
			} {
				t.Run(kind, func(t *testing.T) {
					w := harness.NewWorld(t, keep, harness.ServeLoopback)
					w.Handle(harness.Always(200, "small", "Cache-Control", "max-age=60", "ETag", `"1"`))
					w.Get("/")
					w.Handle(test.handler)
					for range 2 {
						r := w.Get("/", "Cache-Control", "no-cache")
						if len(r.Body) != 4 && len(r.Body) != 4*len(large) || r.Status.Hit {
							t.Errorf("got %d bytes, %+v", len(r.Body), r.Status)
						}
					}
					// The former response is not lost, but the origin no longer
					// sends it.
					w.Handle(harness.Tagged(`"1"`, "small", "Cache-Control", "max-age=60"))
					w.WantGet("200 small | fwd=stale; fwd-status=304; stored; detail=invalidated", "/")
					w.WantGet("200 small | hit", "/")
				})
			}
		})
	}
}

func TestDamagedFilesAreMisses(t *testing.T) {
	damages := map[string]func(path string, size int64) error{
		"cut in half":   func(path string, size int64) error { return os.Truncate(path, size/2) },
		"cut by a byte": func(path string, size int64) error { return os.Truncate(path, max(0, size-1)) },
		"emptied":       func(path string, size int64) error { return os.Truncate(path, 0) },
		"extended": func(path string, size int64) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("something else")
			return errors.Join(err, f.Close())
		},
		"extended by zeros": func(path string, size int64) error { return os.Truncate(path, size+5000) },
		"zeroed": func(path string, size int64) error {
			return os.WriteFile(path, make([]byte, size), 0o600)
		},
		"removed": func(path string, size int64) error { return os.Remove(path) },
		"replaced by a directory": func(path string, size int64) error {
			return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "below"), 0o700))
		},
		"replaced by another's": nil, // below
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range testtier.Pick([]int{10, 200_000}, []int{10, 30_000, 200_000}) {
				w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
				body := func(path string) string { return strings.Repeat(path[len(path)-1:], size) }
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					harness.Answer(rw, 200, body(r.URL.Path), "Cache-Control", "max-age=60", "ETag", `"1"`, "X-Path", r.URL.Path)
				})
				paths := []string{"/a", "/b"}
				for _, path := range paths {
					w.Get(path)
				}
				var files []string
				w.EachFile(func(path string, size int64) { files = append(files, path) })
				if damage == nil {
					// Each file's content under the name of the next.
					var contents [][]byte
					for _, path := range files {
						b, err := os.ReadFile(path)
						if err != nil {
							t.Fatal(err)
						}
						contents = append(contents, b)
					}
					for i, path := range files {
						if err := os.WriteFile(path, contents[(i+1)%len(contents)], 0o600); err != nil {
							t.Fatal(err)
						}
					}
				} else {
					for _, path := range files {
						info, err := os.Stat(path)
						if err == nil {
							err = damage(path, info.Size())
						}
						if err != nil {
							t.Fatal(err)
						}
					}
				}
				harness.FilesChanged()
				// A process that has it in memory, and a new one.
				for i, cache := range []*cachetrip.Transport{
					w.Transport,
					{Store: harness.OpenDisk(t, w.Dir, store.DiskOptions{}), Base: w.Transport.Base},
				} {
					w.Client = cache.Client()
					for range 2 {
						for _, path := range paths {
							r, err := w.Try(w.Request("GET", path))
							if err != nil {
								// Only a body that is verified as it is read
								// can fail so late, and no byte of it is wrong.
								if size <= 64<<10 {
									t.Errorf("%d bytes, cache %d: %v", size, i, err)
								}
								continue
							}
							if r.Body != body(path) || r.Header.Get("X-Path") != path {
								t.Errorf("%d bytes, cache %d: %d bytes of %.1q for %s", size, i, len(r.Body), r.Body, r.Header.Get("X-Path"))
							}
						}
					}
					// It is healed, but for directories with something in them,
					// which may be anybody's.
					if r := w.Get("/a"); r.Status.Hit == (name == "replaced by a directory") {
						t.Errorf("%d bytes, cache %d: %+v after all", size, i, r.Status)
					}
				}
				w.Asked()
				w.Dir = "" // its modes were ours
			}
		})
	}
}

func TestDirectoryThatGoesAway(t *testing.T) {
	for _, test := range []struct {
		name  string
		after func(dir string) error
		heals bool
	}{
		{"removed", os.RemoveAll, true},
		{"replaced by a file", func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, []byte("mine"), 0o600))
		}, false},
		{"its inside replaced by a file", func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "v1")), os.WriteFile(filepath.Join(dir, "v1"), []byte("mine"), 0o600))
		}, false},
		{"its data replaced by a file", func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "v1", "data")), os.WriteFile(filepath.Join(dir, "v1", "data"), []byte("mine"), 0o600))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, used := range []bool{true, false} {
				w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
				w.Handle(harness.Tagged(`"1"`, "body", "Cache-Control", "max-age=60"))
				if used {
					w.Get("/before")
				}
				if err := test.after(w.Dir); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					for _, path := range []string{"/before", "/after"} {
						for _, method := range []string{"GET", "HEAD", "POST"} {
							if r := w.Do(w.Request(method, path)); r.Code != 200 || method != "HEAD" && r.Body != "body" {
								t.Errorf("%s %s: %v", method, path, r)
							}
						}
					}
				}
				w.Get("/new")
				r := w.Get("/new")
				if r.Status.Hit != test.heals {
					t.Errorf("used before: %t; afterwards %v", used, r)
				}
				if stats := w.Transport.Stats(); !test.heals && stats.StoreErrors == 0 {
					t.Errorf("no errors were counted: %+v", stats)
				}
			}
		})
	}
}

func TestManyVariantsAreBounded(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, "for "+r.Header.Get("X-Any"), "Cache-Control", "max-age=60", "Vary", "X-Any")
		})
		last := testtier.Pick(80, 200) - 1
		for i := range last + 1 {
			if r := w.Get("/", "X-Any", fmt.Sprint(i)); r.Body != fmt.Sprint("for ", i) {
				w.Errorf("got %v for %d", r, i)
			}
		}
		w.WantGet(fmt.Sprintf("200 for %d | hit", last), "/", "X-Any", fmt.Sprint(last))
		if r := w.Get("/", "X-Any", "0"); r.Status.Hit {
			w.Errorf("the oldest of %d variants is still there", last+1)
		}
	})
}
