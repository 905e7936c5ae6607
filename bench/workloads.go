package main

import (
	"fmt"
	"slices"
	"time"
)

// The workloads and their limits.

const (
	readLimit   = "open, fstat, read, close"
	copyLimit   = "open, fstat, read in large pieces, close"
	plainLimit  = "the same conditional request without a cache"
	storeLimit  = "http.Transport, and a file written"
	secureLimit = "the same over HTTP/2 and TLS, without a cache"
	renameLimit = "create, write, close, rename; unlink what is too much"
)

// everyone is all subjects.
var everyone = subjects

// onDisk is the subjects without those in memory, for workloads that are about
// files.
var onDisk = []string{limit, cachetripDisk, gregjonesDisk, bartventerDisk, sandrolainDisk, noCache}

// inMemory is the subjects that keep no files.
var inMemory = []string{limit, cachetripMemory, gregjonesMemory, bartventerMemory, sandrolainMemory}

// counted is the subjects of workloads that count requests and bytes. The peers
// are in memory there: their counts are the same, without the fsync of each
// file.
var counted = []string{limit, cachetripDisk, gregjonesMemory, bartventerMemory, sandrolainMemory, noCache}

// opened is the subjects with files that can be opened again.
var opened = onDisk[:len(onDisk)-1]

// sizes are what the flags say about the sizes of workloads.
type sizes struct {
	short   bool
	entries int // in the workload "entries"
}

// pick returns the first value in the short form.
func (s sizes) pick(short, long int) int {
	if s.short {
		return short
	}
	return long
}

// workloads returns all workloads. In the short form, the large ones are
// smaller.
func workloads(s sizes) []*workload {
	return aim(slices.Concat(hitWorkloads(), checkWorkloads(), missWorkloads(s), manyWorkloads(s), startWorkloads(s), traceWorkloads(s)))
}

// timed is the metric of the time of an operation.
func timed(title, limit string) metric {
	return metric{name: "time", title: title, limit: limit, unit: nanoseconds}
}

func processor(title, limit string) metric {
	return metric{name: "processor", title: title + ": processor time", limit: limit, unit: nanoseconds, minor: true}
}

func allocations(title string) metric {
	return metric{name: "allocs", title: title + ": allocations", unit: count, how: byValue, minor: true}
}

func hitWorkloads() []*workload {
	small := func(name, size string, bytes int64) *workload {
		title := "fresh hit, " + size
		return &workload{
			name: name, kind: "hit", Params: Params{Size: bytes, Count: 64}, subjects: everyone,
			metrics: []metric{timed(title, readLimit), processor(title, readLimit), allocations(title)},
		}
	}
	deadline := small("hit-1k-timeout", "1 KiB, Client.Timeout", 1<<10)
	deadline.Timeout = true
	memory := "memory store, hit, 1 KiB"
	return []*workload{
		small("hit-1k", "1 KiB", 1<<10),
		small("hit-16k", "16 KiB", 16<<10),
		deadline,
		{
			name: "reopened", kind: "reopened", Params: Params{Size: 1 << 10, Count: 256}, subjects: opened,
			metrics: []metric{timed("fresh hit, 1 KiB, just reopened", readLimit), processor("fresh hit, 1 KiB, just reopened", readLimit)},
		}, {
			name: "hit-1m", kind: "hit", Params: Params{Size: 1 << 20, Count: 1}, subjects: everyone,
			metrics: []metric{timed("fresh hit, 1 MiB", copyLimit)},
		}, {
			name: "hit-64m", kind: "hit", Params: Params{Size: 64 << 20, Count: 1}, subjects: onDisk,
			metrics: []metric{timed("fresh hit, 64 MiB", copyLimit)},
		}, {
			name: "first-64m", kind: "first", Params: Params{Size: 64 << 20, Count: 1}, subjects: onDisk, most: 20,
			metrics: []metric{timed("first 32 KiB of a 64 MiB hit", "open, fstat, read")},
		}, {
			name: "memory-1k", kind: "memory", Params: Params{Size: 1 << 10, Count: 64}, subjects: inMemory,
			metrics: []metric{
				{name: "time", title: memory, limit: "map lookup and copy", unit: nanoseconds, subject: cachetripMemory},
				{name: "processor", title: memory + ": processor time", limit: "map lookup and copy", unit: nanoseconds, subject: cachetripMemory, minor: true},
				{name: "allocs", title: memory + ": allocations", unit: count, how: byValue, subject: cachetripMemory, minor: true},
			},
		},
	}
}

