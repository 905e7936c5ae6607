// Package contract_test tests the contract of RoundTripper in every situation,
// and what the cache tells about itself: Status, hooks, logs and explanations.
package contract_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
