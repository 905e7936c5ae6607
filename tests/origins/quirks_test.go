package origins_test

import (
	"bytes"
	"compress/gzip"
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

// Common origins, and transports below the cache, that do not behave as the
// RFCs suggest.

// An origin that compares If-None-Match as a text never answers 304 to the tags
// of two variants. It is asked about one, once that is known. A caller's own
// tag is as good as without a cache.
func TestOriginThatComparesTagsAsText(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			tag := `"` + r.Header.Get("Accept-Language") + `"`
			h := rw.Header()
			h.Set("ETag", tag)
			h.Set("Vary", "Accept-Language")
			h.Set("Cache-Control", "no-cache")
			if r.Header.Get("If-None-Match") == tag {
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			fmt.Fprint(rw, "in ", r.Header.Get("Accept-Language"))
		})
		w.Get("/", "Accept-Language", "de")
		w.Get("/", "Accept-Language", "en")
		confirmed := 0
		for range 4 {
			for _, language := range []string{"de", "en"} {
				r := w.Get("/", "Accept-Language", language)
				harness.Check(w, "body", r.Body, "in "+language)
				if r.Status.Revalidated {
					confirmed++
				}
			}
		}
		if confirmed < 7 {
			t.Errorf("%d of 8 are confirmed by a 304, want 7", confirmed)
		}
		w.WantGet("200 in fr | fwd=vary-miss; fwd-status=200; stored", "/", "Accept-Language", "fr")
		w.WantGet("304  | fwd=stale; fwd-status=304; stored; detail=no-cache", "/", "Accept-Language", "fr", "If-None-Match", `"fr"`)
		w.WantGet("200 in fr | fwd=stale; fwd-status=200; stored; detail=no-cache", "/", "Accept-Language", "fr", "If-None-Match", `"other"`)
	})
}

// An origin that reads the list goes on getting all tags, also after a change.
func TestOriginThatReadsTags(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		version := 1
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			language := r.Header.Get("Accept-Language")
			harness.Tagged(fmt.Sprintf(`"%s-%d"`, language, version), "in "+language, "Vary", "Accept-Language", "Cache-Control", "no-cache")(rw, r)
		})
		for version = 1; version <= 2; version++ {
			w.Get("/", "Accept-Language", "de")
			w.Get("/", "Accept-Language", "en")
		}
		version = 2
		w.Asked()
		w.WantGet("200 in de | fwd=stale; fwd-status=304; stored; detail=no-cache", "/", "Accept-Language", "de")
		w.WantAsked([]string{"If-None-Match"}, `GET / If-None-Match: "de-2", "en-2"`)
	})
}

// gzips answers with the text, in gzip if the request accepts that.
func gzips(text string, fields ...string) http.HandlerFunc {
	var coded bytes.Buffer
	z := gzip.NewWriter(&coded)
	io.WriteString(z, text)
	z.Close()
	return func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		for i := 0; i < len(fields); i += 2 {
			h.Set(fields[i], fields[i+1])
		}
		h.Set("Vary", "Accept-Encoding")
		content := []byte(text)
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			h.Set("ETag", `"text-gzip"`)
			content = coded.Bytes()
		} else {
			h.Set("ETag", `"text"`)
		}
		if strings.Contains(r.Header.Get("If-None-Match"), h.Get("ETag")) {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(content)))
		rw.Write(content)
	}
}

// A response that net/http has decoded lacks the length for a HEAD. The origin
// tells it, and the stored GET stays as it is.
func TestHeadAfterDecodedGet(t *testing.T) {
	text := strings.Repeat("text ", 200)
	for _, modified := range []string{"", "Mon, 02 Jan 2006 15:04:05 GMT"} {
		harness.EachWorld(t, func(w *harness.World) {
			fields := []string{"Cache-Control", "max-age=60"}
			if modified != "" {
				fields = append(fields, "Last-Modified", modified)
			}
			w.Handle(gzips(text, fields...))
			harness.Check(w, "a GET", w.Get("/").Body, text)
			for range 2 {
				w.Asked()
				r := w.Do(w.Request("HEAD", "/"))
				harness.Check(w, "the HEAD", r.String(), "200  | fwd=partial; fwd-status=200; detail=decoded")
				harness.Check(w, "its length", r.Response.ContentLength, int64(len(text)))
				harness.Check(w, "its Content-Length", r.Header.Get("Content-Length"), strconv.Itoa(len(text)))
				harness.Check(w, "its tag", r.Header.Get("ETag"), `"text"`)
				w.WantAsked(nil, "HEAD /")
				w.WantGet("200 "+text+" | hit", "/")
			}
			// A later date shows that the GET is not current any more.
			if modified != "" {
				w.Handle(gzips(text+"!", "Cache-Control", "max-age=60", "Last-Modified", "Tue, 03 Jan 2006 15:04:05 GMT"))
				w.Do(w.Request("HEAD", "/"))
				harness.Check(w, "a GET after a change", w.Get("/").Status.Fwd, "stale")
			}
		})
	}
}

