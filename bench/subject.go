package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// The subjects of the comparison. Each is opened as its README shows.

const (
	limit            = "limit"             // the physical limit that the workload describes
	cachetripDisk    = "cachetrip"         // on disk
	cachetripMemory  = "cachetrip-memory"  // in memory
	gregjonesDisk    = "gregjones"         // github.com/gregjones/httpcache, on disk by diskv
	gregjonesMemory  = "gregjones-memory"  // the same, in memory
	bartventerDisk   = "bartventer"        // github.com/bartventer/httpcache, with fscache
	bartventerMemory = "bartventer-memory" // the same, with memcache
	sandrolainDisk   = "sandrolain"        // github.com/sandrolain/httpcache, on disk by diskv
	sandrolainMemory = "sandrolain-memory" // the same, in memory
	noCache          = "no-cache"          // http.Transport
)

// beforeSuffix is the end of the names of subjects that another build of this
// program runs, usually one with an older version of the cache.
const beforeSuffix = "-before"

// subjects lists all subjects in the order of the tables.
var subjects = slices.Concat([]string{limit, cachetripDisk, cachetripMemory}, peers, []string{noCache})

// subjectTitles has their names in the tables.
var subjectTitles = map[string]string{
	limit:            "limit",
	cachetripDisk:    "cachetrip",
	cachetripMemory:  "cachetrip, memory",
	gregjonesDisk:    "gregjones",
	gregjonesMemory:  "gregjones, memory",
	bartventerDisk:   "bartventer",
	bartventerMemory: "bartventer, memory",
	sandrolainDisk:   "sandrolain",
	sandrolainMemory: "sandrolain, memory",
	noCache:          "no cache",

	cachetripDisk + beforeSuffix:   "cachetrip, before",
	cachetripMemory + beforeSuffix: "cachetrip, memory, before",
}

// cache is an open subject.
type cache struct {
	http.RoundTripper
	forget func(url string) error // removes the stored response of url; nil if the subject stores nothing
	close  func() error
}

// openCache opens a subject, with its files in dir. maxBytes is the size limit
// of those that have one, or 0 for their default.
func openCache(subject, dir string, base http.RoundTripper, maxBytes int64) (*cache, error) {
	switch subject {
	case cachetripDisk:
		var t *cachetrip.Transport
		var err error
		closeStore := func() error { return nil }
		if maxBytes == 0 {
			t, err = cachetrip.Open(dir)
		} else {
			var disk *store.Disk
			if disk, err = store.OpenDisk(dir, store.DiskOptions{MaxBytes: maxBytes}); err == nil {
				t, closeStore = &cachetrip.Transport{Store: disk}, disk.Close
			}
		}
		if err != nil {
			return nil, err
		}
		t.Base = base
		return &cache{
			RoundTripper: t,
			forget:       func(url string) error { return t.Purge(context.Background(), url) },
			close:        func() error { return errors.Join(t.Close(), closeStore()) },
		}, nil
	case cachetripMemory:
		if maxBytes == 0 {
			maxBytes = 1 << 30 // as much as on disk
		}
		t := &cachetrip.Transport{Store: store.NewMemory(maxBytes), Base: base}
		return &cache{
			RoundTripper: t,
			forget:       func(url string) error { return t.Purge(context.Background(), url) },
			close:        t.Close,
		}, nil
	case noCache:
		return &cache{RoundTripper: base, close: func() error { return nil }}, nil
	}
	return openPeer(subject, dir, base)
}

// newBase returns the transport below a cache, which speaks real HTTP.
func newBase() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 128}
}

// switchBase passes requests on, or refuses them. Its target changes only while
// there is no request.
type switchBase struct {
	http.RoundTripper
	refuse atomic.Bool
}

func (b *switchBase) RoundTrip(req *http.Request) (*http.Response, error) {
	if b.refuse.Load() {
		return refuser{}.RoundTrip(req)
	}
	return b.RoundTripper.RoundTrip(req)
}

// localBase answers like the origin, within the process.
type localBase struct{}

func (localBase) RoundTrip(req *http.Request) (*http.Response, error) {
	c, err := contentOfURL(req.URL.Path)
	if err != nil {
		return nil, err
	}
	resp := &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), ContentLength: c.size, Request: req,
	}
	describe(resp.Header, c)
	resp.Header["Cache-Control"] = []string{"private, max-age=31536000"}
	resp.Header["Date"] = []string{processDate}
	resp.Body = io.NopCloser(c.reader())
	return resp, nil
}

// refuser fails every request. It is below caches that must not need the
// origin.
type refuser struct{}

func (refuser) RoundTrip(req *http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("requested %s, which should have been a hit", req.URL)
}

// shardPath returns the path of a file of the limit. Files are spread over
// directories as in the disk store, so that the file system favours no subject.
func shardPath(dir string, seed uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%02x", byte(seed*0x9e3779b97f4a7c15>>56)), fmt.Sprintf("%032x", seed))
}

// contentOfURL returns the content in a path of resourceURL.
func contentOfURL(path string) (content, error) {
	part := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(part) != 4 {
		return content{}, fmt.Errorf("unknown resource %s", path)
	}
	seed, err1 := strconv.ParseUint(part[2], 16, 64)
	size, err2 := strconv.ParseInt(part[3], 10, 64)
	if err := errors.Join(err1, err2); err != nil || size < labelSize {
		return content{}, fmt.Errorf("unknown resource %s", path)
	}
	return content{seed, size}, nil
}

// processDate saves formatting the time for each local answer.
var processDate = time.Now().UTC().Format(http.TimeFormat)
