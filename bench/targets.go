package main

// The targets, in one table. They are goals for cachetrip; see metric.subject
// for the rows where it is the one in memory. The unit is that of the row: a
// multiple of the limit where there is one, otherwise nanoseconds, bytes or a
// number.

// targets has the targets by workload and metric.
var targets = map[string]float64{
	"hit-1k time":                0.35,
	"hit-1k allocs":              8,
	"hit-16k time":               0.45,
	"hit-16k allocs":             8,
	"reopened time":              2.5,
	"hit-1m time":                1.15,
	"hit-64m time":               1.25,
	"first-64m time":             2.5,
	"304-1k time":                1.2,
	"304-1k whole":               1.25,
	"304-1k written":             8 << 10,
	"304-1k time in memory":      1.1,
	"304-64m time":               1.2,
	"304-64m written":            8 << 10,
	"miss-1k time":               1.3,
	"miss-1m time":               1.2,
	"miss-64m time":              1.2,
	"large memory":               32 << 20,
	"large first":                1e6,
	"parallel time":              0.8,
	"parallel p99":               2,
	"beside p99":                 150e3,
	"start-10 time":              1.1,
	"start-1000 time":            1.1,
	"start-1000 bound":           1.1,
	"start-10000 time":           1.1,
	"start-10000 bound":          1.1,
	"entries time":               1.1,
	"entries hit":                2.5,
	"entries purge":              1e6,
	"churn time":                 2,
	"churn p99":                  0.5e6,
	"churn bound":                1.1,
	"herd requests":              1,
	"crowd time":                 1.3,
	"crowd requests":             1,
	"sdk bytes":                  1,
	"sdk outdated":               none,
	"sdk wrong":                  none,
	"sdk errors":                 none,
	"crawler bytes":              1,
	"crawler outdated":           none,
	"crawler wrong":              none,
	"crawler errors":             none,
	"recrawl wrong":              none,
	"recrawl errors":             none,
	"cli bytes":                  1,
	"cli outdated":               none,
	"cli wrong":                  none,
	"cli errors":                 none,
	"memory-1k time in memory":   25,
	"memory-1k allocs in memory": 6,
}

// none is the target for events that must not happen: less than one.
const none = 0.5

// key returns the name of a metric of a workload in targets.
func (m *metric) key(workload string) string {
	if m.subject == cachetripMemory {
		return workload + " " + m.name + " in memory"
	}
	return workload + " " + m.name
}

// aim sets the targets of workloads.
func aim(all []*workload) []*workload {
	for _, w := range all {
		for i := range w.metrics {
			w.metrics[i].target = targets[w.metrics[i].key(w.name)]
		}
	}
	return all
}
