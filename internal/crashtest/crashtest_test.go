package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
)

func TestMain(m *testing.M) {
	if config, ok := os.LookupEnv(workerVariable); ok {
		if err := runWorker(config, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestShortRun runs the program for a short time with few workers.
func TestShortRun(t *testing.T) {
	d := testtier.Pick(time.Second, 9*time.Second)
	var out bytes.Buffer
	c := config{duration: d, workers: 3, dir: filepath.Join(t.TempDir(), "cache"), out: &out}
	if err := crashtest(t.Context(), c); err != nil {
		t.Errorf("%v\n%s", err, out.String())
		return
	}
	t.Logf("%s", out.String())
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := crashtest(t.Context(), config{duration: time.Second, workers: 1, dir: dir, out: new(bytes.Buffer)})
	if err == nil || errors.Is(err, errViolated) {
		t.Errorf("a directory that is not empty: %v", err)
	}
}

// TestHistory shows what the checks of a history reject and what they allow.
func TestHistory(t *testing.T) {
	for _, test := range []struct {
		name      string
		history   history
		vanishing bool
		wrong     string
	}{
		{"one after the other", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 22, before: 1, after: 2}},
			readings: []reading{{begun: 1, ended: 2, found: 0}, {begun: 13, ended: 14, found: 1}, {begun: 23, ended: 24, found: 2}},
		}, false, ""},
		{"during a change either is found", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 29, before: 1, after: 2}},
			readings: []reading{{begun: 21, ended: 22, found: 1}, {begun: 21, ended: 22, found: 2}, {begun: 15, ended: 25, found: 1}},
		}, false, ""},
		{"a killed process's change is made or not", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, before: 1, after: 2}, {begun: 30, before: 1, after: 3}, {begun: 40, done: 42, before: 3, after: 4}},
			readings: []reading{{begun: 25, ended: 26, found: 1}, {begun: 25, ended: 26, found: 2}, {begun: 35, ended: 36, found: 3}},
		}, false, ""},
		{"what was tried without the lock was not needed under it", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 29, before: 1, after: 2}, {begun: 21, before: 1, after: 3}, {begun: 30, done: 32, before: 2, after: 4}},
			readings: []reading{{begun: 29, ended: 30, found: 2}, {begun: 33, ended: 34, found: 4}},
		}, false, ""},
		{"eviction", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 22, before: 0, after: 2}},
			readings: []reading{{begun: 15, ended: 16, found: 0}},
		}, true, ""},
		{"before this history", history{
			possible: map[state]bool{7: true},
			changes:  []change{{begun: 10, done: 12, before: 7, after: 8}},
			readings: []reading{{begun: 1, ended: 2, found: 7}},
		}, false, ""},
		{"a lost update", history{
			changes: []change{{begun: 10, done: 22, before: 0, after: 1}, {begun: 20, done: 21, before: 0, after: 2}},
		}, false, "lost or undone"},
		{"a lost update in spite of eviction", history{
			changes: []change{{begun: 5, done: 6, before: 0, after: 9}, {begun: 10, done: 12, before: 9, after: 1}, {begun: 20, done: 21, before: 9, after: 2}},
		}, true, "lost or undone"},
		{"a freshened response is lost", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 22, before: 1, after: 2, fresh: true}, {begun: 21, done: 23, before: 1, after: 3}},
			readings: []reading{{begun: 24, ended: 25, found: 3}},
		}, false, ""},
		{"a freshened response is kept", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 22, before: 1, after: 2, fresh: true}, {begun: 30, done: 33, before: 2, after: 3}},
			readings: []reading{{begun: 24, ended: 25, found: 2}},
		}, false, ""},
		{"a freshened response undoes a change", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 22, before: 1, after: 2}, {begun: 21, done: 23, before: 1, after: 3, fresh: true}},
			readings: []reading{{begun: 24, ended: 25, found: 1}},
		}, false, "not what it held"},
		{"a change that is not seen", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, done: 22, before: 1, after: 2}},
			readings: []reading{{begun: 23, ended: 24, found: 1}},
		}, false, "not what it held"},
		{"a change that is seen too early", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}},
			readings: []reading{{begun: 5, ended: 6, found: 1}},
		}, false, "not what it held"},
		{"a process has waited for a lock in vain", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}, {begun: 20, before: 1, after: 2}, {begun: 30, done: 32, before: 0, after: 3}},
			readings: []reading{{begun: 25, ended: 26, found: 0}, {begun: 33, ended: 34, found: 3}},
			dropped:  true,
		}, false, ""},
		{"what was never stored", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}},
			readings: []reading{{begun: 13, ended: 14, found: 3}},
		}, true, "not what it held"},
		{"vanishing without eviction", history{
			changes:  []change{{begun: 10, done: 12, before: 0, after: 1}},
			readings: []reading{{begun: 13, ended: 14, found: 0}},
		}, false, "not what it held"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(test.history.check("k", test.vanishing), "\n")
			if (got == "") != (test.wrong == "") || !strings.Contains(got, test.wrong) {
				t.Errorf("got %q, want %q", got, test.wrong)
			}
		})
	}
}

