// Package bodies_test tests how bodies are stored, resumed and served: partial
// responses, ranges, broken transfers and damaged files.
package bodies_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
