package cachetrip

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// The hot paths as callers take them: with deadlines, and many at a time.

// benchDeadlines are the ways in which callers limit a request. Most programs
// have one of them.
var benchDeadlines = []struct {
	name   string
	client func(rt http.RoundTripper) func(*http.Request) (*http.Response, error)
}{
	{"none", func(rt http.RoundTripper) func(*http.Request) (*http.Response, error) { return rt.RoundTrip }},
	{"context", func(rt http.RoundTripper) func(*http.Request) (*http.Response, error) {
		return func(req *http.Request) (*http.Response, error) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			resp, err := rt.RoundTrip(req.WithContext(ctx))
			if err != nil {
				cancel()
				return nil, err
			}
			resp.Body = &cancelBody{resp.Body, cancel}
			return resp, nil
		}
	}},
	{"client", func(rt http.RoundTripper) func(*http.Request) (*http.Response, error) {
		return (&http.Client{Transport: rt, Timeout: time.Minute}).Do
	}},
}

// cancelBody releases the context of its request when it is closed.
type cancelBody struct {
	io.ReadCloser
	cancel func()
}

func (b *cancelBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// BenchmarkDeadline is a hit, a 304 and a miss of 1 KiB, each with and without
// a deadline. The memory store shows best what a deadline costs.
func BenchmarkDeadline(b *testing.B) {
	const size = 1 << 10
	for _, path := range []struct{ name, cacheControl string }{
		{"hit", "private, max-age=3600"}, {"304", "private, no-cache"}, {"miss", "private, max-age=3600"},
	} {
		for _, s := range benchStores {
			for _, deadline := range benchDeadlines {
				b.Run("path="+path.name+"/store="+s.name+"/deadline="+deadline.name, func(b *testing.B) {
					origin := &benchOrigin{body: benchBody(size), cacheControl: path.cacheControl}
					t := &Transport{Store: s.open(b), Base: origin}
					do, buf := roundTripperFunc(deadline.client(t)), make([]byte, 2*size)
					req := benchRequest(b, "http://example.com/v1/items/42")
					benchGet(b, do, req, buf, size)
					time.Sleep(30 * time.Millisecond)
					n := 0
					b.ReportAllocs()
					for b.Loop() {
						if n++; path.name == "miss" {
							req = benchRequest(b, "http://example.com/v1/items/"+strconv.Itoa(n)+"/more")
						}
						benchGet(b, do, req, buf, size)
					}
					if stats := t.Stats(); path.name != "hit" && origin.requests != n+1 || path.name == "hit" && stats.Hits != uint64(n) {
						b.Fatalf("%+v with %d requests at the origin, after %d more", stats, origin.requests, n)
					}
				})
			}
		}
	}
}

// BenchmarkHitZipf is fresh hits by 64 goroutines on 10,000 entries, of which a
// hundredth gets two thirds of the requests.
func BenchmarkHitZipf(b *testing.B) {
	const size, entries, goroutines = 4 << 10, 10_000, 64
	for _, s := range benchStores {
		b.Run("store="+s.name, func(b *testing.B) {
			origin := &benchOrigin{body: benchBody(size), cacheControl: "private, max-age=3600"}
			t := &Transport{Store: s.open(b), Base: origin}
			reqs, buf := make([]*http.Request, entries), make([]byte, size)
			for i := range reqs {
				reqs[i] = benchRequest(b, fmt.Sprint("http://example.com/v1/items/", i))
				benchGet(b, t, reqs[i], buf, size)
			}
			time.Sleep(30 * time.Millisecond)
			b.ReportAllocs()
			b.SetParallelism(goroutines / 2)
			var clients atomic.Uint64
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				zipf := rand.NewZipf(rand.New(rand.NewPCG(clients.Add(1), 1)), 1.1, 1, entries-1)
				buf := make([]byte, size)
				for pb.Next() {
					req := *reqs[zipf.Uint64()]
					benchGet(b, t, &req, buf, size)
				}
			})
			if origin.requests != entries {
				b.Fatalf("the origin was asked %d times", origin.requests)
			}
		})
	}
}
