package redisstore_test

import (
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/redisstore"
	"github.com/cachetrip/cachetrip/store/storetest"
)

func TestStore(t *testing.T) {
	server := sharedServer(t)
	for name, memory := range map[string]int{"with memory": 0, "without memory": -1} {
		t.Run(name, func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) store.Store {
				return open(t, server.url(), patient(redisstore.Options{MemoryBytes: memory}))
			})
		})
	}
}

// TestFormatsDoNotMeet: replicas with different formats leave each other's
// entries alone. They have separate keys, except the secret.
func TestFormatsDoNotMeet(t *testing.T) {
	server := sharedServer(t)
	opts := patient(redisstore.Options{Prefix: "formats"})
	s := open(t, server.url(), opts)
	key := storetest.Key(3, 1)
	if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
		return []*store.Entry{{Key: key, URL: "https://example.com/", Method: "GET", Status: 200}}
	}); err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(server.do(t, "KEYS", opts.Prefix+"*"))
	for _, name := range names {
		if name != opts.Prefix+":secret" && !strings.HasPrefix(name, opts.Prefix+":v1:{") {
			t.Errorf("the name %s does not tell the format of its value", name)
		}
	}
	if len(names) == 0 {
		t.Error("nothing is on the server")
	}
}
