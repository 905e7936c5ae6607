package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/cachetrip/cachetrip"
)

// Many entries in one directory: the start of a process, its first hit, the
// removal of one URL, and a list of one host.

// hostsOf is how many hosts a number of entries is spread over: some thousand
// for each, and an even number.
func hostsOf(entries int) int { return 2 * max(entries/2_000, 1) }

func entryHost(n int) string { return fmt.Sprintf("host%d.example", n) }

// entriesContestant is a process that opens a directory that another has
// filled. Each of its operations is done once, because the second is faster.
type entriesContestant struct {
	job   *job
	cache *cache
	at    int // the entry to be hit
}

func init() {
	contestants["entries"] = func(j *job) (contestant, error) {
		e := &entriesContestant{job: j, at: j.First}
		j.First = 0
		if j.Subject == limit {
			return e, nil
		}
		var err error
		e.cache, err = openCache(j.Subject, j.Dir, refuser{}, j.Bound)
		return e, err
	}
}

func (e *entriesContestant) measure(int) sample {
	s := sample{Values: make(map[string]float64)}
	var hit, purge, list watch
	c := e.job.entry(e.at).body()
	buf := make([]byte, c.size+8)
	hit.start()
	n, err := e.fetch(e.at, buf)
	hit.stop()
	if err == nil {
		err = c.verify(int64(n), crc32.Checksum(buf[:n], castagnoli))
	}
	s.fault(err)

	gone := (e.at + 1) % e.job.Count // of the next host
	purge.start()
	err = e.remove(gone)
	purge.stop()
	s.fault(err)
	if _, err := e.fetch(gone, buf); err == nil {
		s.fault(wrongError{fmt.Errorf("entry %d is still there", gone)})
	}

	list.start()
	found, err := e.list()
	list.stop()
	s.fault(err)
	if want := e.ofHost(); found != want && err == nil {
		s.fault(wrongError{fmt.Errorf("%d entries of the host found instead of %d", found, want)})
	}
	s.Values["hit"] = float64(hit.sum)
	s.Values["purge"] = float64(purge.sum)
	s.Values["list"] = float64(list.sum)
	return s
}

// fetch reads the body of an entry.
func (e *entriesContestant) fetch(i int, buf []byte) (int, error) {
	if e.job.Subject == limit {
		f, size, err := openRaw(shardPath(e.job.Dir, e.job.entry(i).seed))
		if err != nil {
			return 0, err
		}
		n, err := f.Read(buf[:min(int64(len(buf)), size)])
		return n, errors.Join(err, f.Close())
	}
	req, err := newRequest(e.job.entryURL(i))
	if err != nil {
		return 0, err
	}
	resp, err := e.cache.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return 0, errors.New("status " + resp.Status)
	}
	n, err := readAll(resp.Body, buf)
	return n, errors.Join(err, resp.Body.Close())
}

// remove removes an entry.
func (e *entriesContestant) remove(i int) error {
	if e.job.Subject == limit {
		return os.Remove(shardPath(e.job.Dir, e.job.entry(i).seed))
	}
	return e.cache.forget(e.job.entryURL(i))
}

// list finds the entries of the host that measure hits.
func (e *entriesContestant) list() (found int, err error) {
	host := e.at % e.job.Hosts
	if e.job.Subject == limit {
		buf := make([]byte, e.job.Size+8)
		for i := host; i < e.job.Count; i += e.job.Hosts {
			if _, err := e.fetch(i, buf); err != nil {
				return found, err
			}
			found++
		}
		return found, nil
	}
	t, ok := e.cache.RoundTripper.(*cachetrip.Transport)
	if !ok {
		return 0, errors.New("this subject cannot list entries")
	}
	for _, err := range t.Entries(context.Background(), entryHost(host)+"/*") {
		if err != nil {
			return found, err
		}
		found++
	}
	return found, nil
}

// ofHost is how many entries of the host there are.
func (e *entriesContestant) ofHost() (n int) {
	for i := e.at % e.job.Hosts; i < e.job.Count; i += e.job.Hosts {
		n++
	}
	return n
}

func (e *entriesContestant) close() error {
	if e.cache == nil {
		return nil
	}
	return e.cache.close()
}

// runEntries runs the workload. Each round hits and removes other entries, in a
// new process.
func runEntries(ctx context.Context, h *harness, w *workload) error {
	specs, programs := make(map[string]string), make(map[string]string)
	jobs := make(map[string]job)
	for _, subject := range h.subjectsOf(w) {
		dir := filepath.Join(h.dir, w.name+"-"+subject)
		defer os.RemoveAll(dir)
		j := h.job(w, subject, dir)
		j.Kind, j.Size, j.Bound = "fill", startSize, roomFor(w.Count)
		start := time.Now()
		if err := h.once(ctx, j); err != nil {
			return err
		}
		fmt.Fprintf(h.log, "%-15s %s: %d entries stored in %.1f s\n", w.name, subject, w.Count, time.Since(start).Seconds())
		jobs[subject], programs[subject], specs[subject] = j, j.program, j.startSpec(w.Count/2)
	}
	if err := h.starts(ctx, w, programs, specs); err != nil {
		return err
	}
	for round := range h.rounds {
		for _, subject := range turns(h.subjectsOf(w), round) {
			j := jobs[subject]
			j.Kind, j.First = "entries", entryOfRound(round, w.Count, w.Hosts)
			s, err := h.measureOnce(ctx, j)
			if err != nil {
				return err
			}
			h.record(w, subject, s)
		}
	}
	return nil
}

// entryOfRound is the entry that a round hits. It belongs to a host with an
// even number. The entry after it, which the round removes, belongs to an odd
// one.
func entryOfRound(round, count, hosts int) int {
	return (2*round)%hosts + hosts*(round%(count/hosts))
}
