package testtier

import (
	"os"
	"runtime/debug"
)

// In the short tier, the garbage collector runs less often. At the default of
// 100, it takes a seventh of the processor time of all tests. The long tier and
// a GOGC of your own keep what they say.
func init() {
	if !Long() && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}
