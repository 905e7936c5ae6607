// Package validation_test tests freshness, validation and variants from end to
// end, also beside other caches and with random scripts.
package validation_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
