package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The test binary runs itself as a child, like the program.
func TestMain(m *testing.M) {
	if asChild() {
		return
	}
	// With the race detector, each of the many children would wait for a second
	// before it ends.
	os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		samples []float64
		want    float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1000, 1}, 1},
	} {
		if got := median(test.samples); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.samples, got, test.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
}

func TestPercentileIsOfTheNearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i) // 100, 99, … 1
	}
	for _, test := range []struct {
		samples []time.Duration
		p       float64
		want    float64
	}{
		{hundred, 99, 99},
		{hundred, 50, 50},
		{hundred, 100, 100},
		{hundred, 0, 1},
		{[]time.Duration{30, 10, 20}, 50, 20},
		{[]time.Duration{30, 10, 20}, 99, 30},
		{[]time.Duration{5}, 99, 5},
	} {
		if got := percentile(test.samples, test.p); got != test.want {
			t.Errorf("percentile(%d samples, %v) = %v, want %v", len(test.samples), test.p, got, test.want)
		}
	}
}

func TestRatiosAreWithinARound(t *testing.T) {
	got := ratios([]float64{10, 40, 90}, []float64{10, 20, 30})
	if want := []float64{1, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("ratios = %v, want %v", got, want)
	}
	if s := spreadOf(got); s != (spread{1, 2, 3}) {
		t.Errorf("spread = %v, want 1, 2, 3", s)
	}
	if got := ratios([]float64{1, 2}, []float64{0, 1}); !slices.Equal(got, []float64{2}) {
		t.Errorf("with a limit of 0: %v, want only 2", got)
	}
	if got := ratios([]float64{1, 2, 3}, []float64{1}); !slices.Equal(got, []float64{1}) {
		t.Errorf("with rounds missing: %v, want only 1", got)
	}
	if got := differences([]float64{10, 40}, []float64{7, 41}); !slices.Equal(got, []float64{3, -1}) {
		t.Errorf("differences = %v, want 3, -1", got)
	}
}

func TestQuantitiesAreReadable(t *testing.T) {
	for _, test := range []struct {
		unit unit
		v    float64
		want string
	}{
		{nanoseconds, 137, "137 ns"}, {nanoseconds, 2048, "2.05 µs"}, {nanoseconds, 17_300_000, "17.3 ms"}, {nanoseconds, 2e9, "2 s"},
		{octets, 8 << 10, "8 KiB"}, {octets, 5.8 * (1 << 30), "5.80 GiB"}, {octets, 61, "61 B"},
		{factor, 0.625, "0.62x"}, {factor, 1, "1x"}, {factor, 639.6, "640x"},
		{count, 20, "20"}, {count, math.NaN(), "–"},
	} {
		if got := test.unit.format(test.v); got != test.want {
			t.Errorf("%s of %v = %q, want %q", test.unit, test.v, got, test.want)
		}
	}
}

func TestContentIsTheSameHoweverItIsRead(t *testing.T) {
	for _, size := range []int64{labelSize, labelSize + 1, 1000, runSize, runSize + labelSize, 3<<20 + 5} {
		c := content{seed: uint64(size) * 7, size: size}
		var written bytes.Buffer
		if n, err := c.WriteTo(&written); n != size || err != nil {
			t.Fatalf("WriteTo = %d, %v; want %d", n, err, size)
		}
		read, err := io.ReadAll(c.reader())
		if err != nil || !bytes.Equal(read, written.Bytes()) {
			t.Errorf("size %d: reader and WriteTo differ", size)
		}
		if sum := crc32.Checksum(read, castagnoli); int64(len(read)) != size || sum != c.checksum() {
			t.Errorf("size %d: %d bytes with checksum %08x, checksum() = %08x", size, len(read), sum, c.checksum())
		}
	}
}

func TestWrongBodiesAreFound(t *testing.T) {
	const size = 2 << 20
	want := content{seed: 5, size: size}.body()
	good, _ := io.ReadAll(want.reader())
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	other, _ := io.ReadAll(content{seed: 6, size: size}.reader())
	for name, body := range map[string][]byte{
		"one bit":         change(func(b []byte) []byte { b[size/2] ^= 1; return b }),
		"cut":             change(func(b []byte) []byte { return b[:size-1] }),
		"longer":          change(func(b []byte) []byte { return append(b, 0) }),
		"empty":           nil,
		"pieces in order": change(func(b []byte) []byte { copy(b[1<<20:], good[:1<<19]); return b }),
		"another's":       other,
	} {
		var w watch
		err := drain(&w, bytes.NewReader(body), make([]byte, readSize), &want)
		if !errors.As(err, new(wrongError)) {
			t.Errorf("%s: %v, want a wrong body", name, err)
		}
	}
	var w watch
	if err := drain(&w, bytes.NewReader(good), make([]byte, readSize), &want); err != nil {
		t.Errorf("the right body: %v", err)
	}
}

