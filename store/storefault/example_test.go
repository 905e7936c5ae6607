package storefault_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"syscall"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// A program must work even if its cache does not. Here the disk is full:
// nothing is stored, and each request gets its response from the origin.
func Example() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	defer origin.Close()

	faulty := storefault.Wrap(store.NewMemory(0))
	faulty.Inject(storefault.Fail(syscall.ENOSPC), storefault.Create)
	cache := &cachetrip.Transport{Store: faulty}
	defer cache.Close()

	get := func() {
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%s %v, from the cache: %t\n", body, err, resp.Header.Get("X-From-Cache") == "1")
	}
	get()
	get()
	fmt.Println("faults:", cache.Stats().StoreFaults.Full)
	faulty.Inject(nil) // there is room again
	get()
	get()
	// Output:
	// hello <nil>, from the cache: false
	// hello <nil>, from the cache: false
	// faults: 2
	// hello <nil>, from the cache: false
	// hello <nil>, from the cache: true
}

// The n-th call alone fails, or all calls after the first n.
func ExampleNth() {
	s := storefault.Wrap(store.NewMemory(0))
	s.Inject(storefault.Nth(2, storefault.Fail(nil)), storefault.Secret)
	for range 3 {
		_, err := s.Secret(context.Background())
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// storefault: injected error
	// <nil>
}

// A Fault is a function, so a test can write its own. This one fails for large
// bodies.
func ExampleFault() {
	s := storefault.Wrap(store.NewMemory(0))
	s.Inject(func(c storefault.Call) error {
		if c.Offset+c.Length > 10 {
			return syscall.EFBIG
		}
		return nil
	}, storefault.Write)
	draft, err := s.Create(context.Background(), key, -1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer draft.Close()
	for range 3 {
		n, err := draft.Write([]byte("hello"))
		fmt.Println(n, err)
	}
	// Output:
	// 5 <nil>
	// 5 <nil>
	// 0 file too large
}
