package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
)

// Replaying a tool. The child lives in a bubble with a clock of its own, where
// hours pass at once. Package synctest makes bubbles in tests only, so the
// child is a test that prints its samples.

// inBubble runs a child in a bubble, and exits.
func inBubble(child func() error) {
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{
		Name: "child", F: func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := child(); err != nil && !errors.Is(err, io.EOF) {
					t.Error(err)
				}
			})
		},
	}}, nil, nil)
}

// timedBase tells the origin the time of the bubble. It closes all connections
// before time passes, because a bubble's time stands still while a goroutine
// waits for the network.
type timedBase struct {
	*http.Transport
	start time.Time
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func newTimedBase() *timedBase {
	b := &timedBase{Transport: newBase(), start: time.Now(), conns: make(map[net.Conn]bool)}
	b.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err == nil {
			b.mu.Lock()
			b.conns[conn] = true
			b.mu.Unlock()
		}
		return conn, err
	}
	return b
}

func (b *timedBase) RoundTrip(req *http.Request) (*http.Response, error) {
	timed := req.Clone(req.Context())
	now := time.Now()
	timed.Header[sinceField] = []string{strconv.FormatInt(int64(now.Sub(b.start)), 10)}
	timed.Header[nowField] = []string{strconv.FormatInt(now.UnixNano(), 10)}
	resp, err := b.Transport.RoundTrip(timed)
	if err == nil {
		resp.Request = req
	}
	return resp, err
}

// sleepUntil lets time pass.
func (b *timedBase) sleepUntil(at time.Duration) {
	wait := at - time.Since(b.start)
	if wait <= 0 {
		return
	}
	b.mu.Lock()
	for conn := range b.conns {
		conn.Close()
	}
	clear(b.conns)
	b.mu.Unlock()
	b.CloseIdleConnections()
	time.Sleep(wait)
}

// toolContestant is a tool with a cache.
type toolContestant struct {
	job   *job
	tool  *tool
	base  *timedBase
	cache *cache
	asked atomic.Int64
}

func init() {
	contestants["tool"] = func(j *job) (contestant, error) {
		c := &toolContestant{job: j, tool: toolOf(j.Name)}
		if c.tool == nil {
			return nil, fmt.Errorf("unknown tool %q", j.Name)
		}
		time.Sleep(time.Until(time.Unix(0, j.Now))) // files have the time of the machine
		c.base = newTimedBase()
		var err error
		if c.cache, err = openCache(j.Subject, j.Dir, c.base, j.Bound); err != nil {
			return nil, err
		}
		if t, ok := c.cache.RoundTripper.(*cachetrip.Transport); ok && j.User != "" {
			t.Identity = func(*http.Request) string { return j.User }
		}
		return c, nil
	}
}

// RoundTrip counts what the tool asks for.
func (c *toolContestant) RoundTrip(req *http.Request) (*http.Response, error) {
	c.asked.Add(1)
	return c.cache.RoundTrip(req)
}

func (c *toolContestant) measure(int) sample {
	s := sample{Values: make(map[string]float64), Forwarded: -1}
	client := &http.Client{Transport: c, Timeout: clientTimeout}
	for _, v := range c.tool.calls {
		c.base.sleepUntil(v.at)
		outdated, err := c.call(client, v)
		if outdated {
			s.Outdated++
		}
		s.fault(err)
	}
	s.Values["asked"] = float64(c.asked.Load())
	return s
}

// call makes one call and checks what it gets.
func (c *toolContestant) call(client *http.Client, v call) (outdated bool, err error) {
	prefix := fmt.Sprintf("/%s/%s/%s/", c.job.Tag, toolKind, c.job.Name)
	req, err := http.NewRequest(http.MethodGet, c.job.Origin+prefix+v.path, nil)
	if err != nil {
		return false, err
	}
	for name, value := range map[string]string{"Accept": v.accept, "Authorization": v.token, "Cache-Control": v.directive} {
		if value != "" {
			req.Header[name] = []string{value}
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return false, err
	}
	path := strings.TrimPrefix(resp.Request.URL.Path, prefix)
	p := c.tool.pages[path]
	if p == nil || resp.StatusCode != p.statusOf() {
		return false, wrongError{fmt.Errorf("%s led to %s with status %s", v.path, path, resp.Status)}
	}
	for version := p.version(v.at); version >= 0; version-- {
		b := p.content(path, v.accept, version).body()
		if err = b.verify(n, h.Sum32()); err == nil {
			return !p.allows(version, v), nil
		}
	}
	return false, err
}

func (c *toolContestant) close() error {
	err := c.cache.close()
	c.base.sleepUntil(time.Since(c.base.start) + time.Minute) // whatever was started ends
	return err
}

// runTool runs the workload. It is the same in each round, because it counts.
func runTool(ctx context.Context, h *harness, w *workload) error {
	ideal := toolOf(w.Params.Name).ideal()
	h.record(w, limit, sample{Values: ideal.values()})
	for _, subject := range h.subjectsOf(w) {
		if subject == limit {
			continue
		}
		dir := filepath.Join(h.dir, w.name+"-"+subject)
		j := h.job(w, subject, dir)
		j.Now = time.Now().UnixNano()
		s, err := runOne(ctx, j)
		if err != nil && h.excused(ctx, w, subject, err) {
			continue
		}
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
		t := h.origin.tally(j.Tag)
		got := transfer{int64(s.Values["asked"]), t.requests.Load(), t.notModified.Load(), t.bytes.Load()}
		s.Values = got.values()
		h.record(w, subject, s)
	}
	return nil
}

// values are the metrics of a tool.
func (t transfer) values() map[string]float64 {
	return map[string]float64{"bytes": float64(t.bytes), "requests": float64(t.requests), "hits": t.hits(), "reused": t.reused()}
}