// lyingSource sometimes returns a wrong body.
func lyingSource(lies func(i int) bool) *source {
	bodies := resources(8, 1000, 0)
	n := 0
	return &source{
		bodies: bodies,
		fetch: func(i int, p []byte) (int, error) {
			n++
			c := bodies[i].content
			if lies(n) {
				c.seed += 100
			}
			return readAll(c.reader(), p)
		},
	}
}

func TestAFastWrongAnswerIsNoHit(t *testing.T) {
	h := newHitContestant(lyingSource(func(n int) bool { return n%100 == 0 }), &job{Params: Params{Size: 1000}})
	if s := h.measure(1000); s.Wrong != 10 || s.Errors != 0 {
		t.Errorf("%d wrong bodies and %d errors reported, want 10 and 0", s.Wrong, s.Errors)
	}
	h = newHitContestant(lyingSource(func(int) bool { return false }), &job{Params: Params{Size: 1000}})
	if s := h.measure(1000); s.Wrong+s.Errors != 0 || s.Values["time"] <= 0 {
		t.Errorf("honest source: %d wrong, %d errors, %v ns", s.Wrong, s.Errors, s.Values["time"])
	}
}

func TestAHitThatAsksTheOriginIsNone(t *testing.T) {
	for _, test := range []struct{ asked, want, wrong int }{
		{0, 0, 0}, {1, 0, 1}, {10, 10, 0}, {9, 10, 1}, {11, 10, 1}, {5, -1, 0},
	} {
		s := sample{Forwarded: test.want}
		s.judge(test.asked)
		if s.Wrong != test.wrong {
			t.Errorf("asked %d times, %d expected: %d wrong, want %d", test.asked, test.want, s.Wrong, test.wrong)
		}
	}
}

func TestNobodyAlwaysFollowsTheSame(t *testing.T) {
	if got := turns([]int{}, 1); len(got) != 0 {
		t.Errorf("turns of nobody = %v", got)
	}
	for n := 1; n <= 11; n++ {
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		rounds := n * (1 + n%2)
		after := make(map[[2]int]int)
		for round := range rounds {
			order := turns(all, round)
			if got := slices.Sorted(slices.Values(order)); !slices.Equal(got, all) {
				t.Fatalf("%d subjects, round %d: %v", n, round, order)
			}
			for i := range n - 1 {
				after[[2]int{order[i], order[i+1]}]++
			}
		}
		for i := range n {
			for j := range n {
				if got, want := after[[2]int{i, j}], rounds/n; i != j && got != want {
					t.Errorf("%d subjects: %d follows %d %d times in %d rounds, want %d", n, j, i, got, rounds, want)
				}
			}
		}
	}
}

// A busy moment of the machine must not lead to measurements of only a few
// operations.
func TestMeasurementsAreLongEnoughOnABusyMachine(t *testing.T) {
	const budget, each, hiccup = 25 * time.Millisecond, time.Microsecond, 10 * time.Millisecond
	for _, test := range []struct {
		name     string
		most     int
		each     time.Duration
		busy     func(run int) bool
		from, to int
	}{
		{"idle", 0, each, func(int) bool { return false }, 20_000, 25_000},
		{"busy at first", 0, each, func(run int) bool { return run < 2 }, 20_000, 25_000},
		{"busy now and then", 0, each, func(run int) bool { return run%3 == 0 }, 20_000, 25_000},
		{"bounded", 64, each, func(int) bool { return false }, 64, 64},
		{"slow", 0, time.Second, func(int) bool { return false }, 1, 1},
	} {
		runs := 0
		n, err := fitting(budget, test.most, func(n int) (time.Duration, error) {
			took := time.Duration(n)*test.each + time.Millisecond/5
			if test.busy(runs) {
				took += hiccup
			}
			runs++
			return took, nil
		})
		if err != nil || n < test.from || n > test.to {
			t.Errorf("%s: %d operations, %v; want %d to %d", test.name, n, err, test.from, test.to)
		}
	}
	failed := errors.New("failed")
	if _, err := fitting(budget, 0, func(int) (time.Duration, error) { return time.Second, failed }); err != failed {
		t.Errorf("%v, want the error of what was run", err)
	}
}

