package validation_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
)

// Faults of other Go caches, each found by running them. The tests show that
// this cache does not have them.

func TestPartialReadIsNotTheWhole(t *testing.T) {
	body := strings.Repeat("0123456789", 1000)
	for _, test := range []struct {
		name  string
		read  int
		drain int64 // DrainBytes
		want  string
	}{
		{"a little is drained", 1000, 0, "hit"},
		{"nothing read", 0, 0, "hit"},
		{"no draining", 1000, -1, "fwd=uri-miss; fwd-status=200; stored"},
		{"too much to drain", 1000, 100, "fwd=uri-miss; fwd-status=200; stored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.DrainBytes = test.drain
				w.Transport.DrainTime = time.Minute // the test is not about a loaded machine
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					harness.Answer(rw, 200, body[:5000], "Cache-Control", "max-age=60", "Content-Length", "10000")
					rw.(http.Flusher).Flush() // the rest comes separately
					io.WriteString(rw, body[5000:])
				})
				resp, err := w.Client.Do(w.Request("GET", "/"))
				if err != nil {
					w.Fatal(err)
				}
				if _, err := io.ReadFull(resp.Body, make([]byte, test.read)); err != nil {
					w.Fatal(err)
				}
				resp.Body.Close()
				w.WantGet("200 "+body+" | "+test.want, "/")
			})
		})
	}
}

