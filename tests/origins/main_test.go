// Package origins_test tests the cache against origins and transports that are
// odd, hostile, or refuse requests, and against nginx.
package origins_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
