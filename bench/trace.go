package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Traces: the requests of three kinds of programs, and how little an ideal
// cache would transfer for them.

// policy is how the origin lets a resource be cached.
type policy int

const (
	lasting    policy = iota // fresh for a year; changes only when the client itself changes it
	tagged                   // validated before each use, by an entity tag
	dated                    // validated before each use, by a date
	volatile                 // must not be stored
	mute                     // has no field that a cache could use
	unpromised               // has an old date and no lifetime: a cache may guess one
)

// resource is a resource of the origin of a trace.
type resource struct {
	policy   policy
	size     int64
	variants []string // values of Accept that select one; empty if it is always the same
	personal bool     // differs for each token
	changes  []int    // the steps at which it gets a new version
}

// version returns the version of r at a step.
func (r *resource) version(step int) (v int) {
	for _, at := range r.changes {
		if at <= step {
			v++
		}
	}
	return v
}

// visit is one request of a trace. The request tells the origin the step, which
// determines the versions.
type visit struct {
	step      int
	resource  int
	accept    string
	token     string
	directive string // Cache-Control of the request
	patch     bool   // changes the resource instead of getting it
}

// trace is the requests of some processes. It has phases, each with a script
// for every process.
type trace struct {
	resources []resource
	phases    [][][]visit
}

// content returns the body that a visit must get, if its resource has this
// version.
func (t *trace) content(v visit, version int) content {
	r := &t.resources[v.resource]
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d", v.resource, version)
	if len(r.variants) > 0 {
		io.WriteString(h, " "+v.accept)
	}
	if r.personal {
		io.WriteString(h, " "+v.token)
	}
	// Versions differ in length, as real ones do.
	return content{h.Sum64(), r.size + int64(version)*17}
}

// ideal returns how much an ideal cache transfers: bytes of content, and
// requests to the origin. Such a cache keeps all that it may, uses it whenever
// allowed, and otherwise only validates. Processes in the same phase do not see
// each other's new responses; no trace lets two of them get the same thing
// first.
func (t *trace) ideal() (bytes, requests int64) {
	type variant struct {
		resource      int
		accept, token string
	}
	held := make(map[variant]int)
	for _, phase := range t.phases {
		for _, script := range phase {
			for _, v := range script {
				r := &t.resources[v.resource]
				if v.patch {
					requests++
					continue
				}
				key := variant{resource: v.resource}
				if len(r.variants) > 0 {
					key.accept = v.accept
				}
				if r.personal {
					key.token = v.token
				}
				version := r.version(v.step)
				have, ok := held[key]
				ok = ok && have == version && r.policy != volatile && r.policy != mute
				if !ok || r.policy != lasting {
					requests++
				}
				if !ok {
					bytes += t.content(v, version).size
					held[key] = version
				}
			}
		}
	}
	return bytes, requests
}

const stepField = "X-Step"

// tracesByName makes the traces, the same in each process.
var tracesByName = map[string]func() *trace{
	"sdk":     sdkTrace,
	"crawler": func() *trace { return crawlerTrace("max-age=0") },
	"recrawl": func() *trace { return crawlerTrace("") },
	"cli":     cliTrace,
}

const (
	json_ = "application/json"
	raw   = "application/vnd.example.raw"
	diff  = "application/vnd.example.diff"
)

// sdkTrace is a client library for an API. It lists and gets, polls for
// changes, requests some resources in several media types and for two users in
// turn, and changes a few.
func sdkTrace() *trace {
	r := rand.New(rand.NewPCG(1, 1))
	t := &trace{}
	var script []visit
	const steps = 1200
	for i := range 60 {
		res := resource{policy: []policy{lasting, tagged, tagged, dated}[i%4], size: 400 + int64(r.IntN(20_000))}
		switch {
		case i%5 == 0:
			res.variants = []string{json_, raw, diff}
		case i%7 == 0:
			res.personal = true
		case i%29 == 1:
			res.policy = volatile
		}
		if res.policy == tagged || res.policy == dated {
			for at := 100 + r.IntN(400); at < steps; at += 150 + r.IntN(600) {
				res.changes = append(res.changes, at)
			}
		}
		t.resources = append(t.resources, res)
	}
	zipf := rand.NewZipf(r, 1.2, 3, uint64(len(t.resources)-1))
	for step := range steps {
		v := visit{step: step, resource: int(zipf.Uint64()), accept: json_, token: "alice"}
		res := &t.resources[v.resource]
		if len(res.variants) > 0 {
			v.accept = res.variants[r.IntN(len(res.variants))]
		}
		if res.personal {
			v.token = []string{"alice", "bob"}[r.IntN(2)]
		}
		if res.policy == lasting && len(res.variants) == 0 && !res.personal && r.IntN(12) == 0 {
			v.patch = true
			res.changes = append(res.changes, step)
		}
		script = append(script, v)
	}
	t.phases = [][][]visit{{script}}
	return t
}

