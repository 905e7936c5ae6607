package cachetrip_test

import (
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// A small tool keeps at most 64 MiB. Close also closes the store.
func ExampleOpen_options() {
	dir, err := os.MkdirTemp("", "cachetrip")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Write(make([]byte, 8<<20))
	}))
	defer origin.Close()

	cache, err := cachetrip.Open(dir, store.DiskOptions{MaxBytes: 64 << 20})
	if err != nil {
		log.Fatal(err)
	}
	for i := range 20 { // 160 MiB
		if _, err := read(cache.Client().Get(fmt.Sprint(origin.URL, "/", i))); err != nil {
			log.Fatal(err)
		}
	}
	var kept int64
	for entry, err := range cache.Entries(context.Background(), "") {
		if err != nil {
			log.Fatal(err)
		}
		kept += entry.Length
	}
	if err := cache.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("more than 32 MiB are kept:", kept > 32<<20)
	fmt.Println("more than 64 MiB are kept:", kept > 64<<20)
	// Output:
	// more than 32 MiB are kept: true
	// more than 64 MiB are kept: false
}

// The counters of a cache can be published with expvar, for /debug/vars.
func ExampleTransport_Stats() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	defer cache.Close()
	name := "cache of " + origin.URL // each name can be published once
	expvar.Publish(name, expvar.Func(func() any { return cache.Stats() }))

	for range 3 {
		if _, err := read(cache.Client().Get(origin.URL)); err != nil {
			log.Fatal(err)
		}
	}
	page := httptest.NewServer(expvar.Handler())
	defer page.Close()
	text, err := read(http.Get(page.URL + "/debug/vars"))
	if err != nil {
		log.Fatal(err)
	}
	var vars map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &vars); err != nil {
		log.Fatal(err)
	}
	var stats cachetrip.Stats
	if err := json.Unmarshal(vars[name], &stats); err != nil {
		log.Fatal(err)
	}
	fmt.Println("requests:", stats.Requests, "hits:", stats.Hits, "bytes served:", stats.BytesServed)
	// Output:
	// requests: 3 hits: 2 bytes served: 10
}

// Entries lists what is stored, and Clear removes all of it.
func ExampleTransport_Entries() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	defer cache.Close()
	for _, path := range []string{"/docs/a", "/docs/b", "/news"} {
		if _, err := read(cache.Client().Get(origin.URL + path)); err != nil {
			log.Fatal(err)
		}
	}

	ctx := context.Background()
	list := func(pattern string) (paths []string) {
		for entry, err := range cache.Entries(ctx, pattern) {
			if err != nil {
				log.Fatal(err)
			}
			paths = append(paths, strings.TrimPrefix(entry.URL, origin.URL))
		}
		slices.Sort(paths) // they come in no order
		return paths
	}
	fmt.Println(list("*/docs/*"))
	fmt.Println(list(""))
	if err := cache.Clear(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(list(""))
	// Output:
	// [/docs/a /docs/b]
	// [/docs/a /docs/b /news]
	// []
}
