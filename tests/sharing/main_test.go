// Package sharing_test tests requests that callers share: which ones do, how
// long they wait, and what happens when a caller leaves.
package sharing_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