// A subject that stores nothing is fast and returns the right bodies. It must
// be noticed.
func TestWhatWasNotStoredIsFound(t *testing.T) {
	nothing := func(kind string) *storeSource {
		below := &switchBase{RoundTripper: localBase{}}
		j := &job{Kind: kind, Subject: cachetripMemory, Origin: "http://bench.example", Tag: kind, Params: Params{Size: 4 << 10, Bound: 1 << 20, Time: time.Second}}
		return &storeSource{job: j, below: below, cache: &cache{RoundTripper: below}}
	}
	for name, c := range map[string]interface{ measure(int) sample }{
		"miss":  &missContestant{storeSource: nothing("miss"), slots: newSlots(4 << 10), buf: make([]byte, readSize)},
		"churn": &churnContestant{storeSource: nothing("churn"), slots: newSlots(4 << 10)},
	} {
		if s := c.measure(8); s.Errors == 0 || !strings.Contains(s.First, "should have been a hit") {
			t.Errorf("%s: %d errors, %q; want that it is found", name, s.Errors, s.First)
		}
	}
}

// A stall must count in the samples by its time, although it is one operation.
func TestStallsCountAsLongAsTheyLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		times := paced(1000*time.Millisecond, time.Millisecond, func() time.Duration {
			took := 100 * time.Microsecond
			if n++; n == 300 {
				took = 100 * time.Millisecond
			}
			time.Sleep(took)
			return took
		})
		slow := 0
		for _, took := range times {
			if took > 50*time.Millisecond {
				slow++
			}
		}
		if len(times) != 1000 || slow < 50 || slow > 60 || percentile(times, 50) != float64(100*time.Microsecond) {
			t.Errorf("%d samples, %d of more than 50 ms, median %v; want 1000, about 55, 100µs",
				len(times), slow, time.Duration(percentile(times, 50)))
		}
	})
}

func TestIdealBytes(t *testing.T) {
	get := func(step, resource int) visit { return visit{step: step, resource: resource} }
	one := func(r resource, script ...visit) *trace {
		return &trace{resources: []resource{r}, phases: [][][]visit{{script}}}
	}
	for _, test := range []struct {
		name            string
		trace           *trace
		bytes, requests int64
	}{
		{"fresh: once", one(resource{policy: lasting, size: 100}, get(1, 0), get(2, 0), get(3, 0)), 100, 1},
		{"validated: once, but asked each time", one(resource{policy: tagged, size: 100}, get(1, 0), get(2, 0), get(3, 0)), 100, 3},
		{"changed: again, and a little longer", one(resource{policy: dated, size: 100, changes: []int{2}}, get(1, 0), get(2, 0), get(3, 0)), 100 + 117, 3},
		{"changed twice between two requests: once more", one(resource{policy: tagged, size: 100, changes: []int{2, 3}}, get(1, 0), get(4, 0)), 100 + 134, 2},
		{"not to be stored: each time", one(resource{policy: volatile, size: 100}, get(1, 0), get(2, 0)), 200, 2},
		{"without a validator: each time", one(resource{policy: mute, size: 100}, get(1, 0), get(2, 0)), 200, 2},
		{"variants side by side", one(resource{policy: lasting, size: 100, variants: []string{"a", "b"}},
			visit{accept: "a"}, visit{accept: "b"}, visit{accept: "a"}, visit{accept: "b"}), 200, 2},
		{"Accept without variants", one(resource{policy: lasting, size: 100}, visit{accept: "a"}, visit{accept: "b"}), 100, 1},
		{"users apart", one(resource{policy: lasting, size: 100, personal: true},
			visit{token: "a"}, visit{token: "b"}, visit{token: "a"}), 200, 2},
		{"changed by the client", one(resource{policy: lasting, size: 100, changes: []int{2}},
			get(1, 0), visit{step: 2, patch: true}, get(3, 0), get(4, 0)), 100 + 117, 3},
		{"processes share", &trace{resources: []resource{{policy: lasting, size: 100}},
			phases: [][][]visit{{{get(1, 0)}, nil}, {{get(2, 0)}, {get(2, 0)}}}}, 100, 1},
	} {
		bytes, requests := test.trace.ideal()
		if bytes != test.bytes || requests != test.requests {
			t.Errorf("%s: ideal = %d bytes, %d requests; want %d, %d", test.name, bytes, requests, test.bytes, test.requests)
		}
	}
}

