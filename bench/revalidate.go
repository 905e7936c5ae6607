package main

import (
	"errors"
	"io"
	"net/http"
)

// Revalidation: the origin answers 304 to each request.

type revalidateContestant struct {
	*source
	buf  []byte
	next int
}

func init() {
	contestants["revalidate"] = func(j *job) (contestant, error) {
		if j.Subject != limit {
			s, err := openSource(j, checkKind)
			return &revalidateContestant{source: s, buf: make([]byte, readSize)}, err
		}
		// The same conditional request without a cache, and the body from a file.
		files, err := openSource(j, checkKind)
		if err != nil {
			return nil, err
		}
		base, err := j.base()
		if err != nil {
			return nil, err
		}
		base = j.client(base)
		reqs := make([]*http.Request, len(files.bodies))
		for i := range reqs {
			b := files.bodies[i].content
			if reqs[i], err = newRequest(resourceURL(j.Origin, j.Tag, checkKind, b)); err != nil {
				return nil, err
			}
			h := make(http.Header)
			describe(h, b)
			reqs[i].Header["If-None-Match"] = h["Etag"]
			reqs[i].Header["If-Modified-Since"] = h["Last-Modified"] // all caches send it, too
		}
		return &revalidateContestant{source: &source{
			bodies: files.bodies,
			open: func(i int) (io.ReadCloser, error) {
				resp, err := base.RoundTrip(reqs[i])
				if err != nil {
					return nil, err
				}
				if resp.StatusCode != http.StatusNotModified {
					resp.Body.Close()
					return nil, errors.New("status " + resp.Status)
				}
				return &fileAfter{Closer: resp.Body, open: func() (io.ReadCloser, error) { return files.open(i) }}, nil
			},
			close: files.close,
		}, buf: make([]byte, readSize)}, nil
	}
}

// fileAfter is a reader that opens its file at the first read.
type fileAfter struct {
	io.Closer
	open func() (io.ReadCloser, error)
	file io.ReadCloser
}

func (f *fileAfter) Read(p []byte) (int, error) {
	if f.file == nil {
		var err error
		if f.file, err = f.open(); err != nil {
			return 0, err
		}
	}
	return f.file.Read(p)
}

func (f *fileAfter) Close() error {
	err := f.Closer.Close()
	if f.file != nil {
		err = errors.Join(err, f.file.Close())
	}
	return err
}

// measure records the time until the response comes, and until its body was
// read.
func (r *revalidateContestant) measure(n int) sample {
	s := sample{Values: make(map[string]float64), Forwarded: n}
	var head, rest watch
	m := startMeter()
	for range n {
		i := r.next
		r.next = (r.next + 1) % len(r.bodies)
		head.start()
		resp, err := r.open(i)
		head.stop()
		if err != nil {
			s.fault(err)
			continue
		}
		s.fault(drain(&rest, resp, r.buf, &r.bodies[i]))
		rest.start()
		err = resp.Close()
		rest.stop()
		s.fault(err)
	}
	m.stop(&s, n)
	s.Values["time"] = float64(head.sum) / float64(n)
	s.Values["whole"] = float64(head.sum+rest.sum) / float64(n)
	return s
}

func (r *revalidateContestant) close() error { return r.source.close() }
