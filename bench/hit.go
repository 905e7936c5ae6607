package main

import (
	"hash/crc32"
	"io"
	"net/http"
)

// Hits.

const (
	// slotBytes is how many bytes of small bodies are read before the clock
	// stops and they are verified. They fit into the cache of a core.
	slotBytes = 512 << 10

	// readSize is the size of the pieces in which a large body is read. The
	// clock stands still while a piece is verified. Plain files are read
	// fastest with pieces of this size or more.
	readSize = 128 << 10

	// smallSize is the largest body that is read whole before it is verified.
	smallSize = slotBytes
)

// slots has room for bodies that were read and not yet verified.
type slots struct {
	room [][]byte
	got  []int
	errs []error
}

func newSlots(size int64) *slots {
	n := min(max(int(slotBytes/size), 1), 512)
	s := &slots{room: make([][]byte, n), got: make([]int, n), errs: make([]error, n)}
	for i := range s.room {
		s.room[i] = make([]byte, size+8)
	}
	return s
}

// verify verifies the content of slot i, and clears it.
func (s *slots) verify(i int, b *body) error {
	got, err := s.room[i][:s.got[i]], s.errs[i]
	if err == nil {
		err = b.verify(int64(len(got)), crc32.Checksum(got, castagnoli))
	}
	clear(got[:min(len(got), 64)]) // so that an old body is not taken for a new one
	s.got[i], s.errs[i] = 0, nil
	return err
}

// hitContestant reads the same bodies again and again.
type hitContestant struct {
	*source
	slots *slots
	buf   []byte
	next  int
}

func init() {
	contestants["hit"] = func(j *job) (contestant, error) {
		s, err := openSource(j, freshKind)
		if err != nil {
			return nil, err
		}
		return newHitContestant(s, j), nil
	}
	contestants["memory"] = func(j *job) (contestant, error) {
		if j.Subject != limit {
			return contestants["hit"](j)
		}
		s, err := mapSource(j, resources(j.Count, j.Size, j.First))
		if err != nil {
			return nil, err
		}
		return newHitContestant(s, j), nil
	}
	contestants["reopened"] = newReopenedContestant
	contestants["first"] = func(j *job) (contestant, error) {
		s, err := openSource(j, freshKind)
		return &firstContestant{s, make([]byte, readSize), j}, err
	}
}

func newHitContestant(s *source, j *job) *hitContestant {
	h := &hitContestant{source: s}
	if j.Size <= smallSize {
		h.slots = newSlots(j.Size)
	} else {
		h.buf = make([]byte, readSize)
	}
	return h
}

func (h *hitContestant) measure(n int) sample {
	s := sample{Values: make(map[string]float64)}
	m := startMeter()
	w := h.run(n, &s)
	m.stop(&s, n)
	w.note(&s, n)
	if h.passed {
		s.Forwarded = n
	}
	return s
}

// run reads n bodies and verifies them.
func (h *hitContestant) run(n int, s *sample) (w watch) {
	if h.slots == nil {
		for range n {
			b := &h.bodies[h.next]
			w.start()
			body, err := h.open(h.next)
			w.stop()
			if err == nil {
				err = drain(&w, body, h.buf, b)
				w.start()
				body.Close()
				w.stop()
			}
			s.fault(err)
			h.next = (h.next + 1) % len(h.bodies)
		}
		return w
	}
	for done := 0; done < n; {
		k := min(n-done, len(h.slots.room))
		first := h.next
		w.startBoth()
		for i := range k {
			h.slots.got[i], h.slots.errs[i] = h.fetch(h.next, h.slots.room[i])
			if h.next++; h.next == len(h.bodies) {
				h.next = 0
			}
		}
		w.stopBoth()
		for i := range k {
			s.fault(h.slots.verify(i, &h.bodies[(first+i)%len(h.bodies)]))
		}
		done += k
	}
	return w
}

func (h *hitContestant) close() error { return h.source.close() }

// reopenedContestant reads each body once after the cache was opened. The
// opening is not measured.
type reopenedContestant struct {
	job    *job
	bodies []body
	reqs   []*http.Request // made once, so that no cache pays for the garbage
	files  *source         // of the limit
	slots  *slots
}

func newReopenedContestant(j *job) (contestant, error) {
	s, err := openSource(j, freshKind)
	if err != nil {
		return nil, err
	}
	r := &reopenedContestant{job: j, bodies: s.bodies, slots: newSlots(j.Size)}
	if j.Subject == limit {
		r.files = s
		return r, nil
	}
	if r.reqs, err = requests(j, freshKind, s.bodies); err != nil {
		return nil, err
	}
	return r, s.close()
}

func (r *reopenedContestant) measure(n int) sample {
	s := sample{Values: make(map[string]float64)}
	var w watch
	var m meter
	for range n {
		from := r.files
		if from == nil {
			c, err := openCache(r.job.Subject, r.job.Dir, newBase(), r.job.Bound)
			if err != nil {
				s.fault(err)
				continue
			}
			from = requestSource(c, r.reqs, r.bodies)
		}
		h := hitContestant{source: from, slots: r.slots}
		m = startMeter()
		one := h.run(len(r.bodies), &s)
		w.sum += one.sum
		w.processor += one.processor
		m.stop(&s, len(r.bodies))
		s.fault(from.close())
	}
	w.note(&s, n*len(r.bodies))
	return s
}

func (r *reopenedContestant) close() error { return nil }

// firstContestant measures the time to the first bytes of a body.
type firstContestant struct {
	*source
	buf []byte
	job *job
}

func (f *firstContestant) measure(n int) sample {
	s := sample{Values: make(map[string]float64)}
	var w watch
	m := startMeter()
	for range n {
		w.start()
		body, err := f.open(0)
		if err != nil {
			w.stop()
			s.fault(err)
			continue
		}
		first, err := body.Read(f.buf[:firstSize])
		w.stop()
		if err == nil {
			sum := crc32.Checksum(f.buf[:first], castagnoli)
			err = drainRest(body, f.buf, &f.bodies[0], int64(first), sum)
		}
		s.fault(err)
		s.fault(body.Close())
	}
	m.stop(&s, n)
	w.note(&s, n)
	if f.passed {
		s.Forwarded = n
	}
	return s
}

// firstSize is the size of the first read of io.Copy.
const firstSize = 32 << 10

func drainRest(body io.Reader, buf []byte, b *body, n int64, sum uint32) error {
	for {
		m, err := body.Read(buf)
		n += int64(m)
		sum = crc32.Update(sum, castagnoli, buf[:m])
		if err == io.EOF {
			return b.verify(n, sum)
		}
		if err != nil {
			return err
		}
	}
}

func (f *firstContestant) close() error { return f.source.close() }
