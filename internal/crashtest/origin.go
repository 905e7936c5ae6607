package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// This file is the origin. The bytes of a resource follow from its name and
// version, so that a receiver can check each byte.

// resource is one of the origin's resources.
type resource struct {
	size   int64 // of the first version; other versions have similar sizes, unless exact is set
	exact  bool
	maxAge int // seconds
	vary   bool
}

// variants are the values of the request field that some resources vary on.
// Other resources have only the first.
var variants = []string{"a", "b", "c"}

// variantField is the name of that request field.
const variantField = "X-Variant"

// Fields of the origin's responses.
const (
	versionField = "X-Version" // resource, variant and version of the content
	cutField     = "X-Cut"     // "1" if the origin will break off before the end
	requestField = "X-Request" // repeats the number of the request
)

// catalogue returns the origin's resources. Many are small. Some have a size
// just below or above a threshold of the store, and some take a large part of a
// small cache.
func catalogue() []resource {
	var rs []resource
	add := func(n int, size int64, exact bool) {
		for range n {
			i := len(rs)
			rs = append(rs, resource{size: size, exact: exact, maxAge: []int{1, 2, 4, 0}[i%4], vary: i%3 == 0})
		}
	}
	for range 5 {
		add(1, 0, true)
		add(1, 1, true)
		add(14, 700, false)
		add(6, 5000, false)
		for _, boundary := range []int64{16 << 10, 64 << 10, 128 << 10, 256 << 10} {
			add(1, boundary-1, true)
			add(1, boundary, true)
			add(1, boundary+1, true)
		}
		add(2, 100<<10, false)
		add(2, 1<<20, false)
		add(1, 3<<20, false)
	}
	return rs
}

// representation is one version of a resource, for one variant.
type representation struct {
	resource int
	variant  string
	version  int
}

func (r representation) String() string {
	return fmt.Sprintf("%d/%s/%d", r.resource, r.variant, r.version)
}

// parseRepresentation is the inverse of String.
func parseRepresentation(s string) (r representation, err error) {
	a, rest, _ := cutByte(s, '/')
	b, c, ok := cutByte(rest, '/')
	if !ok {
		return r, fmt.Errorf("%q names no representation", s)
	}
	if r.resource, err = strconv.Atoi(a); err != nil {
		return r, err
	}
	r.variant = b
	r.version, err = strconv.Atoi(c)
	return r, err
}

