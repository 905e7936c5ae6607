// Package metrics reports the counters of a cache to Prometheus. It is for
// programs that do not use OpenTelemetry, for which there is otelcachetrip.
// Copy the function.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cachetrip/cachetrip"
)

// Register has a registry, such as [prometheus.DefaultRegisterer], report the
// counters of cache. A scrape reads them once for each name, which costs some
// atomic loads.
func Register(registry prometheus.Registerer, cache *cachetrip.Transport) {
	for name, count := range map[string]func(cachetrip.Stats) uint64{
		"requests":      func(s cachetrip.Stats) uint64 { return s.Requests },
		"hits":          func(s cachetrip.Stats) uint64 { return s.Hits },
		"revalidations": func(s cachetrip.Stats) uint64 { return s.Revalidations },
		"misses":        func(s cachetrip.Stats) uint64 { return s.Misses },
		"store_errors":  func(s cachetrip.Stats) uint64 { return s.StoreErrors },
	} {
		registry.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "cachetrip_" + name + "_total", Help: "See cachetrip.Stats."},
			func() float64 { return float64(count(cache.Stats())) }))
	}
}
