package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// Where bodies come from: caches, plain files, and memory.

// source is a cache, or something it is compared with, from which bodies are
// read.
type source struct {
	bodies []body

	// open opens body i.
	open func(i int) (io.ReadCloser, error)

	// fetch reads body i to its end into p, which is larger than the body, and
	// returns its length.
	fetch func(i int, p []byte) (int, error)

	passed bool // each request goes to the origin

	// forked returns a source for another goroutine. It is nil if goroutines
	// can share the source.
	forked func() *source

	close func() error
}

// resources are the bodies of a workload.
func resources(n int, size int64, first int) []body {
	b := make([]body, n)
	for i := range b {
		b[i] = content{seed: uint64(first + i + 1), size: size}.body()
	}
	return b
}

// fileSource keeps bodies in plain files and reads them with as few system
// calls as possible.
func fileSource(dir string, bodies []body) (*source, error) {
	if err := makeDirs(dir); err != nil {
		return nil, err
	}
	paths := make([]string, len(bodies))
	for i, c := range bodies {
		paths[i] = shardPath(dir, c.seed)
		if err := writeFile(paths[i], c.content); err != nil {
			return nil, err
		}
	}
	return &source{
		bodies: bodies,
		open: func(i int) (io.ReadCloser, error) {
			f, size, err := openRaw(paths[i])
			return &sizedFile{f, size}, err
		},
		fetch: func(i int, p []byte) (int, error) {
			f, size, err := openRaw(paths[i])
			if err != nil {
				return 0, err
			}
			n, err := f.Read(p[:min(int64(len(p)), size)])
			return n, errors.Join(err, f.Close())
		},
		close: func() error { return nil },
	}, nil
}

// sizedFile reports EOF at its size, which saves a system call.
type sizedFile struct {
	rawFile
	left int64
}

func (f *sizedFile) Read(p []byte) (int, error) {
	n, err := f.rawFile.Read(p[:min(int64(len(p)), f.left)])
	if f.left -= int64(n); f.left == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// writeFile writes c in large pieces, because such a file is read back fastest.
func writeFile(path string, c content) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	piece := make([]byte, min(c.size, 1<<20))
	for r := c.reader(); err == nil; {
		var n int
		n, err = io.ReadFull(r, piece)
		f.Write(piece[:n])
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	if fi, serr := f.Stat(); serr == nil && fi.Size() != c.size {
		err = fmt.Errorf("%s: %d bytes written instead of %d", path, fi.Size(), c.size)
	}
	return errors.Join(err, f.Close())
}

// mapSource keeps bodies in a map, and copies them.
func mapSource(j *job, bodies []body) (*source, error) {
	urls := make([]string, len(bodies))
	held := make(map[string][]byte, len(bodies))
	for i, c := range bodies {
		urls[i] = resourceURL(j.Origin, j.Tag, freshKind, c.content)
		b, err := io.ReadAll(c.reader())
		if err != nil {
			return nil, err
		}
		held[urls[i]] = b
	}
	return &source{
		bodies: bodies,
		fetch: func(i int, p []byte) (int, error) {
			return copy(p, held[urls[i]]), nil
		},
		close: func() error { return nil },
	}, nil
}

// cacheSource requests bodies through a cache, or without one.
func cacheSource(c *cache, j *job, kind string, bodies []body) (*source, error) {
	reqs, err := requests(j, kind, bodies)
	if err != nil {
		return nil, err
	}
	s := requestSource(c, reqs, bodies)
	s.passed = j.Subject == noCache
	return s, nil
}

// requests returns a request for each body.
func requests(j *job, kind string, bodies []body) ([]*http.Request, error) {
	reqs := make([]*http.Request, len(bodies))
	for i, c := range bodies {
		req, err := newRequest(resourceURL(j.Origin, j.Tag, kind, c.content))
		if err != nil {
			return nil, err
		}
		reqs[i] = req
	}
	return reqs, nil
}

func requestSource(c *cache, reqs []*http.Request, bodies []body) *source {
	s := &source{bodies: bodies, close: c.close}
	s.forked = func() *source {
		mine := *reqs[0]
		f := requestSource(c, []*http.Request{&mine}, bodies)
		one := f.open
		f.open = func(i int) (io.ReadCloser, error) {
			mine.URL = reqs[i].URL
			return one(0)
		}
		return f
	}
	s.open = func(i int) (io.ReadCloser, error) {
		resp, err := c.RoundTrip(reqs[i])
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return nil, errors.New("status " + resp.Status)
		}
		return resp.Body, nil
	}
	s.fetch = func(i int, p []byte) (int, error) {
		body, err := s.open(i)
		if err != nil {
			return 0, err
		}
		n, err := readAll(body, p)
		return n, errors.Join(err, body.Close())
	}
	return s
}

// readAll reads r to its end into p, which must be larger than the body.
func readAll(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, wrongError{fmt.Errorf("wrong body: longer than %d bytes", len(p)-1)}
}

// openSource opens the job's subject as a source.
func openSource(j *job, kind string) (*source, error) {
	bodies := resources(j.Count, j.Size, j.First)
	if j.Subject == limit {
		return fileSource(j.Dir, bodies)
	}
	base, err := j.base()
	if err != nil {
		return nil, err
	}
	c, err := openCache(j.Subject, j.Dir, base, j.Bound)
	if err != nil {
		return nil, err
	}
	c.RoundTripper = j.client(c.RoundTripper)
	s, err := cacheSource(c, j, kind, bodies)
	if err != nil {
		return nil, err
	}
	return s, s.warm()
}

// warm reads each body once, and twice more after a pause. A store may have to
// check a file more closely that was written a moment ago.
func (s *source) warm() error {
	for round := range 3 {
		if round == 1 {
			time.Sleep(50 * time.Millisecond)
		}
		for i := range s.bodies {
			if err := s.check(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// check reads a body and verifies it.
func (s *source) check(i int) error {
	body, err := s.open(i)
	if err != nil {
		return err
	}
	var w watch
	return errors.Join(drain(&w, body, make([]byte, readSize), &s.bodies[i]), body.Close())
}

// drain reads a body to its end and verifies it piece by piece. The watch runs
// while it reads.
func drain(w *watch, body io.Reader, buf []byte, b *body) error {
	var n int64
	var sum uint32
	for {
		w.start()
		m, err := body.Read(buf)
		w.stop()
		n += int64(m)
		sum = crc32.Update(sum, castagnoli, buf[:m])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	return b.verify(n, sum)
}

// createFile makes a file in a shard of dir.
func createFile(dir string, seed uint64) (*os.File, string, error) {
	path := shardPath(dir, seed)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return f, path, err
}

// walkSize returns the bytes of all files below dir, each rounded up to blocks
// of 4 KiB.
func walkSize(dir string) (size int64, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		size += (fi.Size() + 4095) / 4096 * 4096
		files++
		return nil
	})
	return size, files, err
}
