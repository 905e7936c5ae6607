package simulation

import "os"

// What the cache is known to break, and is being mended: it is not looked for unless CACHETRIP_SIMULATION_ALL is set.
var (
	pending = []rule{ruleAnswered, ruleOverstay, ruleWhose, ruleBytes, ruleStatus, ruleUnvalidated, ruleCookies, ruleCount, ruleLoad, ruleDeadline, ruleSaved, ruleRun}
	mangles = false
)

func init() {
	if os.Getenv("CACHETRIP_SIMULATION_ALL") != "" {
		pending, mangles = nil, true
	} else {
		storeFaults = []storeFault{storeFails}
	}
}
