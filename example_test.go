package cachetrip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// A program that keeps its cache in a directory, and finds it there the next
// time.
func ExampleOpen() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	dir, err := os.MkdirTemp("", "cachetrip")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	for range 2 { // as if the program were run twice
		cache, err := cachetrip.Open(dir)
		if err != nil {
			log.Fatal(err)
		}
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			log.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Printf("%s, hit: %t\n", body, cachetrip.StatusOf(resp).Hit)
		if err := cache.Close(); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// hello, hit: false
	// hello, hit: true
}

// A Transport may be written as a literal, here with a cache in memory, and be
// the transport of any client.
func ExampleTransport() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()

	cache := &cachetrip.Transport{
		Store: store.NewMemory(10 << 20), // bytes
		Base:  http.DefaultTransport,
	}
	defer cache.Close()
	client := &http.Client{Transport: cache, Timeout: 10 * time.Second}

	for range 3 {
		if _, err := read(client.Get(origin.URL)); err != nil {
			log.Fatal(err)
		}
	}
	stats := cache.Stats()
	fmt.Println("requests:", stats.Requests, "hits:", stats.Hits, "misses:", stats.Misses)
	// Output:
	// requests: 3 hits: 2 misses: 1
}

// A Policy tells GraphQL queries from mutations by the text of the request. A
// text that has the word "mutation" anywhere counts as one.
func ExamplePolicy_graphQL() {
	asked := 0
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		fmt.Fprint(w, `{"data":{"answer":42}}`)
	}))
	defer api.Close()
	cache := &cachetrip.Transport{
		Store: store.NewMemory(1 << 20),
		Policy: func(req *http.Request) cachetrip.Policy {
			if req.Method != http.MethodPost || req.URL.Path != "/graphql" || req.GetBody == nil {
				return cachetrip.Policy{}
			}
			body, err := req.GetBody() // leaves the body itself unread
			if err != nil {
				return cachetrip.Policy{}
			}
			defer body.Close()
			var operation struct{ Query string }
			err = json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&operation)
			if err != nil || operation.Query == "" || strings.Contains(operation.Query, "mutation") {
				return cachetrip.Policy{}
			}
			return cachetrip.Policy{CacheContent: true, TTL: time.Minute}
		},
	}
	defer cache.Close()
	for _, query := range []string{`query { answer }`, `query { answer }`, `mutation { forget }`, `query { answer }`} {
		content, err := json.Marshal(map[string]string{"query": query})
		if err != nil {
			log.Fatal(err)
		}
		resp, err := cache.Client().Post(api.URL+"/graphql", "application/json", bytes.NewReader(content))
		if err != nil {
			log.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		status := cachetrip.StatusOf(resp)
		fmt.Printf("%s: hit %v, detail %q\n", query, status.Hit, status.Detail)
	}
	fmt.Println("requests:", asked)
	// Output:
	// query { answer }: hit false, detail ""
	// query { answer }: hit true, detail "policy-ttl"
	// mutation { forget }: hit false, detail ""
	// query { answer }: hit false, detail "invalidated"
	// requests: 3
}

// A client library that takes a context but no header can still be told how
// fresh its answers have to be.
func ExampleWithCacheControl() {
	edition := 0
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		edition++
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprintf(w, "edition %d", edition)
	}))
	defer origin.Close()

	cache := &cachetrip.Transport{Store: store.NewMemory(10 << 20)}
	defer cache.Close()
	library := func(ctx context.Context) string { // somebody else's code
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin.URL, nil)
		if err != nil {
			log.Fatal(err)
		}
		body, err := read(cache.Client().Do(req))
		if err != nil {
			log.Fatal(err)
		}
		return body
	}

	ctx := context.Background()
	fmt.Println(library(ctx))
	fmt.Println(library(ctx))
	fmt.Println(library(cachetrip.WithCacheControl(ctx, "no-cache")), "after no-cache")
	// Output:
	// edition 1
	// edition 1
	// edition 2 after no-cache
}

// Cache-Status says in words what the cache did, and StatusOf says it in
// fields.
func ExampleStatusOf() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()

	cache := &cachetrip.Transport{Store: store.NewMemory(10 << 20)}
	defer cache.Close()
	for range 2 {
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		status := cachetrip.StatusOf(resp)
		fmt.Printf("status %d, forwarded because of %s, answered %d, stored response confirmed: %t\n",
			resp.StatusCode, status.Fwd, status.FwdStatus, status.Revalidated)
	}
	// Output:
	// status 200, forwarded because of uri-miss, answered 200, stored response confirmed: false
	// status 200, forwarded because of stale, answered 304, stored response confirmed: true
}

// An origin that says nothing about caching can be given a lifetime.
func ExampleTransport_modifyResponse() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()

	cache := &cachetrip.Transport{
		Store: store.NewMemory(10 << 20),
		ModifyResponse: func(resp *http.Response) error {
			if resp.StatusCode == http.StatusOK && resp.Header.Get("Cache-Control") == "" {
				resp.Header.Set("Cache-Control", "max-age=60")
			}
			return nil
		},
	}
	defer cache.Close()
	for range 2 {
		if _, err := read(cache.Client().Get(origin.URL)); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("hits:", cache.Stats().Hits)
	// Output:
	// hits: 1
}

// read returns the body of a response.
func read(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// Explain says what the next request would do, without making it.
func ExampleTransport_Explain() {
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	defer cache.Close()

	req, err := http.NewRequest(http.MethodGet, "https://example.com/", nil)
	if err != nil {
		log.Fatal(err)
	}
	explained, err := cache.Explain(req)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(explained.Action)
	fmt.Println(explained)
	// Output:
	// fetch
	// Nothing is stored for this URL. The cache keeps no record of responses that it did not store.
	// The next request asks the origin for the whole response.
}

// A hook in the context of one request tells why its response was not stored.
func ExampleWithTrace() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	defer cache.Close()

	ctx := cachetrip.WithTrace(context.Background(), &cachetrip.Trace{
		Miss:      func(info cachetrip.AnswerInfo) { fmt.Println("miss:", info.Status.Fwd) },
		NotStored: func(info cachetrip.StoreInfo) { fmt.Println("not stored:", info.Reason) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, origin.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := cache.Client().Do(req)
	if err != nil {
		log.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	// Output:
	// not stored: no-store
	// miss: uri-miss
}

// Invalidate makes the next use of a URL ask the origin. Purge removes what is
// stored for it.
func ExampleTransport_Invalidate() {
	edition := 0
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		edition++
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprintf(w, "edition %d", edition)
	}))
	defer origin.Close()
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	defer cache.Close()
	get := func() {
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			log.Fatal(err)
		}
		body, err := read(resp, nil)
		if err != nil {
			log.Fatal(err)
		}
		status := cachetrip.StatusOf(resp)
		fmt.Printf("%s, hit: %t, forwarded because of %q\n", body, status.Hit, status.Fwd)
	}

	get()
	get()
	ctx := context.Background()
	if err := cache.Invalidate(ctx, origin.URL); err != nil {
		log.Fatal(err)
	}
	get()
	if err := cache.Purge(ctx, origin.URL); err != nil {
		log.Fatal(err)
	}
	get()
	// Output:
	// edition 1, hit: false, forwarded because of "uri-miss"
	// edition 1, hit: true, forwarded because of ""
	// edition 2, hit: false, forwarded because of "stale"
	// edition 3, hit: false, forwarded because of "uri-miss"
}
