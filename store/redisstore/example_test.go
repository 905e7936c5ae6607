package redisstore_test

import (
	"log"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

// All replicas of a program that use one server and one prefix share a cache.
// Open succeeds without a server: requests then go to the origin.
func ExampleOpen() {
	shared, err := redisstore.Open("redis://127.0.0.1:6379/0", redisstore.Options{
		Prefix:        "catalogue",
		LookupTimeout: 20 * time.Millisecond,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer shared.Close()
	cache := &cachetrip.Transport{Store: shared}
	defer cache.Close()

	resp, err := cache.Client().Get("https://example.com/")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	log.Println(resp.Status, cachetrip.StatusOf(resp).Hit)
}
