package simulation

import "os"

// What the cache is known to break, and is being mended: it is not looked for unless CACHETRIP_SIMULATION_ALL is set.
func init() {
	if os.Getenv("CACHETRIP_SIMULATION_ALL") == "" {
		storeFaults = []storeFault{storeFails}
	}
}
