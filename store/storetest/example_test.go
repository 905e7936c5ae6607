package storetest_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// The test of an implementation calls Test with a function that opens an empty
// store. Here the implementation is [store.Memory].
func ExampleTest() {
	_ = func(t *testing.T) { // func TestMyStore(t *testing.T)
		storetest.Test(t, func(t *testing.T) store.Store {
			return store.NewMemory(64 << 20)
		})
	}
	// Output:
}

// A store that outlives its process has more to keep. Here it is a
// [store.Disk], which can be reopened and shared. Checks that need a field
// which is not set, such as Damage, are skipped.
func ExampleRun() {
	_ = func(t *testing.T) { // func TestMyStore(t *testing.T)
		storetest.Run(t, func(t *testing.T) storetest.Subject {
			dir := t.TempDir()
			open := func() (*store.Disk, error) {
				disk, err := store.OpenDisk(dir, store.DiskOptions{})
				if err == nil {
					t.Cleanup(func() { disk.Close() })
				}
				return disk, err
			}
			disk, err := open()
			if err != nil {
				t.Fatal(err)
			}
			return storetest.Subject{
				Store:  disk,
				Second: func() (store.Store, error) { return open() },
				Reopen: func() (store.Store, error) {
					disk.Close()
					return open()
				},
			}
		})
	}
	// Output:
}
