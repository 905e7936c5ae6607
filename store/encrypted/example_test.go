package encrypted_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/encrypted"
)

// The inner store holds nothing that can be read without the key. A program
// that keeps its cache on disk uses [store.OpenDisk] for it.
func ExampleNew() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()

	key := make([]byte, encrypted.KeySize) // from the system's keyring, say
	rand.Read(key)
	inner := store.NewMemory(10 << 20)
	sealed, err := encrypted.New(inner, key)
	if err != nil {
		log.Fatal(err)
	}
	cache := &cachetrip.Transport{Store: sealed}
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
	for entry, err := range inner.All(context.Background(), "") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("the URL shows:", strings.Contains(entry.URL, origin.URL))
	}
	// Output:
	// hello, hit: false
	// hello, hit: true
	// the URL shows: false
}
