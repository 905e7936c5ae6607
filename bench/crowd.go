package main

import (
	"errors"
	"hash/crc32"
	"io"
	"math"
	"runtime"
	"sync"
	"time"
)

// A crowd: many readers at once of a large body that nobody has yet.

type crowdContestant struct {
	*storeSource
	bufs [][]byte
}

func init() {
	contestants["crowd"] = func(j *job) (contestant, error) {
		s, err := openStore(j, nil)
		c := &crowdContestant{storeSource: s, bufs: make([][]byte, j.Clients)}
		for i := range c.bufs {
			c.bufs[i] = make([]byte, readSize)
		}
		return c, err
	}
}

// measure lets all readers get a new body at once. The limit reads a file that
// was just written. The time of verification, which all have, is measured on
// its own and subtracted: among so many goroutines, a clock would count
// waiting.
func (c *crowdContestant) measure(int) sample {
	s := sample{Values: make(map[string]float64), Forwarded: 1}
	o := c.batch(1, c.job.Size, freshKind)[0]
	path := shardPath(c.job.Dir, o.body.seed)
	switch c.job.Subject {
	case limit:
		s.Forwarded = 0
		if err := writeFile(path, o.body.content); err != nil {
			s.fault(err)
			return s
		}
	case noCache:
		s.Forwarded = len(c.bufs)
	}
	errs := make([]error, len(c.bufs))
	gate := make(chan struct{})
	var all sync.WaitGroup
	for i, buf := range c.bufs {
		mine := order{o.req.Clone(o.req.Context()), o.body}
		open := func() (io.ReadCloser, error) { return c.begin(mine) }
		if c.job.Subject == limit {
			open = func() (io.ReadCloser, error) {
				f, size, err := openRaw(path)
				return &sizedFile{f, size}, err
			}
		}
		all.Go(func() {
			<-gate
			errs[i] = readVerifying(open, buf, &mine.body)
		})
	}
	var w watch
	w.startBoth()
	close(gate)
	all.Wait()
	w.stopBoth()
	for _, err := range errs {
		s.fault(err)
	}
	s.fault(c.isStored(o, c.bufs[0]))
	s.fault(c.forgetAll([]order{o}))
	verifying := float64(len(c.bufs)) * float64(checksumTime(c.bufs[0], c.job.Size))
	s.Values["time"] = float64(w.sum) - verifying/float64(min(runtime.GOMAXPROCS(0), len(c.bufs)))
	s.Values["processor"] = float64(w.processor) - verifying
	return s
}

// checksumTime returns how long the checksum of size bytes takes, in pieces of
// the size of buf.
func checksumTime(buf []byte, size int64) time.Duration {
	best := time.Duration(math.MaxInt64)
	for range 5 {
		start := time.Now()
		var sum uint32
		for n := int64(0); n < size; n += int64(len(buf)) {
			sum = crc32.Update(sum, castagnoli, buf)
		}
		best = min(best, time.Since(start))
		runtime.KeepAlive(sum)
	}
	return best
}

// readVerifying reads a body to its end.
func readVerifying(open func() (io.ReadCloser, error), buf []byte, b *body) error {
	r, err := open()
	if err != nil {
		return err
	}
	var n int64
	var sum uint32
	for err == nil {
		var m int
		m, err = r.Read(buf)
		n += int64(m)
		sum = crc32.Update(sum, castagnoli, buf[:m])
	}
	if err == io.EOF {
		err = b.verify(n, sum)
	}
	return errors.Join(err, r.Close())
}

func (c *crowdContestant) close() error {
	return (&missContestant{storeSource: c.storeSource}).close()
}
