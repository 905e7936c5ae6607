package store_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/subject"
	"github.com/cachetrip/cachetrip/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		return storetest.Subject{Store: store.NewMemory(64 << 20), MaxBody: 16 << 20}
	})
}

func TestDisk(t *testing.T) {
	for name, memory := range map[string]int64{"memory tier": 0, "no memory tier": -1} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) storetest.Subject {
				opts := store.DiskOptions{MemoryBytes: memory, MaxBytes: 128 << 20}
				sub := subject.Disk(t, store.ScratchDir(t), opts, func(d *store.Disk) (store.Store, error) { return d, nil })
				if memory == 0 || testtier.Long() { // the limit is that of the disk
					sub.MaxBody = 32 << 20
				}
				return sub
			})
		})
	}
}
