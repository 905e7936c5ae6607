package redisstore_test

import (
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
