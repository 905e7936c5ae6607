package main

import (
	"errors"
	"os"
	"time"
)

// Churn: many more small responses than the size limit allows.

type churnContestant struct {
	*storeSource
	slots *slots
}

func init() {
	contestants["churn"] = func(j *job) (contestant, error) {
		c := &churnContestant{slots: newSlots(j.Size)}
		s, err := openStore(j, localBase{})
		if err != nil {
			return nil, err
		}
		c.storeSource = s
		if !isPeer(j.Subject) { // which would only grow
			n := c.held() * 5 / 4
			var s sample
			for ; n > 0; n -= 1000 {
				c.run(c.batch(min(n, 1000), j.Size, freshKind), new(watch), &s)
			}
			if s.Errors+s.Wrong > 0 {
				return nil, errors.New(s.First)
			}
		}
		return c, nil
	}
}

// measure stores n bodies. It walks the directory ten times meanwhile, while
// the clock stands still.
func (c *churnContestant) measure(n int) sample {
	s := sample{Values: make(map[string]float64)}
	var w watch
	var largest int64
	var times []time.Duration
	done := 0
	for done < n && w.sum < c.most() {
		step := min((n+9)/10, n-done)
		for end := done + step; done < end; {
			k := min(len(c.slots.room), end-done)
			orders := c.batch(k, c.job.Size, freshKind)
			times = append(times, c.run(orders, &w, &s)...)
			done += k
			if c.job.Subject != limit && done == end {
				s.fault(c.isStored(orders[k-1], make([]byte, readSize)))
			}
		}
		if c.job.Subject == cachetripDisk || peerOnDisk(c.job.Subject) {
			size, _, err := walkSize(c.job.Dir)
			s.fault(err)
			largest = max(largest, size)
		}
	}
	w.note(&s, done)
	s.Values["p99"] = percentile(times, 99)
	if largest > 0 {
		s.Values["bound"] = float64(largest) / float64(c.job.Bound)
	}
	return s
}

// held is how many bodies the size limit allows.
func (c *churnContestant) held() int { return int(c.job.Bound / c.job.Size) }

// most is the time limit of a measurement.
func (c *churnContestant) most() time.Duration {
	if isPeer(c.job.Subject) {
		return c.job.Time
	}
	return 3 * c.job.Time
}

// run stores the bodies of orders, as many at a time as there are slots. It
// returns the time of each.
func (c *churnContestant) run(orders []order, w *watch, s *sample) []time.Duration {
	times := make([]time.Duration, 0, len(orders))
	for len(orders) > 0 {
		now := orders[:min(len(orders), len(c.slots.room))]
		orders = orders[len(now):]
		for i := range now {
			if c.job.Subject == limit { // the bytes to write are already in memory
				readAll(now[i].body.reader(), c.slots.room[i])
			}
		}
		w.startBoth()
		last := w.started
		for i, o := range now {
			c.slots.got[i], c.slots.errs[i] = c.put(o, c.slots.room[i])
			at := time.Now()
			times = append(times, at.Sub(last))
			last = at
		}
		w.stopBoth()
		for i := range now {
			s.fault(c.slots.verify(i, &now[i].body))
		}
	}
	return times
}

// put stores one body. For the limit, it creates a file, writes it, renames it,
// and removes the oldest file.
func (c *churnContestant) put(o order, p []byte) (int, error) {
	if c.job.Subject != limit {
		r, err := c.begin(o)
		if err != nil {
			return 0, err
		}
		n, err := readAll(r, p)
		return n, errors.Join(err, r.Close())
	}
	path := shardPath(c.job.Dir, o.body.seed)
	temp := path + ".tmp"
	n := int(o.body.size)
	if err := writeRaw(temp, p[:n]); err != nil {
		return 0, err
	}
	if err := os.Rename(temp, path); err != nil {
		return 0, err
	}
	// The seeds of bodies are consecutive numbers.
	if oldest := int64(o.body.seed) - int64(c.held()); oldest > int64(c.job.First) {
		return n, os.Remove(shardPath(c.job.Dir, uint64(oldest)))
	}
	return n, nil
}

func (c *churnContestant) close() error {
	return (&missContestant{storeSource: c.storeSource}).close()
}
