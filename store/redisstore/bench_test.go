package redisstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

// answers is an origin without a network, so that only the cache is measured.
type answers []byte

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header:        http.Header{"Cache-Control": {"max-age=3600"}, "Etag": {`"1"`}, "Content-Type": {"application/json"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:          io.NopCloser(bytes.NewReader(a)),
		ContentLength: int64(len(a)),
	}, nil
}

// BenchmarkHit compares hits whose body is read to its end: from the server
// with and without the memory of the process, and from disk. It also measures a
// plain GET of the same bytes.
func BenchmarkHit(b *testing.B) {
	server := sharedServer(b)
	for _, size := range []int{1 << 10, 15 << 10, 100 << 10, 1 << 20, 16 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		name := fmt.Sprintf("%dKiB", size>>10)
		for _, kind := range []struct {
			name string
			open func(b *testing.B) store.Store
		}{
			{"memory", func(b *testing.B) store.Store { return open(b, server.url(), patient(redisstore.Options{})) }},
			{"server", func(b *testing.B) store.Store {
				return open(b, server.url(), patient(redisstore.Options{MemoryBytes: -1}))
			}},
			{"disk", func(b *testing.B) store.Store {
				disk, err := store.OpenDisk(b.TempDir(), store.DiskOptions{})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { disk.Close() })
				return disk
			}},
		} {
			b.Run(name+"/"+kind.name, func(b *testing.B) {
				cache := &cachetrip.Transport{Store: kind.open(b), Base: answers(body)}
				req, err := http.NewRequest("GET", "http://origin.test/", nil)
				if err != nil {
					b.Fatal(err)
				}
				get := func() *http.Response {
					resp, err := cache.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, resp.Body); n != int64(size) || err != nil {
						b.Fatalf("%d bytes, %v", n, err)
					}
					resp.Body.Close()
					return resp
				}
				get()
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if !cachetrip.StatusOf(get()).Hit {
						b.Fatal("no hit")
					}
				}
			})
		}
		b.Run(name+"/GET", func(b *testing.B) {
			client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.address()}, DisableCache: true, ForceSingleClient: true, AlwaysPipelining: true})
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			ctx := context.Background()
			if err := client.Do(ctx, client.B().Set().Key("plain").Value(string(body)).Build()).Error(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				got, err := client.Do(ctx, client.B().Get().Key("plain").Build()).AsBytes()
				if err != nil || len(got) != size {
					b.Fatalf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
}

// BenchmarkStore is a miss that is stored.
func BenchmarkStore(b *testing.B) {
	server := sharedServer(b)
	for _, size := range []int{1 << 10, 100 << 10, 4 << 20} {
		for _, where := range []string{"server", "disk"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, where), func(b *testing.B) {
				var s store.Store
				if where == "server" {
					s = open(b, server.url(), patient(redisstore.Options{}))
				} else {
					disk, err := store.OpenDisk(b.TempDir(), store.DiskOptions{})
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { disk.Close() })
					s = disk
				}
				cache := &cachetrip.Transport{Store: s, Base: answers(bytes.Repeat([]byte("x"), size))}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					req, err := http.NewRequest("GET", fmt.Sprintf("http://origin.test/%d", i%20), nil)
					if err != nil {
						b.Fatal(err)
					}
					req.Header.Set("Cache-Control", "no-cache")
					resp, err := cache.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				if stats := cache.Stats(); stats.StoreErrors > 0 {
					b.Errorf("%+v", stats)
				}
			})
		}
	}
}
