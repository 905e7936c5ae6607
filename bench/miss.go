package main

import (
	"errors"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"sync"
)

// Misses: each request is for a new body, which is stored while it is read.

// storeSource requests new bodies. The limit writes them to plain files.
type storeSource struct {
	job  *job
	base http.RoundTripper
	*cache
	below *switchBase // of the cache
	next  int

	mu   sync.Mutex
	slow int // trickling bodies so far
}

// openStore opens the job's subject, with its directories made. Its responses
// come from base, or from the origin if that is nil.
func openStore(j *job, base http.RoundTripper) (*storeSource, error) {
	var err error
	if base == nil {
		if base, err = j.base(); err != nil {
			return nil, err
		}
	}
	s := &storeSource{job: j, base: j.client(base), next: j.First}
	if j.Subject == limit {
		return s, makeDirs(j.Dir)
	}
	s.below = &switchBase{RoundTripper: localBase{}}
	if s.cache, err = openCache(j.Subject, j.Dir, s.below, j.Bound); err != nil {
		return nil, err
	}
	s.cache.RoundTripper = j.client(s.cache.RoundTripper)
	warm := 16
	if j.Subject == cachetripDisk && j.Kind == "miss" {
		warm = 2000 // uses nearly all of its 256 directories
	}
	for range warm {
		if err := s.get(s.batch(1, labelSize, freshKind)[0], nil, make([]byte, readSize)); err != nil {
			return nil, err
		}
	}
	s.below.RoundTripper = base
	return s, nil
}

// order is a request and its expected body.
type order struct {
	req  *http.Request
	body body
}

// batch makes n new orders.
func (s *storeSource) batch(n int, size int64, kind string) []order {
	orders := make([]order, n)
	for i, b := range resources(n, size, s.next) {
		req, err := newRequest(resourceURL(s.job.Origin, s.job.Tag, kind, b.content))
		if err != nil {
			panic(err) // the origin's address is no URL
		}
		orders[i] = order{req, b}
	}
	s.next += n
	return orders
}

// begin requests a body. The cache, or else begin, writes the body while it is
// read.
func (s *storeSource) begin(o order) (io.ReadCloser, error) {
	from := s.base
	if s.cache != nil {
		from = s.cache
	}
	resp, err := from.RoundTrip(o.req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, errors.New("status " + resp.Status)
	}
	if s.cache != nil {
		return resp.Body, nil
	}
	f, _, err := createFile(s.job.Dir, o.body.seed)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return &teeFile{resp.Body, f}, nil
}

// teeFile writes a body to a file while it is read, in pieces of the size of
// each read.
type teeFile struct {
	io.ReadCloser
	f *os.File
}

