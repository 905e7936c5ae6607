package cachetrip_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain runs parallel tests eight at a time, however few cores there are:
// they wait for timers and for each other, and compute little. -parallel asks
// for another number.
func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		flag.Set("test.parallel", "8")
	}
	os.Exit(m.Run())
}
