package store_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Test(t, func(t *testing.T) store.Store { return store.NewMemory(256 << 20) })
}

func TestDisk(t *testing.T) {
	for name, memory := range map[string]int64{"memory tier": 0, "no memory tier": -1} {
		t.Run(name, func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) store.Store {
				d, err := store.OpenDisk(store.ScratchDir(t), store.DiskOptions{MemoryBytes: memory})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { d.Close() })
				return d
			})
		})
	}
}