// decodes is a transport that requests gzip and decodes, like transports that
// know more codings than net/http.
func decodes(base http.RoundTripper) http.RoundTripper {
	return harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Accept-Encoding") != "" {
			return base.RoundTrip(req)
		}
		req = req.Clone(req.Context())
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := base.RoundTrip(req)
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" || resp.StatusCode == http.StatusNotModified {
			return resp, err
		}
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, err
		}
		resp.Body = struct {
			io.Reader
			io.Closer
		}{z, resp.Body}
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
		return resp, nil
	})
}

// An Accept-Encoding that is added below the cache does not identify a user, if
// the response is also decoded there.
func TestDecodingBelow(t *testing.T) {
	text := strings.Repeat("text ", 200)
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(gzips(text, "Cache-Control", "max-age=60", "Accept-Ranges", "bytes"))
		w.Transport.Base = decodes(w.Transport.Base)
		w.WantGet("200 "+text+" | fwd=uri-miss; fwd-status=200; stored", "/")
		w.WantGet("200 "+text+" | hit", "/")
		w.WantGet("200 "+text+" | fwd=request; fwd-status=304; stored; detail=no-cache", "/", "Cache-Control", "no-cache")
		w.WantGet("200 "+text+" | hit", "/")
		harness.Check(w, "the length that a HEAD tells", w.Do(w.Request("HEAD", "/", "Accept-Encoding", "identity")).Response.ContentLength, int64(len(text)))

		// Callers that ask for the coding get it, or the text, which suits them
		// as well.
		for range 2 {
			r := w.Get("/", "Accept-Encoding", "gzip")
			if r.Header.Get("Content-Encoding") != "gzip" {
				harness.Check(w, "what was asked for in gzip", r.Body, text)
				continue
			}
			z, err := gzip.NewReader(strings.NewReader(r.Body))
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(z)
			harness.Check(w, "what came in gzip", string(body), text)
		}
		w.WantGet("200 "+text+" | hit", "/")
		w.WantGet("200 "+text+" | fwd=vary-miss; fwd-status=200; stored", "/", "Accept-Encoding", "identity")

		// A credential that is added below as well counts as ever.
		base := w.Transport.Base
		other := &cachetrip.Transport{Store: w.Store, Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			req = req.Clone(req.Context())
			req.Header.Set("X-Api-Key", "key-added-below")
			return base.RoundTrip(req)
		})}
		w.Client.Transport = other
		w.Get("/other")
		harness.Check(w, "a hit with another's key", w.Get("/other").Status.Hit, false)
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A transport that asks for a coding but does not decode leaves the response
// coded: that is not for all.
func TestCodingAskedForBelow(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(gzips("text", "Cache-Control", "max-age=60"))
		base, asks := w.Transport.Base, true
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			if asks {
				req = req.Clone(req.Context())
				req.Header.Set("Accept-Encoding", "gzip")
			}
			return base.RoundTrip(req)
		})
		harness.Check(w, "coded", w.Get("/").Header.Get("Content-Encoding"), "gzip")
		asks = false
		harness.Check(w, "the body without that", w.Get("/").Body, "text")
	})
}

// Directives from a context are sent, so they count if Vary names
// Cache-Control.
func TestDirectivesSelect(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, strings.Join(r.Header["Cache-Control"], ", "), "Cache-Control", "max-age=60", "Vary", "Cache-Control")
		})
		get := func(directives string, fields ...string) string {
			req := w.Request("GET", "/", fields...)
			if directives != "" {
				req = req.WithContext(cachetrip.WithCacheControl(req.Context(), directives))
			}
			return w.Do(req).String()
		}
		harness.Check(w, "none", get(""), "200  | fwd=uri-miss; fwd-status=200; stored")
		harness.Check(w, "one", get("max-age=50"), "200 max-age=50 | fwd=vary-miss; fwd-status=200; stored")
		harness.Check(w, "another", get("max-age=40"), "200 max-age=40 | fwd=vary-miss; fwd-status=200; stored")
		harness.Check(w, "one again", get("max-age=50"), "200 max-age=50 | hit")
		harness.Check(w, "the same in the header", get("", "Cache-Control", "max-age=50"), "200 max-age=50 | hit")
		harness.Check(w, "both", get("max-age=50", "Cache-Control", "x"), "200 x, max-age=50 | fwd=vary-miss; fwd-status=200; stored")
		harness.Check(w, "both again", get("max-age=50", "Cache-Control", "x"), "200 x, max-age=50 | hit")
		harness.Check(w, "none again", get(""), "200  | hit")
	})
}

// max-age=0 asks although no time has passed, as in a bubble none does.
func TestMaxAgeZeroAlwaysAsks(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "x", "Cache-Control", "max-age=60"))
		start := time.Now()
		w.Get("/")
		for range 3 {
			w.WantGet("200 x | fwd=request; fwd-status=304; stored; detail=max-age", "/", "Cache-Control", "max-age=0")
			w.WantGet("200 x | hit", "/")
		}
		harness.Check(w, "time that has passed", time.Since(start), time.Duration(0))

		// Nor is a response served stale that is to be stale at once.
		w.Handle(harness.Tagged(`"1"`, "x", "Cache-Control", "max-age=0, stale-while-revalidate=0, stale-if-error=0"))
		w.Get("/stale")
		w.WantGet("200 x | fwd=stale; fwd-status=304; stored", "/stale")
		w.WantGet("200 x | fwd=stale; fwd-status=304; stored", "/stale", "Cache-Control", "max-stale=0")
	})
}
