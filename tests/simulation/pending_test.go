package simulation

import "os"

// What the cache is known to break, and is being mended: it is not looked for unless CACHETRIP_SIMULATION_ALL is set.
var (
	pending = []rule{ruleAnswered, ruleWhose, ruleBytes, ruleStatus, ruleUnvalidated, ruleCount, ruleSaved, ruleRun}
	mangles = true
)

func init() {
	if os.Getenv("CACHETRIP_SIMULATION_ALL") != "" {
		pending = nil
	} else {
		storeFaults = []storeFault{storeFails}
	}
}
