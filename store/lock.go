package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// shardLock serialises the changes of a shard: within the process by a channel, whose wait can be
// cancelled, and between processes by an advisory lock on its directory, or on a file where directories cannot be
// locked, which the system releases when its owner dies. Nothing but quick work on files of the shard is done under it, and nobody ever holds two.
type shardLock chan struct{}

// shardLocks are the locks of all shards. They are made when they are first needed: most processes store to few
// shards, and many to none.
type shardLocks struct {
	mu    sync.Mutex
	locks [shardCount]shardLock

	taken   [shardCount]atomic.Uint32 // how often each lock was taken, by which those who wait see that it goes on
	stalled [shardCount]atomic.Int64  // when it was last waited for in vain, in nanoseconds since 1970
}

// patience returns how long to wait for the lock of a shard, of at most wait.
func (s *shardLocks) patience(shard int, wait time.Duration) time.Duration {
	if at := s.stalled[shard].Load(); at != 0 {
		if age := time.Now().UnixNano() - at; age >= 0 && age < int64(stallMemory) {
			return min(wait, lockRetry)
		}
	}
	return wait
}

// queue waits for the lock of a shard within the process, as long as it goes on there.
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
	// lockWait is how long a request waits for the lock of a shard that nobody releases. It is held for tens of
	// microseconds, for a millisecond or two while a shard is listed or keys are evicted, and for some more only while it
	// is not known what a shard takes: who holds it for longer is stopped, or waits for a device that does not answer,
	// and a request is better answered without the cache. It is also longer than the scheduler keeps a process from running
	// that has used up its share of the processors: on two that many share, those that the race detector makes slow
	// are kept from it for more than 100 ms.
	lockWait = 250 * time.Millisecond

	// lockPatience is how long maintenance waits, for which nobody but its caller does.
	lockPatience = 2 * time.Second

	// Once a lock was waited for in vain, others who want it within stallMemory wait for no longer than lockRetry.
	stallMemory = time.Second
	lockRetry   = 2 * time.Millisecond

	// idleTwice is in how many parts such waiting is, each of which must find that nothing went on: when this process is
	// the one that was stopped, one of them is over at once.
	idleTwice = 2
)

// errLocked reports that the lock of a shard was not to be had in time.
var errLocked = errors.New("the lock is held by somebody who does not go on")

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
	alone bool // other processes keep away; false where locks are not supported
}

// lock waits for the lock of a shard, for about as long as wait if who has it does not go on. It makes the shard's
// directory if there is none. It fails with errLocked if the lock is not to be had, and if ctx ends, if the store is
// closed, or if there can be no directory.
func (d *Disk) lock(ctx context.Context, shard int, wait time.Duration) (*locked, error) {
	mine := d.locks.of(shard)
	select {
	case mine <- struct{}{}:
	default:
		if err := d.locks.queue(ctx, shard, mine, wait); err != nil {
			return nil, err
		}
	}
	dir, alone, err := d.lockDir(ctx, shard, wait)
	if err != nil {
		<-mine
		return nil, err
	}
	d.locks.taken[shard].Add(1)
	return &locked{d, shard, mine, dir, alone}, nil
}

// lockDir locks the directory of a shard against other processes, and tells whether that is possible.
func (d *Disk) lockDir(ctx context.Context, shard int, patience time.Duration) (dir *shardDir, alone bool, err error) {
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
		case ok && dir.stands():
			if d.locks.stalled[shard].Load() != 0 {
				d.locks.stalled[shard].Store(0)
			}
			return dir, alone, nil
		case ok:
			// It was taken away, and others lock another.
			dir.unlock()
			d.dirs.drop(dir)
			d.usage.suspect.Store(true)
			dir.release()
			dir = nil
		case err != nil:
			return dir, false, opError("lock shard", err)
		}
		now := time.Now()
		patience := d.locks.patience(shard, patience)
		if tries++; tries == 1 {
			deadline = now.Add(patience)
		} else if now.After(deadline) && tries > int(patience/(4*time.Millisecond)) { // else this process was stopped itself
			d.locks.stalled[shard].Store(now.UnixNano())
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
