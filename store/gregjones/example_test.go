package gregjones_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store/gregjones"
)

// mapCache stands for a cache that was made for github.com/gregjones/httpcache.
type mapCache struct{ values sync.Map }

func (c *mapCache) Get(key string) ([]byte, bool) {
	value, ok := c.values.Load(key)
	if !ok {
		return nil, false
	}
	return value.([]byte), true
}

func (c *mapCache) Set(key string, value []byte) { c.values.Store(key, value) }
func (c *mapCache) Delete(key string)            { c.values.Delete(key) }

// A program that used github.com/gregjones/httpcache keeps the cache that it
// has.
func ExampleNew() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()

	cache := &cachetrip.Transport{Store: gregjones.New(&mapCache{}, gregjones.Options{})}
	defer cache.Close()

	for range 2 {
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
	}
	// Output:
	// hello, hit: false
	// hello, hit: true
}