func TestTracesAreTheSameInEachProcess(t *testing.T) {
	for name, make := range tracesByName {
		a, _ := json.Marshal(make().phases)
		b, _ := json.Marshal(make().phases)
		bytes, requests := make().ideal()
		if !equalBytes(a, b) || bytes == 0 || requests == 0 {
			t.Errorf("%s: two makings differ, or ask for nothing", name)
		}
	}
}

func equalBytes(a, b []byte) bool { return bytes.Equal(a, b) && len(a) > 100 }

// In one phase, no two processes may be the first to get a resource, because
// chance would decide which one pays for it.
func TestProcessesOfATraceDoNotGetTheSameFirst(t *testing.T) {
	tr := cliTrace()
	held := make(map[content]bool)
	for i, phase := range tr.phases {
		by := make(map[content]int)
		for p, script := range phase {
			for _, v := range script {
				c := tr.content(v, tr.resources[v.resource].version(v.step))
				if other, ok := by[c]; ok && other != p && !held[c] {
					t.Fatalf("phase %d: processes %d and %d both get resource %d first", i, other, p, v.resource)
				}
				by[c] = p
			}
		}
		for c := range by {
			held[c] = true
		}
	}
}

// The ideal must equal the origin's count if nothing is transferred in vain.
func TestTransfersAreMeasuredAgainstTheIdeal(t *testing.T) {
	o, err := startOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	for _, name := range []string{"sdk", "crawler"} {
		for _, subject := range []string{cachetripMemory, noCache} {
			j := &job{Kind: "trace", Subject: subject, Origin: o.url, Tag: name + subject, Params: Params{Name: name}}
			c, err := contestants["trace"](j)
			if err != nil {
				t.Fatal(err)
			}
			s := c.measure(1)
			if err := c.close(); err != nil || s.Wrong+s.Errors+s.Outdated > 0 {
				t.Errorf("%s, %s: %d wrong, %d outdated, %d errors: %s, %v", name, subject, s.Wrong, s.Outdated, s.Errors, s.First, err)
			}
			want, _ := traceOf(name).ideal()
			got := o.tally(j.Tag).bytes.Load()
			if subject == cachetripMemory && got != want || subject == noCache && got <= 2*want {
				t.Errorf("%s, %s: %d bytes, ideal %d", name, subject, got, want)
			}
		}
	}
}

