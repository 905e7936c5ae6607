// Package testtier divides the tests into two tiers.
//
// The short tier is what "go test ./..." runs. It tests every promise, in a
// minute and a quarter on two cores. The long tier runs the same tests with
// more rounds, larger bodies and more seeds, each case with each cache, and a
// few tests that build programs. It runs if the environment variable
// CACHETRIP_LONG is not empty.
package testtier

import (
	"os"
	"testing"
)

// Long reports whether the long tier runs.
func Long() bool { return os.Getenv("CACHETRIP_LONG") != "" }

// Pick returns long in the long tier and short in the short tier.
func Pick[T any](short, long T) T {
	if Long() {
		return long
	}
	return short
}

// LongOnly skips t in the short tier. The reason says what t does that takes
// long.
func LongOnly(t testing.TB, reason string) {
	t.Helper()
	if !Long() {
		t.Skipf("%s: set CACHETRIP_LONG=1 to run it", reason)
	}
}