// checkWorkloads are those that the origin answers with 304.
func checkWorkloads() []*workload {
	small := func(name, title, limit string) *workload {
		return &workload{
			name: name, kind: "revalidate", Params: Params{Size: 1 << 10, Count: 16}, subjects: everyone,
			metrics: []metric{
				timed(title+", until its response", limit),
				{name: "whole", title: title + ", and its body read", limit: limit + ", and a file read", unit: nanoseconds},
			},
		}
	}
	plain := small("304-1k", "304, 1 KiB", plainLimit)
	plain.metrics = append(plain.metrics,
		metric{name: "written", title: "304, 1 KiB: bytes written", limit: "those of the request", unit: octets, how: byDifference, minor: true},
		metric{name: "time", title: "304, 1 KiB, until its response, from memory", limit: plainLimit, unit: nanoseconds, subject: cachetripMemory, minor: true},
	)
	deadline := small("304-1k-timeout", "304, 1 KiB, Client.Timeout", plainLimit)
	deadline.Timeout = true
	secure := small("304-1k-h2", "304, 1 KiB, HTTP/2 and TLS", secureLimit)
	secure.TLS = true
	return []*workload{plain, deadline, secure, {
		name: "304-64m", kind: "revalidate", Params: Params{Size: 64 << 20, Count: 1}, subjects: onDisk,
		metrics: []metric{
			timed("304, 64 MiB, until its response", plainLimit),
			{name: "whole", title: "304, 64 MiB, and its body read", limit: plainLimit + ", and a file read", unit: nanoseconds},
			{name: "written", title: "304, 64 MiB: bytes written", limit: "those of the request", unit: octets, how: byDifference, minor: true},
		},
	}}
}

func missWorkloads(s sizes) []*workload {
	miss := func(name, title string, size int64, most int) *workload {
		title = "miss and store, " + title
		return &workload{
			name: name, kind: "miss", Params: Params{Size: size}, subjects: everyone, most: most,
			metrics: []metric{timed(title, storeLimit), processor(title, storeLimit)},
		}
	}
	deadline := miss("miss-1k-timeout", "1 KiB, Client.Timeout", 1<<10, 0)
	deadline.Timeout = true
	secure := miss("miss-1k-h2", "1 KiB, HTTP/2 and TLS", 1<<10, 0)
	secure.TLS = true
	secureMiB := miss("miss-1m-h2", "1 MiB, HTTP/2 and TLS", 1<<20, 64)
	secureMiB.TLS = true
	size := "1 GiB"
	if s.short {
		size = "64 MiB"
	}
	return []*workload{
		miss("miss-1k", "1 KiB", 1<<10, 0), deadline, secure,
		miss("miss-1m", "1 MiB", 1<<20, 64), secureMiB,
		{
			name: "miss-64m", kind: "miss", Params: Params{Size: 64 << 20}, subjects: onDisk, most: 4,
			metrics: []metric{timed("miss and store, 64 MiB", storeLimit)},
		}, {
			name: "large", kind: "large", Params: Params{Size: int64(s.pick(64, 1024)) << 20, Bound: 8 << 30}, subjects: onDisk, fresh: true, peerRounds: 1,
			metrics: []metric{
				{name: "memory", title: size + " as a miss, then a hit: resident memory", limit: "the same with a plain file", unit: octets, how: byValue},
				{name: "first", title: size + ": first bytes of the hit", limit: "open, fstat, read", unit: nanoseconds, how: byValue},
				timed(size+": miss and store", storeLimit),
			},
		},
	}
}

// manyWorkloads are about many requests at a time, or many entries.
func manyWorkloads(s sizes) []*workload {
	entries := s.pick(2_000, 10_000)
	return []*workload{
		{
			name: "parallel", kind: "parallel", Params: Params{Size: 4 << 10, Count: entries, Clients: 64}, subjects: everyone,
			metrics: []metric{
				timed("64 goroutines, Zipf over "+digits(float64(entries))+" entries of 4 KiB", readLimit),
				processor("64 goroutines", readLimit),
				{name: "p99", title: "64 goroutines: p99", limit: readLimit, unit: nanoseconds, minor: true},
			},
		}, {
			name: "beside", kind: "beside", Params: Params{Size: 4 << 10, Count: 64, Time: time.Duration(s.pick(300, 1_500)) * time.Millisecond}, subjects: everyone, ops: 1,
			metrics: []metric{
				{name: "p99", title: "p99 of hits beside 16 MiB stores and a trickle", limit: readLimit, unit: nanoseconds, how: byValue},
				{name: "p50", title: "p50 of the same", limit: readLimit, unit: nanoseconds, how: byValue, minor: true},
				{name: "store", title: "a 16 MiB store meanwhile", limit: storeLimit, unit: nanoseconds, minor: true},
			},
		}, {
			name: "churn", kind: "churn", Params: Params{Size: 4 << 10, Bound: int64(s.pick(16, 64)) << 20, Time: time.Duration(s.pick(400, 1_000)) * time.Millisecond}, ops: s.pick(4_000, 40_000),
			subjects: everyone[:len(everyone)-1],
			metrics: []metric{
				timed(fmt.Sprintf("%d × 4 KiB a round through %d MiB, per store", s.pick(4_000, 40_000), s.pick(16, 64)), renameLimit),
				processor("the same", renameLimit),
				{name: "p99", title: "the same: p99", limit: renameLimit, unit: nanoseconds, how: byValue, minor: true},
				{name: "bound", title: "the same: directory over bound", unit: factor, how: byValue, minor: true},
			},
		}, {
			name: "herd", kind: "herd", Params: Params{Size: 64 << 10, Clients: 100}, subjects: everyone[1:], ops: 1,
			metrics: []metric{{name: "requests", title: "100 identical requests at once: requests at the origin", unit: count, how: byValue}},
		}, {
			name: "crowd", kind: "crowd", Params: Params{Size: 16 << 20, Clients: 100}, ops: 1,
			subjects: []string{limit, cachetripDisk, cachetripMemory, noCache}, // 100 requests of a peer would take 5 GiB of memory
			metrics: []metric{
				timed("100 readers at once of a miss of 16 MiB", "100 goroutines read that file"),
				processor("the same", "the same"),
				{name: "requests", title: "the same: requests at the origin", unit: count, how: byValue, minor: true},
			},
		},
	}
}

