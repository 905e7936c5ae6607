package main

import (
	"fmt"
	"time"
)

// The workloads and their limits.

const (
	readLimit  = "open, fstat, read, close"
	copyLimit  = "open, fstat, read in large pieces, close"
	plainLimit = "the same conditional request without a cache"
	storeLimit = "http.Transport, and a file written"
)

// everyone is all subjects.
var everyone = subjects

// onDisk is the subjects without those in memory, for workloads that are about
// files.
var onDisk = []string{limit, cachetripDisk, gregjonesDisk, noCache}

// workloads returns all workloads. If short is true, the large ones are
// smaller.
func workloads(short bool) []*workload {
	pick := func(s, l int) int {
		if short {
			return s
		}
		return l
	}
	allocs := func(what string) metric {
		return metric{name: "allocs", title: what + ": allocations", unit: count, how: byValue, target: 20, minor: true}
	}
	processor := func(what, limit string) metric {
		return metric{name: "processor", title: what + ": processor time", limit: limit, unit: nanoseconds, minor: true}
	}
	w := []*workload{
		{
			name: "hit-1k", kind: "hit", Params: Params{Size: 1 << 10, Count: 64}, subjects: everyone,
			metrics: []metric{
				{name: "time", title: "fresh hit, 1 KiB", limit: readLimit, unit: nanoseconds, target: 0.8},
				processor("fresh hit, 1 KiB", readLimit),
				allocs("fresh hit, 1 KiB"),
			},
		}, {
			name: "hit-16k", kind: "hit", Params: Params{Size: 16 << 10, Count: 64}, subjects: everyone,
			metrics: []metric{
				{name: "time", title: "fresh hit, 16 KiB", limit: readLimit, unit: nanoseconds, target: 1.2},
				processor("fresh hit, 16 KiB", readLimit),
				allocs("fresh hit, 16 KiB"),
			},
		}, {
			name: "reopened", kind: "reopened", Params: Params{Size: 1 << 10, Count: 256}, subjects: []string{limit, cachetripDisk, gregjonesDisk},
			metrics: []metric{{name: "time", title: "fresh hit, 1 KiB, just reopened", limit: readLimit, unit: nanoseconds, target: 4}, processor("fresh hit, 1 KiB, just reopened", readLimit)},
		}, {
			name: "hit-1m", kind: "hit", Params: Params{Size: 1 << 20, Count: 1}, subjects: everyone,
			metrics: []metric{{name: "time", title: "fresh hit, 1 MiB", limit: copyLimit, unit: nanoseconds, target: 1.3}},
		}, {
			name: "hit-64m", kind: "hit", Params: Params{Size: 64 << 20, Count: 1}, subjects: onDisk,
			metrics: []metric{{name: "time", title: "fresh hit, 64 MiB", limit: copyLimit, unit: nanoseconds, target: 1.25}},
		}, {
			name: "first-64m", kind: "first", Params: Params{Size: 64 << 20, Count: 1}, subjects: onDisk, most: 20,
			metrics: []metric{{name: "time", title: "first 32 KiB of a 64 MiB hit", limit: "open, fstat, read", unit: nanoseconds, target: 2.5}},
		}, {
			name: "304-1k", kind: "revalidate", Params: Params{Size: 1 << 10, Count: 16}, subjects: everyone,
			metrics: []metric{
				{name: "time", title: "304, 1 KiB, until its response", limit: plainLimit, unit: nanoseconds, target: 1.25},
				{name: "whole", title: "304, 1 KiB, and its body read", limit: plainLimit + ", and a file read", unit: nanoseconds},
				{name: "written", title: "304, 1 KiB: bytes written", limit: "those of the request", unit: octets, how: byDifference, target: 8 << 10, minor: true},
			},
		}, {
			name: "304-64m", kind: "revalidate", Params: Params{Size: 64 << 20, Count: 1}, subjects: onDisk,
			metrics: []metric{
				{name: "time", title: "304, 64 MiB, until its response", limit: plainLimit, unit: nanoseconds, target: 1.25},
				{name: "whole", title: "304, 64 MiB, and its body read", limit: plainLimit + ", and a file read", unit: nanoseconds},
				{name: "written", title: "304, 64 MiB: bytes written", limit: "those of the request", unit: octets, how: byDifference, target: 8 << 10, minor: true},
			},
		}, {
			name: "miss-1k", kind: "miss", Params: Params{Size: 1 << 10}, subjects: everyone,
			metrics: []metric{{name: "time", title: "miss and store, 1 KiB", limit: storeLimit, unit: nanoseconds, target: 1.5}, processor("miss and store, 1 KiB", storeLimit)},
		}, {
			name: "miss-1m", kind: "miss", Params: Params{Size: 1 << 20}, subjects: everyone, most: 64,
			metrics: []metric{{name: "time", title: "miss and store, 1 MiB", limit: storeLimit, unit: nanoseconds, target: 1.3}, processor("miss and store, 1 MiB", storeLimit)},
		}, {
			name: "miss-64m", kind: "miss", Params: Params{Size: 64 << 20}, subjects: onDisk, most: 4,
			metrics: []metric{{name: "time", title: "miss and store, 64 MiB", limit: storeLimit, unit: nanoseconds, target: 1.25}},
		}, {
			name: "large", kind: "large", Params: Params{Size: int64(pick(64, 1024)) << 20, Bound: 8 << 30}, subjects: onDisk, fresh: true,
			metrics: []metric{
				{name: "memory", title: large(short) + " as a miss, then a hit: resident memory", limit: "the same with a plain file", unit: octets, how: byValue, target: 32 << 20},
				{name: "first", title: large(short) + ": first bytes of the hit", limit: "open, fstat, read", unit: nanoseconds, how: byValue, target: 1e6},
				{name: "time", title: large(short) + ": miss and store", limit: storeLimit, unit: nanoseconds},
			},
		}, {
			name: "parallel", kind: "parallel", Params: Params{Size: 4 << 10, Count: pick(2_000, 10_000), Clients: 64}, subjects: everyone,
			metrics: []metric{
				{name: "time", title: "64 goroutines, Zipf over " + digits(float64(pick(2_000, 10_000))) + " entries of 4 KiB", limit: readLimit, unit: nanoseconds, target: 1.6},
				processor("64 goroutines", readLimit),
				{name: "p99", title: "64 goroutines: p99", limit: readLimit, unit: nanoseconds, minor: true},
			},
		}, {
			name: "beside", kind: "beside", Params: Params{Size: 4 << 10, Count: 64, Time: time.Duration(pick(300, 2_000)) * time.Millisecond}, subjects: everyone, ops: 1,
			metrics: []metric{
				{name: "p99", title: "p99 of hits beside 16 MiB stores and a trickle", limit: readLimit, unit: nanoseconds, how: byValue, target: 150e3},
				{name: "p50", title: "p50 of the same", limit: readLimit, unit: nanoseconds, how: byValue, minor: true},
				{name: "store", title: "a 16 MiB store meanwhile", limit: storeLimit, unit: nanoseconds, minor: true},
			},
		},
	}
	starts := []int{10, 1_000, 10_000, 100_000, 1_000_000}
	if short {
		starts = []int{10, 1_000}
	}
	for _, n := range starts {
		s := &workload{
			name: "start-" + digits(float64(n)), kind: "fill", Params: Params{Count: n}, subjects: []string{limit, cachetripDisk, gregjonesDisk}, run: runStarts,
			metrics: []metric{{name: "time", title: "process start to first hit, " + digits(float64(n)) + " entries", limit: "a process that reads a file", unit: nanoseconds, target: 1.15}},
		}
		if n > 100_000 {
			s.subjects = s.subjects[:2] // it cannot affect the others
		}
		if n == pick(1_000, 10_000) {
			s.metrics = append(s.metrics, metric{name: "bound", title: "bound kept by short-lived processes", unit: factor, how: byValue, target: 1.1, minor: true})
		}
		w = append(w, s)
	}
	w = append(w, &workload{
		name: "churn", kind: "churn", Params: Params{Size: 4 << 10, Bound: int64(pick(16, 64)) << 20, Time: time.Duration(pick(400, 4_000)) * time.Millisecond}, ops: pick(4_000, 40_000),
		subjects: []string{limit, cachetripDisk, cachetripMemory, gregjonesDisk, gregjonesMemory},
		metrics: []metric{
			{name: "time", title: fmt.Sprintf("%d × 4 KiB through %d MiB, per store", pick(20_000, 200_000), pick(16, 64)), limit: "create, write, close, rename; no bound", unit: nanoseconds, target: 3},
			processor("the same", "the same"),
			{name: "p99", title: "the same: p99", limit: "the same", unit: nanoseconds, minor: true},
			{name: "bound", title: "the same: directory over bound", unit: factor, how: byValue, target: 1.1, minor: true},
		},
	}, &workload{
		name: "herd", kind: "herd", Params: Params{Size: 64 << 10, Clients: 100}, subjects: everyone[1:], ops: 1,
		metrics: []metric{{name: "requests", title: "100 identical requests at once: requests at the origin", unit: count, how: byValue, target: 1}},
	})
	for _, t := range []struct {
		name, title string
		subjects    []string
		target      float64
	}{
		{"sdk", "SDK trace", everyone[1:], 1},
		{"crawler", "crawler trace", everyone[1:], 1},
		{"recrawl", "crawler trace, no max-age=0", everyone[1:], 0},
		{"cli", "CLI trace, 4 processes", []string{cachetripDisk, gregjonesDisk, noCache}, 1},
	} {
		trace := &workload{
			name: t.name, kind: "trace", Params: Params{Name: t.name}, subjects: t.subjects, run: runTraces, rounds: pick(2, 0),
			metrics: []metric{
				{name: "bytes", title: t.title + ": bytes over ideal", unit: factor, how: byValue, target: t.target},
				{name: "requests", title: t.title + ": requests over ideal", unit: factor, how: byValue, minor: true},
				{name: "outdated", title: t.title + ": outdated bodies", unit: count, how: byValue, target: t.target * none, minor: true},
				{name: "wrong", title: t.title + ": wrong bodies", unit: count, how: byValue, target: none, minor: true},
				{name: "errors", title: t.title + ": errors", unit: count, how: byValue, target: none, minor: true},
			},
		}
		w = append(w, trace)
	}
	return append(w, &workload{
		name: "memory-1k", kind: "memory", Params: Params{Size: 1 << 10, Count: 64}, subjects: []string{limit, cachetripMemory, gregjonesMemory},
		metrics: []metric{
			{name: "time", title: "memory store, hit, 1 KiB", limit: "map lookup and copy", unit: nanoseconds, how: byValue, target: 1200, subject: cachetripMemory},
			metric{name: "processor", title: "memory store, hit, 1 KiB: processor time", limit: "map lookup and copy", unit: nanoseconds, subject: cachetripMemory, minor: true},
			{name: "allocs", title: "memory store, hit, 1 KiB: allocations", unit: count, how: byValue, target: 20, subject: cachetripMemory, minor: true},
		},
	})
}

// none is the target for events that must not happen: less than one.
const none = 0.5

func large(short bool) string {
	if short {
		return "64 MiB"
	}
	return "1 GiB"
}