func (t *teeFile) Read(p []byte) (int, error) {
	n, err := io.ReadFull(t.ReadCloser, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	if n > 0 {
		if _, werr := t.f.Write(p[:n]); werr != nil {
			err = werr
		}
	}
	return n, err
}

func (t *teeFile) Close() error { return errors.Join(t.ReadCloser.Close(), t.f.Close()) }

// get gets a body and verifies it piece by piece. The watch, if any, stands
// still meanwhile.
func (s *storeSource) get(o order, w *watch, buf []byte) error {
	if w == nil {
		w = new(watch)
	}
	w.start()
	r, err := s.begin(o)
	w.stop()
	if err != nil {
		return err
	}
	err = drain(w, r, buf, &o.body)
	w.start()
	err = errors.Join(err, r.Close())
	w.stop()
	return err
}

// isStored reads a body again while the origin is out of reach.
func (s *storeSource) isStored(o order, buf []byte) error {
	switch s.job.Subject {
	case limit:
		return sameFile(shardPath(s.job.Dir, o.body.seed), &o.body)
	case noCache:
		return nil
	}
	s.below.refuse.Store(true)
	defer s.below.refuse.Store(false)
	return s.get(o, nil, buf)
}

// forgetAll removes stored bodies, to make room for more.
func (s *storeSource) forgetAll(orders []order) (err error) {
	for _, o := range orders {
		switch {
		case s.job.Subject == limit:
			err = errors.Join(err, os.Remove(shardPath(s.job.Dir, o.body.seed)))
		case s.forget != nil:
			err = errors.Join(err, s.forget(o.req.URL.String()))
		}
	}
	return err
}

type missContestant struct {
	*storeSource
	slots *slots
	buf   []byte
}

func init() {
	contestants["miss"] = func(j *job) (contestant, error) {
		s, err := openStore(j, nil)
		if err != nil {
			return nil, err
		}
		m := &missContestant{storeSource: s, buf: make([]byte, readSize)}
		if j.Subject == limit {
			m.buf = make([]byte, 256<<10) // no larger pieces help it
		}
		if j.Size <= smallSize {
			m.slots = newSlots(j.Size)
		}
		return m, nil
	}
}

func (m *missContestant) measure(n int) sample {
	s := sample{Values: make(map[string]float64), Forwarded: n}
	orders := m.batch(n, m.job.Size, freshKind)
	var w watch
	meter := startMeter()
	if m.slots == nil {
		for _, o := range orders {
			s.fault(m.get(o, &w, m.buf))
		}
	} else {
		m.small(orders, &w, &s)
	}
	meter.stop(&s, n)
	w.note(&s, n)
	for i := 0; i < n; i += max(n/8, 1) {
		s.fault(m.isStored(orders[i], m.buf))
	}
	if m.job.Size > 64<<10 && !m.job.Kept {
		s.fault(m.forgetAll(orders))
	}
	return s
}

// small gets bodies one after the other and verifies them when the clock stands
// still.
func (m *missContestant) small(orders []order, w *watch, s *sample) {
	for len(orders) > 0 {
		now := orders[:min(len(orders), len(m.slots.room))]
		orders = orders[len(now):]
		w.startBoth()
		for i, o := range now {
			r, err := m.begin(o)
			if err == nil {
				m.slots.got[i], err = readAll(r, m.slots.room[i])
				err = errors.Join(err, r.Close())
			}
			m.slots.errs[i] = err
		}
		w.stopBoth()
		for i := range now {
			s.fault(m.slots.verify(i, &now[i].body))
		}
	}
}

func (m *missContestant) close() error {
	if m.cache == nil {
		return nil
	}
	return m.cache.close()
}

// largeContestant sends a very large body through once as a miss and once as a
// hit.
type largeContestant struct{ *storeSource }

func init() {
	contestants["large"] = func(j *job) (contestant, error) {
		s := &storeSource{job: j, base: newBase(), next: j.First}
		var err error
		if j.Subject == limit {
			err = makeDirs(j.Dir)
		} else {
			s.cache, err = openCache(j.Subject, j.Dir, s.base, j.Bound)
		}
		return &largeContestant{s}, err
	}
}

func (l *largeContestant) measure(int) sample {
	s := sample{Values: make(map[string]float64), Forwarded: 1}
	o := l.batch(1, l.job.Size, freshKind)[0]
	buf := make([]byte, 32<<10) // as io.Copy does
	var miss, first, rest watch
	s.fault(l.get(o, &miss, buf))
	if l.job.Subject == noCache {
		s.Forwarded = 2
	}

	again := func() (io.ReadCloser, error) { return l.begin(o) }
	if l.job.Subject == limit {
		again = func() (io.ReadCloser, error) {
			f, _, err := openRaw(shardPath(l.job.Dir, o.body.seed))
			return f, err
		}
	}
	first.start()
	r, err := again()
	if err == nil {
		var n int
		n, err = r.Read(buf)
		first.stop()
		sum := crc32.Checksum(buf[:n], castagnoli)
		if err == nil {
			rest.start()
			err = drainRest(r, buf, &o.body, int64(n), sum)
			rest.stop()
		}
		err = errors.Join(err, r.Close())
	}
	s.fault(err)
	s.Values["time"] = float64(miss.sum)
	s.Values["first"] = float64(first.sum)
	s.Values["again"] = float64(first.sum + rest.sum)
	s.Values["memory"] = float64(peakMemory())
	return s
}

func (l *largeContestant) close() error { return (&missContestant{storeSource: l.storeSource}).close() }
