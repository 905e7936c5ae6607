// Debug serves the debug page of a cache in use: it fetches a small site on a
// loopback port through the cache.
//
//	go run ./examples/debug
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/debug"
	"github.com/cachetrip/cachetrip/store"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "localhost:0", "serve the page on this `address`")
	flag.Parse()

	cache := &cachetrip.Transport{Store: store.NewMemory(0)}
	defer cache.Close()
	mux := http.NewServeMux()
	mux.Handle("/debug/cache/", debug.New(cache, debug.Options{})) // before the cache is used

	origin := httptest.NewServer(http.HandlerFunc(serve))
	defer origin.Close()
	if err := use(cache.Client(), origin.URL); err != nil {
		log.Fatal(err)
	}

	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s/debug/cache/\n", listener.Addr())
	log.Fatal(http.Serve(listener, mux))
}

// serve is the origin. Its responses are of every kind that a cache treats
// differently.
func serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	switch r.URL.Path {
	case "/style.css":
		h.Set("Cache-Control", "max-age=86400")
	case "/catalogue":
		h.Set("Cache-Control", "no-cache")
		h.Set("Etag", `"17"`)
	case "/hello":
		h.Set("Cache-Control", "max-age=600")
		h.Set("Vary", "Accept-Language")
	case "/account":
		h.Set("Cache-Control", "no-store")
	case "/report":
		h.Set("Cache-Control", "max-age=0, stale-while-revalidate=600")
		h.Set("Last-Modified", time.Now().Add(-48*time.Hour).UTC().Format(http.TimeFormat))
	case "/search":
		h.Set("Cache-Control", "max-age=60")
		h.Set("Set-Cookie", "session=not shown")
	default:
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, r.URL.Path, time.Time{}, strings.NewReader(strings.Repeat("some content\n", 3000)))
}

// use makes some requests.
func use(client *http.Client, site string) error {
	for _, step := range []struct{ path, field, value string }{
		{"/style.css", "", ""},
		{"/style.css", "", ""},
		{"/catalogue", "", ""},
		{"/catalogue", "", ""},
		{"/hello", "Accept-Language", "de"},
		{"/hello", "Accept-Language", "en"},
		{"/hello", "Accept-Language", "de"},
		{"/account", "", ""},
		{"/report", "", ""},
		{"/report", "", ""},
		{"/search?q=shoes&api_key=c0ffee", "", ""},
		{"/search?q=shoes&api_key=c0ffee", "", ""},
		{"/nowhere", "", ""},
		{"/elsewhere", "Cache-Control", "only-if-cached"},
	} {
		req, err := http.NewRequest(http.MethodGet, site+step.path, nil)
		if err != nil {
			return err
		}
		if step.field != "" {
			req.Header.Set(step.field, step.value)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		resp.Body.Close()
	}
	return nil
}
