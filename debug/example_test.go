package debug_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/debug"
	"github.com/cachetrip/cachetrip/store"
)

// The page is served beside a program's own pages, to the machine that the
// program runs on.
func ExampleNew() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()

	cache := &cachetrip.Transport{Store: store.NewMemory(10 << 20)}
	defer cache.Close()
	mux := http.NewServeMux()
	mux.Handle("/debug/cache/", debug.New(cache, debug.Options{})) // before cache is used
	server := httptest.NewServer(mux)
	defer server.Close()

	resp, err := cache.Client().Get(origin.URL)
	if err != nil {
		log.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()

	page, err := http.Get(server.URL + "/debug/cache/")
	if err != nil {
		log.Fatal(err)
	}
	defer page.Body.Close()
	fmt.Println(page.Status, page.Header.Get("Content-Type"))
	// Output:
	// 200 OK text/html; charset=utf-8
}
