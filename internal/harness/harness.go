// Package harness has what the tests of a whole cache share: caches and the
// origins behind them, on real directories, sockets and connections.
//
// A [World] is a cache and an origin that is an http.Handler. A [Cache] is a
// cache alone, for tests with an origin of their own. Such an origin is
// [RawOrigin], which can stall, cut and lie. Both check that nothing is left
// when their test ends: goroutines, descriptors, or credentials in clear.
package harness

import (
	"flag"
	"os"
	"testing"
)

// Main runs the tests of a package, eight parallel ones at a time on any
// machine. They compute little, and mostly wait for timers and for each other.
// The flag -parallel asks for another number.
func Main(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		flag.Set("test.parallel", "8")
	}
	os.Exit(m.Run())
}
