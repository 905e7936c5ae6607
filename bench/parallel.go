package main

import (
	"context"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// Many at a time: hits by many goroutines, hits beside large stores, and a
// herd.

// zipfSkew makes a hundredth of the entries get about two thirds of the
// requests.
const zipfSkew = 1.1

type parallelContestant struct {
	clients []*zipfClient
	close_  func() error
	passed  bool // the requests go to the origin
}

// zipfClient is one goroutine's share.
type zipfClient struct {
	*source
	zipf *rand.Zipf
	buf  []byte
	took []time.Duration
	sample
}

func init() {
	contestants["parallel"] = func(j *job) (contestant, error) {
		s, err := openFilled(j, resources(j.Count, j.Size, 0))
		if err != nil {
			return nil, err
		}
		p := &parallelContestant{close_: s.close, passed: j.Subject == noCache}
		for i := range j.Clients {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			p.clients = append(p.clients, &zipfClient{
				source: s.fork(),
				zipf:   rand.NewZipf(r, zipfSkew, 1, uint64(j.Count-1)),
				buf:    make([]byte, j.Size+8),
			})
		}
		return p, nil
	}
}

// fork returns a source for another goroutine, because two goroutines must not
// use the same requests at a time.
func (s *source) fork() *source {
	if s.forked == nil {
		return s
	}
	return s.forked()
}

func (p *parallelContestant) measure(n int) sample {
	each := max(n/len(p.clients), 1)
	s := sample{Values: make(map[string]float64)}
	for _, c := range p.clients {
		c.took = make([]time.Duration, 0, each)
		c.sample = sample{}
	}
	var all sync.WaitGroup
	m := startMeter()
	var w watch
	w.startBoth()
	for _, c := range p.clients {
		all.Go(func() { c.run(each) })
	}
	all.Wait()
	w.stopBoth()
	n = each * len(p.clients)
	m.stop(&s, n)
	var times []time.Duration
	for _, c := range p.clients {
		times = append(times, c.took...)
		s.Wrong += c.Wrong
		s.Errors += c.Errors
		if s.First == "" {
			s.First = c.First
		}
	}
	if p.passed {
		s.Forwarded = n
	}
	w.note(&s, n)
	s.Values["p99"] = percentile(times, 99)
	return s
}

// run reads n bodies. It verifies each at once, which costs all subjects the
// same.
func (c *zipfClient) run(n int) {
	for range n {
		i := int(c.zipf.Uint64())
		start := time.Now()
		got, err := c.fetch(i, c.buf)
		c.took = append(c.took, time.Since(start))
		if err == nil {
			err = c.bodies[i].verify(int64(got), crc32.Checksum(c.buf[:got], castagnoli))
		}
		c.fault(err)
	}
}

func (p *parallelContestant) close() error { return p.close_() }

// besideContestant measures hits while large bodies are stored and one trickles
// in.
type besideContestant struct {
	job   *job
	hits  *source
	store *storeSource
	slots *slots
}

const (
	besideStore = 16 << 20
	besideEvery = 100 * time.Millisecond // the same load for all subjects
	besideHits  = time.Millisecond       // between hits, so that they sample the whole time evenly
)

func init() {
	contestants["beside"] = func(j *job) (contestant, error) {
		bodies := resources(j.Count, j.Size, 1<<32)
		store, err := openStore(j, nil)
		if err != nil {
			return nil, err
		}
		b := &besideContestant{job: j, store: store, slots: newSlots(j.Size)}
		if j.Subject == limit {
			b.hits, err = fileSource(j.Dir, bodies)
			return b, err
		}
		hits := *j
		hits.Tag = hitsTag(j.Tag) // hits are counted apart from stored bodies
		if b.hits, err = cacheSource(store.cache, &hits, freshKind, bodies); err != nil {
			return nil, err
		}
		return b, b.hits.warm()
	}
}

func hitsTag(tag string) string { return tag + ".hits" }

func (b *besideContestant) measure(int) sample {
	s := sample{Values: make(map[string]float64)}
	ctx, cancel := context.WithCancel(context.Background())
	var background sync.WaitGroup
	var stores sample
	var orders []order
	var took watch
	background.Go(func() { orders, took = b.storeMany(ctx, &stores) })
	background.Go(func() { b.trickle(ctx) })

	h := hitContestant{source: b.hits, slots: b.slots}
	times := paced(b.job.Time, besideHits, func() time.Duration { return h.run(1, &s).sum })
	hits := len(times)
	cancel()
	background.Wait()
	stores.fault(b.store.isStored(orders[len(orders)-1], make([]byte, readSize)))
	stores.fault(b.store.forgetAll(orders))
	s.Errors += stores.Errors
	s.Wrong += stores.Wrong
	if s.First == "" {
		s.First = stores.First
	}
	if b.job.Subject == noCache {
		s.Forwarded = hits
	}
	s.Values["p50"] = percentile(times, 50)
	s.Values["p99"] = percentile(times, 99)
	s.Values["stores"] = float64(len(orders))
	s.Values["store"] = float64(took.sum) / float64(len(orders))
	return s
}

// paced calls a function at regular intervals for some time, and returns the
// duration of each call. A call that starts late counts from the time when it
// was due. So one long call counts as often as the calls that it delayed.
func paced(during, every time.Duration, do func() time.Duration) (times []time.Duration) {
	due := time.Now()
	for end := due.Add(during); due.Before(end); due = due.Add(every) {
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
			due = time.Now() // the delay of a timer does not count
		}
		late := time.Since(due)
		times = append(times, late+do())
	}
	return times
}

