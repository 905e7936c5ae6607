// Package background decides which jobs may run in the background.
//
// There is one job for a key at a time, a few for an origin, and a limited
// number in all. After a job has failed, no other one for its key begins for a
// while. Jobs that may not begin are not queued: the next use of their key asks
// again.
package background

import (
	"context"
	"sync"
	"time"
)

const (
	// maxJobs limits the jobs that run at once.
	maxJobs = 32

	// maxOriginJobs limits those of one origin, so that an origin that does not
	// answer leaves some for others.
	maxOriginJobs = 8

	// firstPause is how long no other job for a key begins after one has
	// failed. It doubles with each failure, up to longestPause.
	firstPause   = time.Second
	longestPause = time.Minute

	// maxFailures limits the failures that are remembered. Forgetting them
	// costs each key one more job.
	maxFailures = 1024
)

// Jobs are jobs in the background. Its zero value is ready for use. It is safe
// for concurrent use.
type Jobs struct {
	mu      sync.Mutex
	running map[string]job     // by key
	failed  map[string]failure // the last job for a key has failed
}

type job struct {
	origin string
	cancel context.CancelFunc
}

// failure says when a job that has failed may be tried again.
type failure struct {
	pause time.Duration
	until time.Time
}

// Begin reports whether a job for key may begin at the time now. Then End must
// be called when it has ended. wanted ends when GiveUp or End is called.
func (js *Jobs) Begin(key, origin string, now time.Time) (wanted context.Context, ok bool) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if _, ok := js.running[key]; ok || len(js.running) >= maxJobs || now.Before(js.failed[key].until) {
		return nil, false
	}
	same := 0
	for _, other := range js.running {
		if other.origin == origin {
			same++
		}
	}
	if same >= maxOriginJobs {
		return nil, false
	}
	if js.running == nil {
		js.running = make(map[string]job)
	}
	wanted, cancel := context.WithCancel(context.Background())
	js.running[key] = job{origin, cancel}
	return wanted, true
}

// End tells that the job for key has ended at the time now, and whether it has
// brought something that can be used.
func (js *Jobs) End(key string, succeeded bool, now time.Time) {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.running[key].cancel()
	delete(js.running, key)
	if succeeded {
		delete(js.failed, key)
		return
	}
	if len(js.failed) >= maxFailures {
		clear(js.failed)
	}
	if js.failed == nil {
		js.failed = make(map[string]failure)
	}
	pause := min(max(2*js.failed[key].pause, firstPause), longestPause)
	js.failed[key] = failure{pause, now.Add(pause)}
}

// GiveUp ends the contexts of the jobs that run.
func (js *Jobs) GiveUp() {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.running {
		j.cancel()
	}
}
