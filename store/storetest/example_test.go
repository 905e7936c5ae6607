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