// startWorkloads are about a directory that other processes have filled.
func startWorkloads(s sizes) (all []*workload) {
	starts := []int{10, 1_000, 10_000}
	if s.short {
		starts = starts[:2]
	}
	for _, n := range starts {
		w := &workload{
			name: "start-" + digits(float64(n)), kind: "fill", Params: Params{Count: n}, subjects: opened, run: runStarts,
			metrics: []metric{timed("process start to first hit, "+digits(float64(n))+" entries", "a process that reads a file")},
		}
		if n == starts[len(starts)-1] {
			w.metrics = append(w.metrics, metric{name: "bound", title: "bound kept by short-lived processes", unit: factor, how: byValue, minor: true})
		}
		all = append(all, w)
	}
	n := fmt.Sprintf("%d entries", s.entries)
	return append(all, &workload{
		name: "entries", kind: "entries", Params: Params{Count: s.entries, Hosts: hostsOf(s.entries)}, run: runEntries,
		subjects: []string{limit, cachetripDisk}, // no peer has an index or a size limit, so a million entries are like ten
		metrics: []metric{
			timed("process start to first hit, "+n, "a process that reads a file"),
			{name: "hit", title: "first hit after opening, " + n, limit: readLimit, unit: nanoseconds},
			{name: "purge", title: "Purge of one URL, " + n, limit: "unlink", unit: nanoseconds, how: byValue},
			{name: "list", title: fmt.Sprintf("listing the %d entries of one host, %s", s.entries/hostsOf(s.entries), n), limit: "reading those files", unit: nanoseconds},
		},
	})
}

func traceWorkloads(s sizes) (all []*workload) {
	for _, t := range []struct {
		name, title string
		subjects    []string
	}{
		{"sdk", "SDK trace", everyone[1:]},
		{"crawler", "crawler trace", everyone[1:]},
		{"recrawl", "crawler trace, no max-age=0", everyone[1:]},
		{"cli", "CLI trace, 4 processes", onDisk[1:]},
	} {
		all = append(all, &workload{
			name: t.name, kind: "trace", Params: Params{Name: t.name}, subjects: t.subjects, run: runTraces, rounds: 2,
			metrics: []metric{
				{name: "bytes", title: t.title + ": bytes over ideal", unit: factor, how: byValue},
				{name: "requests", title: t.title + ": requests over ideal", unit: factor, how: byValue, minor: true},
				{name: "outdated", title: t.title + ": outdated bodies", unit: count, how: byValue, minor: true},
				{name: "wrong", title: t.title + ": wrong bodies", unit: count, how: byValue, minor: true},
				{name: "errors", title: t.title + ": errors", unit: count, how: byValue, minor: true},
			},
		})
	}
	for _, t := range []struct{ name, trace, title, user string }{
		{"chezmoi", "chezmoi", "chezmoi, 862 requests in a month", ""},
		{"go-github", "go-github", "go-github, pages and tokens", ""},
		{"oci", "oci", "OCI pulls", ""},
		{"oci-identity", "oci", "OCI pulls, Transport.Identity set", "machine"},
		{"feeds", "feeds", "200 feeds", ""},
		{"feeds-now", "feeds-now", "200 feeds, max-age=0", ""},
		{"packages", "packages", "pip and npm", ""},
		{"docs", "docs", "documentation crawler", ""},
	} {
		subjects := counted
		if t.user != "" {
			subjects = counted[:2] // the peers cannot be told
		}
		all = append(all, &workload{
			name: "tool-" + t.name, kind: "tool", Params: Params{Name: t.trace, User: t.user}, subjects: subjects, run: runTool,
			metrics: []metric{
				{name: "hits", title: t.title + ": hits", unit: percent, how: byValue, minor: true},
				{name: "reused", title: t.title + ": hits and 304s", unit: percent, how: byValue, minor: true},
				{name: "requests", title: t.title + ": requests at the origin", limit: "an ideal cache", unit: count},
				{name: "bytes", title: t.title + ": bytes of bodies", limit: "an ideal cache", unit: octets},
			},
		})
	}
	return all
}
