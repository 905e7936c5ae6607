package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// shardLock serialises the changes of a shard within the process. It is a
// channel, so that waiting for it can be cancelled. Between processes there is
// an advisory lock on the directory of the shard, or on a file where
// directories cannot be locked. The system releases it when its owner dies.
// Callers do only quick work on files of the shard under the locks, and never
// hold those of two shards.
type shardLock chan struct{}

// shardLocks has the locks of all shards. A lock is made when it is first
// needed: most processes store to few shards, and many to none.
type shardLocks struct {
	mu    sync.Mutex
	locks [shardCount]shardLock

	taken   [shardCount]atomic.Uint32 // counts how often each lock was taken, so that waiting callers see progress
	stalled [shardCount]atomic.Int64  // when a caller last waited in vain, in nanoseconds since 1970
}

// patience returns how long to wait for the lock of a shard: at most wait.
func (s *shardLocks) patience(shard int, wait time.Duration) time.Duration {
	if at := s.stalled[shard].Load(); at != 0 {
		if age := time.Now().UnixNano() - at; age >= 0 && age < int64(stallMemory) {
			return min(wait, lockRetry)
		}
	}
	return wait
}

// queue waits for the lock of a shard within the process, as long as others
// make progress.
func (s *shardLocks) queue(ctx context.Context, shard int, mine shardLock, wait time.Duration) error {
	seen, idle := s.taken[shard].Load(), 0
	for {
		timer := time.NewTimer(s.patience(shard, wait) / idleTwice)
		select {
		case mine <- struct{}{}:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if now := s.taken[shard].Load(); now != seen {
			seen, idle = now, 0
		} else if idle++; idle == idleTwice {
			return opError("lock shard", errLocked)
		}
	}
}

const (
	// lockWait is how long a request waits for the lock of a shard that nobody
	// releases. A lock is held for tens of microseconds, or for a millisecond
	// or two while a shard is listed or keys are evicted. Only a shard of
	// unknown size takes some more. An owner that holds it for longer is
	// stopped, or waits for a device. A request had better continue without the
	// cache then. lockWait is longer than a scheduler keeps a busy process
	// waiting. On two shared processors, under the race detector, that is more
	// than 100 ms.
	lockWait = 250 * time.Millisecond

	// lockPatience is how long maintenance waits, which holds up nobody but its
	// caller.
	lockPatience = 2 * time.Second

	// After a caller has waited for lockWait in vain, others wait no longer than
	// lockRetry, for stallMemory.
	stallMemory = time.Second
	lockRetry   = 2 * time.Millisecond

	// idleTwice is the number of parts of such a wait. In each of them nobody
	// must have made progress. If this process itself was stopped, one part
	// ends at once, but not both.
	idleTwice = 2
)

// errLocked reports that the lock of a shard was not released in time.
var errLocked = errors.New("the lock is held by another process or caller that makes no progress")

// of returns the lock of a shard within the process.
func (s *shardLocks) of(shard int) shardLock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks[shard] == nil {
		s.locks[shard] = make(shardLock, 1)
	}
	return s.locks[shard]
}

// locked is a shard whose lock is held.
type locked struct {
	d     *Disk
	shard int
	mine  shardLock
	dir   *shardDir
	alone bool // no other process changes the shard; false where locks are not supported
}

// lock waits for the lock of a shard, for about as long as wait if its owner
// makes no progress. It makes the shard's directory if there is none. It fails
// with errLocked if the lock is not released, and also if ctx ends, if the
// store is closed, or if the directory cannot be made.
func (d *Disk) lock(ctx context.Context, shard int, wait time.Duration) (*locked, error) {
	return d.lockWithin(ctx, shard, wait, 0)
}

// lockWithin is lock for a caller that need not know whether the directory
// still stands, if its path was checked at most age ago.
func (d *Disk) lockWithin(ctx context.Context, shard int, wait, age time.Duration) (*locked, error) {
	mine := d.locks.of(shard)
	select {
	case mine <- struct{}{}:
	default:
		if err := d.locks.queue(ctx, shard, mine, wait); err != nil {
			return nil, err
		}
	}
	dir, alone, err := d.lockDir(ctx, shard, wait, age)
	if err != nil {
		<-mine
		return nil, err
	}
	d.locks.taken[shard].Add(1)
	return &locked{d, shard, mine, dir, alone}, nil
}

// lockDir locks the directory of a shard against other processes. alone is
// false if the file system has no locks.
func (d *Disk) lockDir(ctx context.Context, shard int, patience, age time.Duration) (dir *shardDir, alone bool, err error) {
	defer func() {
		if err != nil && dir != nil {
			dir.release()
			dir = nil
		}
	}()
	var deadline time.Time
	tries := 0
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		if d.closed.Load() {
			return dir, false, ErrClosed
		}
		if dir == nil {
			if dir, err = d.makeShard(shard); err != nil {
				return nil, false, opError("lock shard", err)
			}
		}
		ok, err := dir.tryLock()
		alone := err == nil
		if lockUnsupported(err) {
			ok, err = true, nil
		}
		switch {
		case ok && dir.stood(age):
			if d.locks.stalled[shard].Load() != 0 {
				d.locks.stalled[shard].Store(0)
			}
			return dir, alone, nil
		case ok:
			// The directory was removed, and other processes lock another one.
			dir.unlock()
			d.lose(dir)
			d.usage.suspect.Store(true)
			dir.release()
			dir = nil
		case err != nil:
			return dir, false, opError("lock shard", err)
		}
		now := time.Now()
		limit := d.locks.patience(shard, patience)
		if tries++; tries == 1 {
			deadline = now.Add(limit)
		} else if now.After(deadline) && tries > int(limit/(4*time.Millisecond)) { // or this process itself was stopped
			if patience >= lockWait { // a caller in a hurry tells nothing about the owner
				d.locks.stalled[shard].Store(now.UnixNano())
			}
			return dir, false, opError("lock shard", errLocked)
		}
		if ok {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return dir, false, ctx.Err()
		}
	}
}

func (l *locked) unlock() {
	l.dir.unlock()
	l.dir.release()
	<-l.mine
}

// errno returns the system's error number within err.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return 0
}
