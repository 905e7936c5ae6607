package simulation

import "os"

// What the cache is known to break, and is being mended: it is not looked for unless CACHETRIP_SIMULATION_ALL is set.
var (
	pending = []rule{ruleAnswered, ruleWhose, ruleStatus, ruleUnvalidated, ruleBytes}
	mangles = true
)

func init() {
	all := os.Getenv("CACHETRIP_SIMULATION_ALL") // "rules", or anything else for the faults of stores as well
	if all != "" {
		pending = nil
	}
	if all == "" || all == "rules" {
		storeFaults = []storeFault{storeFails}
	}
}