func TestOutdatedBodiesAreFound(t *testing.T) {
	o, err := startOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	// The base answers every request with the version of step 0, like a cache
	// that never asks again.
	old := roundTripper(func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		req.Header.Set(stepField, "0")
		return http.DefaultTransport.RoundTrip(req)
	})
	tr := traceOf("crawler")
	c := &traceContestant{
		job:   &job{Origin: o.url, Tag: "old", Params: Params{Name: "crawler"}},
		cache: &cache{RoundTripper: old}, trace: tr, script: tr.phases[0][0],
	}
	want := 0
	for _, v := range c.script {
		if tr.resources[v.resource].version(v.step) > 0 {
			want++
		}
	}
	if s := c.measure(1); s.Outdated != want || want == 0 || s.Wrong+s.Errors > 0 {
		t.Errorf("%d outdated, %d wrong, %d errors (%s); want %d outdated", s.Outdated, s.Wrong, s.Errors, s.First, want)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestVerdicts(t *testing.T) {
	h := &harness{results: make(map[string]map[string]map[string][]float64)}
	w := &workload{name: "w", metrics: []metric{
		{name: "time", title: "time", unit: nanoseconds, target: 1.5},
		{name: "memory", title: "memory", unit: octets, how: byValue, target: 1000},
		{name: "written", title: "written", unit: octets, how: byDifference, target: 100},
	}}
	for _, v := range []struct{ limit, time, memory, written float64 }{{100, 140, 900, 250}, {200, 500, 1100, 220}, {100, 150, 950, 190}} {
		h.record(w, limit, sample{Values: map[string]float64{"time": v.limit, "memory": 10, "written": 150}})
		h.record(w, cachetripDisk, sample{Values: map[string]float64{"time": v.time, "memory": v.memory, "written": v.written}})
	}
	r := h.report([]*workload{w})
	for i, want := range []struct {
		median  float64
		verdict string
	}{{1.5, "met"}, {950, "met"}, {70, "met"}} {
		f := &r.Figures[i]
		if got := f.Cells[cachetripDisk].Compared.Median; got != want.median || f.verdict() != want.verdict {
			t.Errorf("%s: %v, %q; want %v, %q", f.Title, got, f.verdict(), want.median, want.verdict)
		}
		f.Target *= 0.9
		if i == 2 {
			f.Target = 69
		}
		if got := f.verdict(); got != "**missed**" {
			t.Errorf("%s, with a harder target: %q, want missed", f.Title, got)
		}
	}
	if n := r.failures(); n != 0 {
		t.Errorf("%d failures, want none", n)
	}

	h.record(w, cachetripDisk, sample{Wrong: 1})
	r = h.report([]*workload{w})
	if got := r.Figures[0].verdict(); got != "failed" || r.failures() != 1 {
		t.Errorf("after a wrong body: %q, %d failures; want failed, 1", got, r.failures())
	}
	if !strings.Contains(r.markdown(), "| wrong |") {
		t.Error("the table shows a figure that does not count")
	}
}

func TestAPeersFaultsAreNotOurs(t *testing.T) {
	for _, test := range []struct {
		fault fault
		want  int
	}{
		{fault{Workload: "cli", Subject: gregjonesDisk, Wrong: 3}, 0},
		{fault{Workload: "cli", Subject: cachetripDisk, Wrong: 1}, 1},
		{fault{Workload: "hit-1k", Subject: limit, Errors: 1}, 1},
		{fault{Workload: "crawler", Subject: cachetripMemory, Outdated: 1}, 1},
		{fault{Workload: "recrawl", Subject: cachetripMemory, Outdated: 1}, 0}, // as RFC 9111, section 4.2.2, allows
	} {
		r := &report{Faults: []fault{test.fault}}
		if got := r.failures(); got != test.want {
			t.Errorf("%+v: %d failures, want %d", test.fault, got, test.want)
		}
	}
}

func TestWorkloadsMakeSense(t *testing.T) {
	for _, short := range []bool{false, true} {
		names := make(map[string]bool)
		for _, w := range workloads(sizes{short, 2_000}) {
			if names[w.name] {
				t.Errorf("two workloads are called %s", w.name)
			}
			names[w.name] = true
			if contestants[w.kind] == nil {
				t.Errorf("%s: no contestant is of the kind %q", w.name, w.kind)
			}
			for _, m := range w.metrics {
				of := m.subject
				if of == "" {
					of = cachetripDisk
				}
				if !strings.Contains(" "+strings.Join(w.subjects, " ")+" ", " "+of+" ") {
					t.Errorf("%s, %s: %s is not measured", w.name, m.name, of)
				}
				if m.how != byValue && w.subjects[0] != limit {
					t.Errorf("%s, %s: there is no limit to compare with", w.name, m.name)
				}
			}
		}
	}
}

// The whole program with its children, and the smallest sizes.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := run(context.Background(), []string{
		"-short", "-n", "2", "-time", "2ms", "-run", "^(hit-1k|304-1k|herd|memory-1k|start-10)$",
		"-dir", work, "-md", file("table.md"), "-svg", file("chart.svg"), "-json", file("data.json"),
	}, &out, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(work)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	table, err := os.ReadFile(file("table.md"))
	if err != nil || out.String() != string(table) || !strings.Contains(out.String(), "| fresh hit, 1 KiB | ≤ 0.35x |") {
		t.Errorf("table: %v\n%s", err, &out)
	}
	b, err := os.ReadFile(file("data.json"))
	var r report
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil || len(r.Figures) < 10 {
		t.Errorf("data: %d figures, %v", len(r.Figures), err)
	}
	for _, f := range r.Figures {
		if c, ok := f.Cells[f.Of]; !ok || c.Compared == nil || len(c.Samples) != 2 {
			t.Errorf("%s: %s has no figure for two rounds", f.Title, f.Of)
		}
	}
	svg, err := os.Open(file("chart.svg"))
	if err != nil {
		t.Fatal(err)
	}
	defer svg.Close()
	circles := 0
	for d := xml.NewDecoder(svg); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("chart: %v", err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles < 10 {
		t.Errorf("the chart has %d circles, want at least one for each workload and the legend", circles)
	}
}

// The samples so far may have taken an hour.
func TestAnInterruptedRunShowsWhatItHas(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	work := t.TempDir()
	log := writer(func(p []byte) (int, error) {
		if bytes.HasPrefix(p, []byte("sdk")) {
			cancel() // while other workloads have not run yet
		}
		return len(p), nil
	})
	err := run(ctx, []string{"-short", "-n", "1", "-run", "^(herd|sdk|cli)$", "-dir", work}, &out, log)
	if !errors.Is(err, context.Canceled) || !strings.Contains(out.String(), "| 100 identical requests") || strings.Contains(out.String(), "| CLI trace") {
		t.Errorf("%v, and\n%s", err, &out)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