// crawlerTrace visits a site four times and wants the current version of every
// page. It says so with the directive. If that is empty, it relies on the
// origin, and a cache may take pages with an old date and no lifetime for
// fresh.
func crawlerTrace(directive string) *trace {
	r := rand.New(rand.NewPCG(2, 2))
	t := &trace{}
	for i := range 200 {
		p := []policy{tagged, dated, unpromised, tagged, unpromised, dated, tagged, mute}[i%8]
		t.resources = append(t.resources, resource{policy: p, size: 2_000 + int64(r.IntN(60_000))})
	}
	pages := len(t.resources)
	for range 30 {
		t.resources = append(t.resources, resource{policy: lasting, size: 5_000 + int64(r.IntN(200_000))})
	}
	var script []visit
	step := 0
	for pass := range 4 {
		for _, i := range r.Perm(pages) {
			step++
			if pass > 0 && t.resources[i].policy != mute && r.IntN(6) == 0 {
				t.resources[i].changes = append(t.resources[i].changes, step)
			}
			script = append(script, visit{step: step, resource: i, accept: "text/html", directive: directive})
			if r.IntN(3) == 0 {
				step++
				script = append(script, visit{step: step, resource: pages + r.IntN(30), accept: "*/*"})
			}
		}
	}
	t.phases = [][][]visit{{script}}
	return t
}

// cliTrace is a command that is run again and again, by four processes at a
// time on one directory. In one phase each gets resources that the others do
// not. In the next phase all get everything.
func cliTrace() *trace {
	const processes = 4
	r := rand.New(rand.NewPCG(3, 3))
	t := &trace{}
	for i := range 60 {
		res := resource{policy: []policy{lasting, tagged, dated}[i%3], size: 500 + int64(r.IntN(30_000))}
		if i%10 == 9 {
			res.size = 1<<20 + int64(r.IntN(1<<20))
		}
		if i%7 == 3 {
			res.variants = []string{json_, raw}
		}
		t.resources = append(t.resources, res)
	}
	accepts := func(i int) []string {
		if v := t.resources[i].variants; len(v) > 0 {
			return v
		}
		return []string{json_}
	}
	for round := range 3 {
		step := 10 * round
		if round > 0 {
			for i := range t.resources {
				if res := &t.resources[i]; res.policy != lasting && r.IntN(3) == 0 {
					res.changes = append(res.changes, step)
				}
			}
		}
		first := make([][]visit, processes)
		second := make([][]visit, processes)
		for p := range processes {
			for _, i := range r.Perm(len(t.resources)) {
				for _, accept := range accepts(i) {
					v := visit{step: step, resource: i, accept: accept}
					if (i+round)%processes == p {
						first[p] = append(first[p], v)
					}
					v.step = step + 1
					second[p] = append(second[p], v)
				}
			}
		}
		t.phases = append(t.phases, first, second)
	}
	return t
}

// serveTrace answers a request of a trace. The path has the name of the trace
// and the number of the resource.
func serveTrace(w http.ResponseWriter, req *http.Request, path []string, tally *tally) {
	t := traceOf(path[0])
	i, err1 := strconv.Atoi(path[1])
	step, err2 := strconv.Atoi(req.Header.Get(stepField))
	if t == nil || err1 != nil || err2 != nil || i < 0 || i >= len(t.resources) {
		http.NotFound(w, req)
		return
	}
	if req.Method != http.MethodGet {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	r := &t.resources[i]
	version := r.version(step)
	v := visit{resource: i, accept: req.Header.Get("Accept"), token: req.Header.Get("Authorization")}
	c := t.content(v, version)
	h := w.Header()
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Content-Length"] = []string{strconv.FormatInt(c.size, 10)}
	if len(r.variants) > 0 {
		h.Add("Vary", "Accept")
	}
	if r.personal {
		h.Add("Vary", "Authorization")
	}
	tag := fmt.Sprintf(`"%x"`, c.seed)
	date := traceDate.Add(time.Duration(version) * time.Hour).Format(http.TimeFormat)
	notModified := false
	switch r.policy {
	case lasting:
		h["Cache-Control"] = []string{"private, max-age=31536000"}
		h["Etag"] = []string{tag}
		notModified = namesTag(req, tag)
	case tagged:
		h["Cache-Control"] = []string{"private, no-cache"}
		h["Etag"] = []string{tag}
		notModified = namesTag(req, tag)
	case dated:
		h["Cache-Control"] = []string{"private, no-cache"}
		h["Last-Modified"] = []string{date}
		notModified = req.Header.Get("If-Modified-Since") == date
	case unpromised:
		h["Last-Modified"] = []string{date}
		notModified = req.Header.Get("If-Modified-Since") == date
	case volatile:
		h["Cache-Control"] = []string{"no-store"}
	}
	if notModified {
		tally.notModified.Add(1)
		delete(h, "Content-Length")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	tally.send(w, c)
}

// namesTag reports whether If-None-Match names a tag.
func namesTag(req *http.Request, tag string) bool {
	for _, line := range req.Header["If-None-Match"] {
		for member := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(member) == tag {
				return true
			}
		}
	}
	return false
}

// traceDate is the date of the first versions.
var traceDate = time.Date(2025, 11, 3, 9, 0, 0, 0, time.UTC)

// traceOf returns the trace with a name, or nil. It returns the same one each
// time.
func traceOf(name string) *trace {
	tracesMu.Lock()
	defer tracesMu.Unlock()
	if t := traces[name]; t != nil {
		return t
	}
	if tracesByName[name] == nil {
		return nil
	}
	traces[name] = tracesByName[name]()
	return traces[name]
}

var (
	tracesMu sync.Mutex
	traces   = make(map[string]*trace)
)
