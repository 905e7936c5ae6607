// Package users_test tests that users never get each other's responses, and
// that no secret is stored or logged.
package users_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