func cutByte(s string, c byte) (before, after string, found bool) {
	for i := range len(s) {
		if s[i] == c {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

func (r representation) etag() string { return `"` + r.String() + `"` }

func (r representation) seed() uint64 {
	h := fnv.New64a()
	io.WriteString(h, r.String())
	return h.Sum64()
}

// length returns how many bytes the representation has.
func (r representation) length(rs []resource) int64 {
	size := rs[r.resource].size
	if rs[r.resource].exact {
		return size
	}
	return size + int64(mix(r.seed())%uint64(size/8+1))
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fill fills p with the bytes of the representation from offset on.
func (r representation) fill(p []byte, offset int64) {
	seed := r.seed()
	var word [8]byte
	for i := 0; i < len(p); {
		at := offset + int64(i)
		w := mix(seed + uint64(at/8))
		if at%8 == 0 && len(p)-i >= 8 {
			binary.LittleEndian.PutUint64(p[i:], w)
			i += 8
			continue
		}
		binary.LittleEndian.PutUint64(word[:], w)
		i += copy(p[i:], word[at%8:])
	}
}

// origin serves the resources and changes them. It records when each version
// became current.
type origin struct {
	resources []resource
	server    *http.Server
	url       string

	mu     sync.Mutex
	rand   *rand.Rand
	starts [][]int64 // of each version of each resource, in nanoseconds since 1970; versions count from 1
	counts originCounts
}

type originCounts struct {
	requests, notModified, partial, posts, cut int64
	bytes                                      int64
}

// startOrigin makes an origin that listens on the loopback interface.
func startOrigin(seed uint64) (*origin, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{resources: catalogue(), rand: rand.New(rand.NewPCG(seed, 0x0419)), url: "http://" + listener.Addr().String()}
	o.starts = make([][]int64, len(o.resources))
	now := time.Now().UnixNano()
	for i := range o.starts {
		o.starts[i] = []int64{now}
	}
	o.server = &http.Server{Handler: o}
	go o.server.Serve(listener)
	return o, nil
}

func (o *origin) close() { o.server.Close() }

// change starts a new version of a random resource.
func (o *origin) change() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bump(o.rand.IntN(len(o.resources)))
}

// bump ends the current version of a resource. The caller holds mu.
func (o *origin) bump(resource int) (version int) {
	o.starts[resource] = append(o.starts[resource], time.Now().UnixNano())
	return len(o.starts[resource])
}

// lifetime returns when a version became current, and when it ended; end is 0
// if it is still current.
func (o *origin) lifetime(resource, version int) (start, end int64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	starts := o.starts[resource]
	if version < 1 || version > len(starts) {
		return 0, 0, false
	}
	if version < len(starts) {
		end = starts[version]
	}
	return starts[version-1], end, true
}

// mood is how the origin treats a request. No mood may change the outcome.
type mood struct {
	before, after time.Duration // delays before and after the version is chosen
	piece         time.Duration // the delay before each piece of the content
	cut           bool          // whether the response breaks off
	cutAt         float64
	ranges        bool // whether the response has Accept-Ranges
}

func (o *origin) mood() mood {
	o.mu.Lock()
	defer o.mu.Unlock()
	var m mood
	wait := func(share float64, most time.Duration) time.Duration {
		if o.rand.Float64() < share {
			return time.Duration(o.rand.Int64N(int64(most)))
		}
		return 0
	}
	m.before = wait(.05, 20*time.Millisecond)
	m.after = wait(.1, 40*time.Millisecond) + wait(.01, time.Second)
	m.piece = wait(.2, 10*time.Millisecond)
	m.cut = o.rand.Float64() < .01
	m.cutAt = o.rand.Float64()
	m.ranges = o.rand.Float64() < .8
	return m
}

// ServeHTTP answers by the rules of HTTP, with the help of net/http.
func (o *origin) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	index, err := strconv.Atoi(req.URL.Path[1:])
	if err != nil || index < 0 || index >= len(o.resources) {
		http.NotFound(w, req)
		return
	}
	m := o.mood()
	time.Sleep(m.before)

	// Version and date are read together, because caches rely on the origin's
	// dates.
	o.mu.Lock()
	r := representation{index, variants[0], len(o.starts[index])}
	o.counts.requests++
	if req.Method == http.MethodPost {
		r.version = o.bump(index)
		o.counts.posts++
	}
	now := time.Now()
	o.mu.Unlock()

	h := w.Header()
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	if o.resources[index].vary {
		h.Set("Vary", variantField)
		r.variant = req.Header.Get(variantField)
	}
	h.Set(versionField, r.String())
	h.Set(requestField, req.Header.Get(requestField))
	if req.Method == http.MethodPost {
		time.Sleep(m.after)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h.Set("ETag", r.etag())
	h.Set("Cache-Control", "max-age="+strconv.Itoa(o.resources[index].maxAge))
	h.Set("Content-Type", "application/octet-stream")
	h.Set(cutField, "0")
	content := &generated{representation: r, size: r.length(o.resources), end: -1, pause: m.piece}
	if m.cut && req.Method == http.MethodGet && content.size > 1 {
		h.Set(cutField, "1")
		content.end = int64(m.cutAt * float64(content.size))
	}
	time.Sleep(m.after)
	out := &countingWriter{ResponseWriter: w, keepRanges: m.ranges}
	http.ServeContent(out, req, "", time.Time{}, content)
	o.mu.Lock()
	o.counts.bytes += out.bytes
	switch out.status {
	case http.StatusNotModified:
		o.counts.notModified++
	case http.StatusPartialContent:
		o.counts.partial++
	}
	if content.broken {
		o.counts.cut++
	}
	o.mu.Unlock()
	if content.broken {
		http.NewResponseController(w).Flush() // the header arrives at least
		panic(http.ErrAbortHandler)
	}
}

// countingWriter counts what ServeContent writes.
type countingWriter struct {
	http.ResponseWriter
	status     int
	bytes      int64
	keepRanges bool
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	if !w.keepRanges {
		w.Header().Del("Accept-Ranges")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// generated is the content of a representation, for ServeContent.
type generated struct {
	representation
	size     int64
	position int64
	end      int64 // where the content breaks off; negative if it does not
	broken   bool
	pause    time.Duration
}

var errCut = errors.New("crashtest: the origin breaks off")

func (g *generated) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += g.position
	case io.SeekEnd:
		offset += g.size
	}
	g.position = offset
	return offset, nil
}

func (g *generated) Read(p []byte) (int, error) {
	switch {
	case g.position >= g.size:
		return 0, io.EOF
	case g.end >= 0 && g.position >= g.end:
		g.broken = true
		return 0, errCut
	}
	stop := g.size
	if g.end >= 0 {
		stop = g.end
	}
	p = p[:min(int64(len(p)), stop-g.position)]
	time.Sleep(g.pause)
	g.fill(p, g.position)
	g.position += int64(len(p))
	return len(p), nil
}
