package contract_test

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// A QUERY, or a POST by Policy.CacheContent, that the cache does not answer
// reaches the origin as it is.

// TestQueryNoStore sends content that must not be stored, and that can be read
// only once.
func TestQueryNoStore(t *testing.T) {
	eachContentMethod(t, func(w *harness.World, method string) {
		w.Handle(echo("Cache-Control", "max-age=60"))
		for _, length := range []int64{-1, 0, 3} {
			req, body := query(w, method, "/", "abc", false, "Cache-Control", "no-store")
			req.ContentLength = length
			w.WantDo("200 3 abc | fwd=request; fwd-status=200; detail=no-store", req)
			harness.Check(w, "closed", body.closed.Load(), int32(1))
		}
	})
}

// TestQueryWithoutSecret sends content while the store has no secret to make
// keys with.
func TestQueryWithoutSecret(t *testing.T) {
	s := storefault.Wrap(store.NewMemory(1 << 20))
	s.Inject(storefault.Fail(nil), storefault.Secret)
	w := harness.NewWorld(t, func(*testing.T) (store.Store, string) { return s, "" }, harness.ServeLoopback)
	w.Handle(echo("Cache-Control", "max-age=60"))
	req, _ := query(w, "QUERY", "/", "abc", false)
	w.WantDo("200 3 abc | fwd=bypass; fwd-status=200; detail=store-error", req)
}

// TestQueryGetBodyFails tests a GetBody that net/http alone would not have
// called.
func TestQueryGetBodyFails(t *testing.T) {
	for name, getBody := range map[string]func() (io.ReadCloser, error){
		"error":  func() (io.ReadCloser, error) { return nil, io.ErrUnexpectedEOF },
		"panic":  func() (io.ReadCloser, error) { panic("no") },
		"goexit": func() (io.ReadCloser, error) { runtime.Goexit(); return nil, nil },
		"panic later": func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("a"), panicking{})), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachContentMethod(t, func(w *harness.World, method string) {
				w.Handle(echo("Cache-Control", "max-age=60"))
				req, body := query(w, method, "/", "abc", true)
				req.GetBody = getBody
				w.WantDo("200 3 abc | fwd=bypass; fwd-status=200; detail=content-unknown", req)
				harness.Check(w, "closed", body.closed.Load(), int32(1))
			})
		})
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("no") }

// TestQueryTrailer sends content with a trailer.
func TestQueryTrailer(t *testing.T) {
	eachContentMethod(t, func(w *harness.World, method string) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			content, _ := io.ReadAll(r.Body)
			harness.Answer(rw, 200, fmt.Sprintf("%s %s", content, r.Trailer.Get("Sum")), "Cache-Control", "max-age=60")
		})
		for _, getBody := range []bool{true, false} {
			req, _ := query(w, method, "/", "abc", getBody)
			req.ContentLength, req.Trailer = -1, http.Header{"Sum": {"6"}}
			w.WantDo("200 abc 6 | fwd=bypass; fwd-status=200; detail=content-unknown", req)
		}
	})
}