// storeMany stores large bodies, at least one, until ctx ends.
func (b *besideContestant) storeMany(ctx context.Context, s *sample) (orders []order, w watch) {
	buf := make([]byte, readSize)
	tick := time.NewTicker(besideEvery)
	defer tick.Stop()
	for len(orders) == 0 || ctx.Err() == nil {
		o := b.store.batch(1, besideStore, freshKind)[0]
		orders = append(orders, o)
		s.fault(b.store.get(o, &w, buf))
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return orders, w
}

// trickle reads a slow body until ctx ends.
func (b *besideContestant) trickle(ctx context.Context) {
	o := b.store.trickling()
	o.req = o.req.WithContext(ctx)
	r, err := b.store.begin(o)
	if err != nil {
		return // ctx ended before the response came
	}
	io.Copy(io.Discard, r) // ends with ctx
	r.Close()
}

func (b *besideContestant) close() error {
	return (&missContestant{storeSource: b.store}).close()
}

// trickling returns an order for a body that takes longer than any measurement.
func (s *storeSource) trickling() order {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow++
	c := content{seed: 1<<40 + uint64(s.slow), size: 64 << 20}
	req, err := newRequest(resourceURL(s.job.Origin, s.job.Tag, trickleKind, c))
	if err != nil {
		panic(err) // the origin's address is no URL
	}
	return order{req, body{content: c}}
}

// herdContestant sends the same request many times at once.
type herdContestant struct {
	*storeSource
}

func init() {
	contestants["herd"] = func(j *job) (contestant, error) {
		s, err := openStore(j, nil)
		return &herdContestant{s}, err
	}
}

func (h *herdContestant) measure(int) sample {
	s := sample{Values: make(map[string]float64), Forwarded: -1}
	orders := make([]order, h.job.Clients)
	orders[0] = h.batch(1, h.job.Size, slowKind)[0]
	for i := range orders {
		orders[i] = order{orders[0].req.Clone(context.Background()), orders[0].body}
	}
	var all sync.WaitGroup
	errs := make([]error, len(orders))
	gate := make(chan struct{})
	for i, o := range orders {
		all.Go(func() {
			<-gate
			errs[i] = h.get(o, nil, make([]byte, 32<<10))
		})
	}
	start := time.Now()
	close(gate)
	all.Wait()
	s.Values["time"] = float64(time.Since(start))
	for _, err := range errs {
		s.fault(err)
	}
	return s
}

func (h *herdContestant) close() error {
	return (&missContestant{storeSource: h.storeSource}).close()
}