func TestPartialReadOfWhatCanBeResumed(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Transport.DrainBytes = -1
		body := strings.Repeat("0123456789", 20_000)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"1"`)
			rw.Header().Set("Cache-Control", "max-age=60")
			http.ServeContent(rw, r, "body.txt", time.Time{}, strings.NewReader(body))
		})
		resp, err := w.Client.Do(w.Request("GET", "/"))
		if err != nil {
			w.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1000)); err != nil {
			w.Fatal(err)
		}
		resp.Body.Close()
		if r := w.Get("/"); r.Body != body || r.Status.Fwd != "partial" || r.Status.FwdStatus != 206 {
			w.Errorf("got %d bytes, %+v", len(r.Body), r.Status)
		}
		if r := w.Get("/"); r.Body != body || !r.Status.Hit {
			w.Errorf("then %d bytes, %+v", len(r.Body), r.Status)
		}
	})
}

func TestShortReadsAreNotTheEnd(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		body := strings.Repeat("0123456789", 1000)
		w.Handle(harness.Always(200, body, "Cache-Control", "max-age=60"))
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Body = struct {
					io.Reader
					io.Closer
				}{&dripping{r: resp.Body}, resp.Body}
			}
			return resp, err
		})
		w.WantGet("200 "+body+" | fwd=uri-miss; fwd-status=200; stored", "/")
		w.WantGet("200 "+body+" | hit", "/")
	})
}

// dripping gives seven bytes at a time, and sometimes none.
type dripping struct {
	r io.Reader
	n int
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.n++; d.n%5 == 0 {
		return 0, nil
	}
	return d.r.Read(p[:min(len(p), 7)])
}

func TestDecoderThatStopsBeforeTheEnd(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Transport.DrainTime = time.Minute // the test is not about a loaded machine
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, `{"name": "value"}`, "Cache-Control", "max-age=60")
			rw.(http.Flusher).Flush()
			io.WriteString(rw, "\n\n")
		})
		for _, want := range []bool{false, true} {
			resp, err := w.Client.Do(w.Request("GET", "/"))
			if err != nil {
				w.Fatal(err)
			}
			var v map[string]string
			if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
				w.Error(err)
			}
			resp.Body.Close()
			harness.Check(w, "value", v, map[string]string{"name": "value"})
			harness.Check(w, "hit", cachetrip.StatusOf(resp).Hit, want)
		}
	})
}

func TestEventsComeAtOnce(t *testing.T) {
	for _, control := range []string{"no-cache", "max-age=60", "no-store"} {
		t.Run(control, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				over := make(chan struct{})
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					defer close(over)
					rw.Header().Set("Content-Type", "text/event-stream")
					rw.Header().Set("Cache-Control", control)
					for i := 0; r.Context().Err() == nil; i++ {
						fmt.Fprintf(rw, "data: %d\n\n", i)
						rw.(http.Flusher).Flush()
						time.Sleep(time.Hour)
					}
				})
				start := time.Now()
				resp, err := w.Client.Do(w.Request("GET", "/"))
				if err != nil {
					w.Fatal(err)
				}
				event := make([]byte, len("data: 0\n\n"))
				for i := range 3 {
					if _, err := io.ReadFull(resp.Body, event); err != nil || string(event) != fmt.Sprintf("data: %d\n\n", i) {
						w.Errorf("event %d: %q, %v", i, event, err)
					}
					harness.Check(w, "time of the event", time.Since(start), time.Duration(i)*time.Hour)
				}
				resp.Body.Close()
				if waited := time.Since(start) - 2*time.Hour; waited > time.Second {
					w.Errorf("Close took %v", waited)
				}
				<-over
				if r, err := w.Try(w.Request("GET", "/", "Cache-Control", "only-if-cached")); err != nil || r.Code != 504 {
					w.Errorf("a stream that was cut off was stored: %v, %v", r, err)
				}
			})
		})
	}
}

func TestEndlessBodyLeavesTheStoreInItsBounds(t *testing.T) {
	const bound = 4 << 20
	for _, kind := range []string{"disk", "memory"} {
		t.Run(kind, func(t *testing.T) {
			w := harness.NewWorld(t, func(t *testing.T) (store.Store, string) {
				if kind == "memory" {
					return store.NewMemory(bound), ""
				}
				dir := filepath.Join(t.TempDir(), "cache")
				return harness.OpenDisk(t, dir, store.DiskOptions{MaxBytes: bound}), dir
			}, harness.ServeLoopback)
			w.Handle(harness.Always(200, "small", "Cache-Control", "max-age=60"))
			w.Get("/small")
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Cache-Control", "max-age=60")
				for piece := bytes.Repeat([]byte("0123456789abcdef"), 4<<10); ; {
					if _, err := rw.Write(piece); err != nil {
						return
					}
				}
			})
			resp, err := w.Client.Do(w.Request("GET", "/endless"))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 3*bound)
			if _, err := io.ReadFull(resp.Body, got); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("0123456789abcdef"), len(got)/16)) {
				t.Errorf("the body is wrong, or %v", err)
			}
			if kind == "disk" {
				if size := diskSize(t, w.Dir); size > bound*11/10 {
					t.Errorf("while it comes, the cache takes %d bytes, bound %d", size, bound)
				}
			}
			resp.Body.Close()
			if kind == "disk" {
				if size := diskSize(t, w.Dir); size > 100<<10 {
					t.Errorf("the cache takes %d bytes after all", size)
				}
			}
			// The response that was stored before is still there.
			w.WantGet("200 small | hit", "/small")
		})
	}
}

// diskSize adds up the files below dir as a file system with blocks of 4 KiB
// stores them.
func diskSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				size += (info.Size() + 4095) &^ 4095
			}
		}
		return nil
	})
	return size
}

func TestDiskIsBounded(t *testing.T) {
	const bound = 4 << 20
	w := harness.NewWorld(t, func(t *testing.T) (store.Store, string) {
		dir := filepath.Join(t.TempDir(), "cache")
		return harness.OpenDisk(t, dir, store.DiskOptions{MaxBytes: bound}), dir
	}, harness.ServeLoopback)
	w.Handle(harness.Always(200, strings.Repeat("x", 100_000), "Cache-Control", "max-age=60"))
	for i := range 150 {
		w.Get(fmt.Sprintf("/%d", i))
	}
	if size := diskSize(t, w.Dir); size > bound*11/10 || size < bound/2 {
		t.Errorf("150 responses of 100 kB take %d bytes with a bound of %d", size, bound)
	}
	if s := w.Transport.Stats(); s.Evictions == 0 || s.Stored != 150 {
		t.Errorf("Stats: %+v", s)
	}
	if r := w.Get("/149"); !r.Status.Hit {
		t.Errorf("the latest is gone: %v", r.Status)
	}
}

func TestStaleIfErrorHoldsForEveryFailure(t *testing.T) {
	failures := []struct {
		name string
		fail func(w *harness.World)
		want string
	}{
		{"unreachable", func(w *harness.World) { w.TakeDown() }, "200 good | fwd=stale; detail=stale-if-error"},
		{"500", func(w *harness.World) { w.Handle(harness.Always(500, "bad")) }, "200 good | fwd=stale; fwd-status=500; detail=stale-if-error"},
		{"503", func(w *harness.World) { w.Handle(harness.Always(503, "bad")) }, "200 good | fwd=stale; fwd-status=503; detail=stale-if-error"},
		{"503 that may be stored", func(w *harness.World) {
			w.Handle(harness.Always(503, "bad", "Cache-Control", "max-age=60, stale-if-error=0"))
		}, "200 good | fwd=stale; fwd-status=503; detail=stale-if-error"},
		{"hangs up", func(w *harness.World) {
			w.Handle(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		}, "200 good | fwd=stale; detail=stale-if-error"},
	}
	for _, failure := range failures {
		t.Run(failure.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=0, stale-if-error=1000", "ETag", `"1"`))
				w.Get("/")
				failure.fail(w)
				for range 2 {
					w.WantGet(failure.want, "/")
				}
			})
		})
	}
}

func TestVariantsLiveSideBySide(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, "in "+r.Header.Get("Accept-Language"), "Cache-Control", "max-age=60", "Vary", "Accept-Language")
		})
		for i := range 8 {
			language := []string{"de", "en"}[i%2]
			harness.Check(w, "body", w.Get("/", "Accept-Language", language).Body, "in "+language)
		}
		harness.Check(w, "requests to the origin", len(w.Asked()), 2)
	})
}

// signer adds a credential below the cache, as oauth2.Transport does.
type signer struct {
	base  http.RoundTripper
	mu    sync.Mutex
	token string
}

func (s *signer) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	token := s.token
	s.mu.Unlock()
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+token)
	return s.base.RoundTrip(req)
}

func (s *signer) switchTo(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
}

func TestSwitchedCredentialsBelow(t *testing.T) {
	whose := func(vary bool) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			body := "for " + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer credential-of-")
			if vary {
				rw.Header().Set("Vary", "Authorization")
			}
			harness.Tagged(`"`+body[4:]+`"`, body, "Cache-Control", "max-age=60, stale-while-revalidate=60, stale-if-error=60")(rw, r)
		}
	}
	for _, vary := range []bool{true, false} {
		t.Run(fmt.Sprint("Vary ", vary), func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				below := &signer{base: w.Transport.Base, token: "credential-of-alice"}
				w.Transport.Base = below
				w.Handle(whose(vary))
				w.WantGet("200 for alice | fwd=uri-miss; fwd-status=200; stored", "/")
				// The cache cannot know for which user it is; the origin can.
				w.WantGet("200 for alice | fwd=stale; fwd-status=304; stored; detail=credentials", "/")
				below.switchTo("credential-of-bob")
				w.WantGet("200 for bob | fwd=stale; fwd-status=200; stored; detail=credentials", "/")
				w.WantGet("200 for bob | fwd=stale; fwd-status=304; stored; detail=credentials", "/")
				below.switchTo("credential-of-alice")
				w.WantGet("200 for alice | fwd=stale; fwd-status=200; stored; detail=credentials", "/")
				for _, control := range []string{"only-if-cached", "only-if-cached, max-stale"} {
					if r := w.Get("/", "Cache-Control", control); r.Code != 504 {
						w.Errorf("with %s: %v", control, r)
					}
				}
				below.switchTo("credential-of-bob")
				w.Transport.StaleIfError = time.Hour
				w.Handle(harness.Always(503, "sorry"))
				if r := w.Get("/"); r.Body != "sorry" {
					w.Errorf("when the origin fails: %v", r)
				}
			})
		})
		t.Run(fmt.Sprint("with Identity, Vary ", vary), func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				below := &signer{base: w.Transport.Base, token: "credential-of-alice"}
				w.Transport.Base = below
				w.Transport.Identity = func(*http.Request) string {
					below.mu.Lock()
					defer below.mu.Unlock()
					return below.token
				}
				w.Handle(whose(vary))
				w.WantGet("200 for alice | fwd=uri-miss; fwd-status=200; stored", "/")
				w.WantGet("200 for alice | hit", "/")
				below.switchTo("credential-of-bob")
				w.WantGet("200 for bob | fwd=uri-miss; fwd-status=200; stored", "/")
				w.WantGet("200 for bob | hit", "/")
				below.switchTo("credential-of-alice")
				w.WantGet("200 for alice | hit", "/")
			})
		})
	}
}

func TestConcurrentStrangersBelow(t *testing.T) {
	// Credentials that differ below the cache must not meet in one download
	// either.
	harness.EachWorld(t, func(w *harness.World) {
		type user struct{}
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			name := req.Context().Value(user{}).(string)
			return (&signer{base: base, token: "credential-of-" + name}).RoundTrip(req)
		})
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Millisecond)
			harness.Answer(rw, 200, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer credential-of-"), "Cache-Control", "max-age=60")
		})
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				name := fmt.Sprint("user-", i)
				req := w.Request("GET", "/")
				r, err := w.Try(req.WithContext(context.WithValue(req.Context(), user{}, name)))
				if err != nil || r.Body != name {
					w.Errorf("%s got %v, %v", name, r, err)
				}
			})
		}
		group.Wait()
	})
}

func TestCallersOwnConditionIsNotStored(t *testing.T) {
	for _, control := range []string{"max-age=60", "max-age=0", ""} {
		t.Run(control, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if control != "" {
						rw.Header().Set("Cache-Control", control)
					}
					harness.Tagged(`"1"`, "one")(rw, r)
				})
				for range 2 {
					w.WantGet("304  | fwd=uri-miss; fwd-status=304; detail=status", "/", "If-None-Match", `"1"`)
				}
				w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/")
				if control == "max-age=60" {
					w.WantGet("304  | hit", "/", "If-None-Match", `"0", W/"1"`)
					w.WantGet("200 one | hit", "/", "If-None-Match", `"0"`)
					w.WantGet("200 one | hit", "/")
				}
			})
		})
	}
}

func TestOneRequestForManyIdenticalOnes(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		all := make(chan struct{})
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			<-all
			harness.Answer(rw, 200, "one", "Cache-Control", "max-age=60")
		})
		var started, done sync.WaitGroup
		for range 20 {
			started.Add(1)
			done.Go(func() {
				started.Done()
				if r, err := w.Try(w.Request("GET", "/")); err != nil || r.Body != "one" {
					w.Errorf("got %v, %v", r, err)
				}
			})
		}
		started.Wait()
		time.Sleep(20 * time.Millisecond) // later callers get a hit
		close(all)
		done.Wait()
		harness.Check(w, "requests to the origin", len(w.Asked()), 1)
	})
}

func TestGetAfterPost(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "before", "Cache-Control", "max-age=60"))
		w.Get("/")
		w.Handle(harness.Tagged(`"2"`, "after", "Cache-Control", "max-age=60"))
		w.Do(w.Request("POST", "/"))
		w.WantGet("200 after | fwd=stale; fwd-status=200; stored; detail=invalidated", "/")
		w.WantGet("200 after | hit", "/")
	})
}

func TestNotModifiedDoesNotRelabelContent(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, "content")
	z.Close()
	origin := func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("Cache-Control", "max-age=0")
		h.Set("Vary", "Accept-Encoding")
		h.Set("ETag", `"z"`)
		h.Set("Content-Encoding", "gzip")
		if r.Header.Get("If-None-Match") != "" {
			h.Set("X-Count", "second")
			h.Set("Content-Type", "text/x-new")
			h.Set("Content-Length", "12345")
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("X-Count", "first")
		rw.Write(zipped.Bytes())
	}
	for _, test := range []struct {
		name             string
		fields           []string
		body             string
		coding, length   string
		resultsInALength int64
	}{
		{"decompressed unseen", nil, "content", "", "", -1},
		{"asked for", []string{"Accept-Encoding", "gzip"}, zipped.String(), "gzip", fmt.Sprint(zipped.Len()), int64(zipped.Len())},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(origin)
				for _, want := range []string{"first", "second", "second"} {
					r := w.Get("/", test.fields...)
					harness.Check(w, "body", r.Body, test.body)
					harness.Check(w, "X-Count", r.Header.Get("X-Count"), want)
					harness.Check(w, "Content-Encoding", r.Header.Get("Content-Encoding"), test.coding)
					harness.Check(w, "Content-Length", r.Header.Get("Content-Length"), test.length)
					harness.Check(w, "resp.ContentLength", r.Response.ContentLength, test.resultsInALength)
				}
			})
		})
	}
}

func TestRefreshOutlivesItsCaller(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=10, stale-while-revalidate=100"))
		w.Get("/")
		time.Sleep(20 * time.Second)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			harness.Tagged(`"2"`, "two", "Cache-Control", "max-age=100")(rw, r)
		})
		ctx, cancel := context.WithCancel(context.Background())
		w.WantDo("200 one | hit; detail=stale-while-revalidate", w.Request("GET", "/").WithContext(ctx))
		cancel()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		w.WantGet("200 two | hit", "/")
	})
}

func TestFlippedByteIsNeverServed(t *testing.T) {
	for _, size := range testtier.Pick([]int{20, 100_000}, []int{20, 5_000, 100_000, 300_000}) {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			body := strings.Repeat("0123456789", size/10)
			for i := range 6 {
				w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
				w.Handle(harness.Tagged(`"1"`, body, "Cache-Control", "max-age=60", "X-Field", "value"))
				for path := range 2 {
					w.Get(fmt.Sprint("/", path))
				}
				flipped := 0
				filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						b, err := os.ReadFile(path)
						if err == nil && len(b) > 0 {
							b[(len(b)-1)*i/5] ^= 0x10
							flipped++
							err = os.WriteFile(path, b, 0o600)
						}
						if err != nil {
							t.Error(err)
						}
					}
					return nil
				})
				if flipped < 2 {
					t.Fatalf("only %d files", flipped)
				}
				for _, disk := range []*store.Disk{nil, harness.OpenDisk(t, w.Dir, store.DiskOptions{})} {
					if disk != nil { // as another process
						w.Client = (&cachetrip.Transport{Store: disk, Base: w.Transport.Base}).Client()
					}
					for path := range 2 {
						r, err := w.Try(w.Request("GET", fmt.Sprint("/", path)))
						switch {
						case err != nil && size <= 64<<10:
							t.Errorf("byte %d/5: %v", i, err)
						case err == nil && (r.Body != body || r.Header.Get("X-Field") != "value"):
							t.Errorf("byte %d/5: %d bytes of body, X-Field %q", i, len(r.Body), r.Header.Get("X-Field"))
						case err != nil && !strings.HasPrefix(body, r.Body):
							t.Errorf("byte %d/5: wrong bytes before %v", i, err)
						}
						// The damaged entry is replaced.
						if r := w.Get(fmt.Sprint("/", path)); r.Body != body {
							t.Errorf("byte %d/5, again: %d bytes of body", i, len(r.Body))
						}
					}
				}
			}
		})
	}
}

func TestNoCredentialRests(t *testing.T) {
	for _, vary := range []string{"", "Authorization, Cookie, Proxy-Authorization, X-Api-Key"} {
		t.Run(vary, func(t *testing.T) {
			w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				if vary != "" {
					rw.Header().Set("Vary", vary)
				}
				harness.Tagged(`"1"`, "content", "Cache-Control", "max-age=60")(rw, r)
			})
			requests := func() []*http.Request {
				withPassword := w.Request("GET", "/")
				withPassword.URL.User = nil
				password := *w.Request("GET", "/").URL
				password.Host = "user:password-in-the-url@" + password.Host
				inURL, err := http.NewRequest("GET", password.Scheme+"://"+password.Host+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				return []*http.Request{
					w.Request("GET", "/", "Authorization", "Bearer credential-that-does-not-rest"),
					w.Request("GET", "/", "Cookie", "session=cookie-that-does-not-rest"),
					w.Request("GET", "/", "Proxy-Authorization", "Bearer proxy-credential-that-does-not-rest"),
					w.Request("GET", "/", "Authorization", "Bearer one-more-credential", "Cookie", "session=one-more-cookie; other=yet-one-more-cookie"),
					inURL,
					w.Request("POST", "/", "Authorization", "Bearer credential-of-a-post"),
					w.Request("GET", "/", "Authorization", "Bearer credential-of-no-store", "Cache-Control", "no-store"),
				}
			}
			for range 2 {
				for _, req := range requests() {
					if r := w.Do(req); r.Code != 200 {
						t.Errorf("got %v", r)
					}
				}
			}
			seen := make(map[string]bool)
			for _, r := range w.Asked() {
				for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
					seen[r.Header.Get(name)] = true
				}
			}
			if len(seen) < 7 {
				t.Errorf("the origin saw only %d credentials: %v", len(seen), seen)
			}
			// The world searches for all of them when the test ends.
		})
	}
}

// This measures total allocations, not memory in use, and pools forget on
// purpose under the race detector. So it only shows that a body is never held
// as a whole. examples/large shows more.
func TestMemoryDoesNotGrowWithTheBody(t *testing.T) {
	const size = 16 << 20
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	piece := bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16)
	w.Handle(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=60")
		for range size / len(piece) {
			rw.Write(piece)
		}
	})
	w.Get("/warm-up?") // pools, connections
	for _, want := range []string{"miss", "hit"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		resp, err := w.Client.Do(w.Request("GET", "/"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil || n != size {
			t.Errorf("%s: %d bytes, %v", want, n, err)
		}
		runtime.ReadMemStats(&after)
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size {
			t.Errorf("%s: %d bytes allocated for a body of %d", want, allocated, size)
		}
		harness.Check(t, want, cachetrip.StatusOf(resp).Hit, want == "hit")
	}
}
