package main

import (
	"crypto/md5"
	"errors"
	"fmt"
	"net/http/httputil"
	"os"
	"path/filepath"
	"time"
)

// Filling caches with many entries, before anything is measured.

// openFilled opens the job's subject with all bodies stored. The bodies do not
// come from the origin, which saves time.
func openFilled(j *job, bodies []body) (*source, error) {
	if j.Subject == limit {
		return fileSource(j.Dir, bodies)
	}
	base := &switchBase{RoundTripper: localBase{}}
	urls := make([]string, len(bodies))
	for i := range bodies {
		urls[i] = resourceURL(j.Origin, j.Tag, freshKind, bodies[i].content)
	}
	filled, err := fillPeer(j.Subject, j.Dir, urls)
	if err != nil {
		return nil, err
	}
	base.refuse.Store(filled)
	c, err := openCache(j.Subject, j.Dir, base, j.Bound)
	if err != nil {
		return nil, err
	}
	s, err := cacheSource(c, j, freshKind, bodies)
	if err != nil {
		return nil, err
	}
	if j.Subject != noCache {
		for i := range bodies {
			if err := s.check(i); err != nil {
				return nil, err
			}
		}
		time.Sleep(50 * time.Millisecond)
		base.refuse.Store(true)
		for i := range bodies {
			if filled {
				break // they have just been hits
			}
			if err := s.check(i); err != nil {
				return nil, err
			}
		}
	}
	base.RoundTripper = newBase()
	base.refuse.Store(false)
	return s, nil
}

// writeGregjones stores a response of localBase in the format of
// gregjones/httpcache. It does not flush each file, which would take minutes.
func writeGregjones(dir, url string) error {
	req, err := newRequest(url)
	if err != nil {
		return err
	}
	resp, err := localBase{}.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Header.Set("X-Varied-Accept", req.Header.Get("Accept"))
	b, err := httputil.DumpResponse(resp, true)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%x", md5.Sum([]byte(url)))), b, 0o600)
}

// sameFile returns an error if a file does not have the content of want.
func sameFile(path string, want *body) error {
	f, _, err := openRaw(path)
	if err != nil {
		return err
	}
	var w watch
	return errors.Join(drain(&w, f, make([]byte, readSize), want), f.Close())
}