// TestVerify shows that wrong content is detected.
func TestVerify(t *testing.T) {
	w := &worker{resources: catalogue()}
	r := representation{resource: 20, variant: "a", version: 3}
	right := make([]byte, r.length(w.resources))
	r.fill(right, 0)
	other := make([]byte, len(right))
	representation{resource: 20, variant: "a", version: 2}.fill(other, 0)
	flipped := bytes.Clone(right)
	flipped[len(flipped)-1] ^= 1
	for _, test := range []struct {
		name  string
		body  []byte
		field string
		wrong bool
	}{
		{"right", right, "", false},
		{"another version", other, "", true},
		{"half of another version", append(bytes.Clone(right[:len(right)/2]), other[len(right)/2:]...), "", true},
		{"a flipped bit", flipped, "", true},
		{"cut", right[:len(right)-1], "", true},
		{"too long", append(bytes.Clone(right), 0), "", true},
		{"a part", right[7:100], fmt.Sprintf("bytes 7-99/%d", len(right)), false},
		{"a part of elsewhere", right[8:101], fmt.Sprintf("bytes 7-99/%d", len(right)), true},
		{"a part of another length", right[7:100], fmt.Sprintf("bytes 7-99/%d", len(right)+1), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			rec := httptest.NewRecorder()
			if test.field != "" {
				rec.Header().Set("Content-Range", test.field)
				rec.WriteHeader(http.StatusPartialContent)
			}
			rec.Write(test.body)
			resp := rec.Result()
			resp.ContentLength = -1
			n, err := w.verify(resp, r, -1)
			if errors.Is(err, errWrong) != test.wrong || !test.wrong && (err != nil || n != int64(len(test.body))) {
				t.Errorf("got %d bytes, %v", n, err)
			}
		})
	}
}

// TestCheckChange shows which changes of the store are rejected.
func TestCheckChange(t *testing.T) {
	now := time.Now()
	entry := func(version int, requested, invalidated time.Time) *store.Entry {
		r := representation{1, "a", version}
		return &store.Entry{Header: http.Header{versionField: {r.String()}, "Etag": {r.etag()}}, RequestTime: requested, InvalidatedAt: invalidated}
	}
	never := time.Time{}
	for _, test := range []struct {
		name          string
		current, next *store.Entry
		wrong         bool
	}{
		{"newer", entry(1, now, never), entry(2, now, never), false},
		{"older", entry(2, now, never), entry(1, now, never), true},
		{"older, to be validated", entry(2, now, never), entry(1, now, now), false},
		{"validated", entry(2, now, now), entry(2, now.Add(1), never), false},
		{"not validated since", entry(2, now, now), entry(2, now.Add(-1), never), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			w := &worker{out: &out}
			w.checkChange([]*store.Entry{test.current}, []*store.Entry{test.next})
			if strings.Contains(out.String(), eventViolation) != test.wrong {
				t.Errorf("told %q", out.String())
			}
		})
	}
}

// TestCheckAnswer shows which answers are too old for their requests.
func TestCheckAnswer(t *testing.T) {
	second := int64(time.Second)
	resources := catalogue()
	const lives, lacks = 0, 3
	if resources[lives].maxAge != 1 || resources[lacks].maxAge != 0 {
		t.Fatal("the catalogue has changed")
	}
	// The first version of each resource was over after 100 s.
	o := &origin{resources: resources, starts: [][]int64{lives: {1, 100 * second}, lacks: {1, 100 * second}}}
	for _, test := range []struct {
		name     string
		resource int
		event    event
		wrong    bool
	}{
		{"a current version", lacks, event{Result: resultOrigin, Begun: 99 * second}, false},
		{"an earlier version", lacks, event{Result: resultOrigin, Begun: 101 * second}, true},
		{"a hit within its lifetime", lives, event{Result: resultHit, Begun: 101 * second}, false},
		{"a hit after its lifetime", lives, event{Result: resultHit, Begun: 102 * second}, true},
		{"a hit without a lifetime", lacks, event{Result: resultHit, Begun: 101 * second}, true},
		{"joined, and arrived later", lacks, event{Result: resultCollapsed, Begun: 101 * second, Arrived: 105 * second}, false},
		{"joined after it had arrived", lacks, event{Result: resultCollapsed, Begun: 105 * second, Arrived: 101 * second}, true},
		{"asked for by another process", lacks, event{Result: resultCollapsed, Begun: 101 * second}, true},
		{"asked for by another process, within its lifetime", lives, event{Result: resultCollapsed, Begun: 101 * second}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &round{origin: o}
			test.event.Version = representation{test.resource, "a", 1}.String()
			test.event.Ended = test.event.Begun + second
			r.checkAnswer(&process{name: "worker"}, &test.event)
			if got := len(r.wrong) > 0; got != test.wrong {
				t.Errorf("found wrong: %v %v", got, r.wrong)
			}
		})
	}
}
