// Package stores_test tests the cache with stores that fail, hang or are slow,
// and with every kind of store under load.
package stores_test

import (
	"os"
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(shortLivedEnv); url != "" {
		shortLived(url, os.Getenv(shortLivedEnv+"_DIR"))
		return
	}
	harness.Main(m)
}
