package store

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// shardLock serialises the changes of a shard: within the process by a channel, whose wait can be
// cancelled, and between processes by an advisory lock on a file, which the system releases when its
// owner dies. Nothing but quick work on files of the shard is done under it, and nobody ever holds two.
type shardLock chan struct{}

// shardLocks are the locks of all shards. They are made when they are first needed: most processes store to few
// shards, and many to none.
type shardLocks struct {
	mu    sync.Mutex
	locks [shardCount]shardLock

	// kept are files of locks that nobody here holds, open to be locked again, each at the place of its shard modulo
	// max: opening and closing one costs more than the lock.
	kept   [shardCount]*lockFile
	max    int
	closed bool

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

// lockShare is which part of the descriptors that a process may have open it may keep for the locks of a store.
const lockShare = 16

// of returns the lock of a shard within the process.
func (s *shardLocks) of(shard int) shardLock {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locks[shard] == nil {
		s.locks[shard] = make(shardLock, 1)
	}
	return s.locks[shard]
}

// take returns the file of a shard's lock if it is open. It is the caller's until it is put back.
func (s *shardLocks) take(shard int) *lockFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.max == 0 {
		s.max = min(max(descriptorLimit()/lockShare, 1), shardCount)
	}
	f := s.kept[shard%s.max]
	if f == nil || f.shard != shard {
		return nil
	}
	s.kept[shard%s.max] = nil
	return f
}

// put keeps the file of a lock, which is not locked, in place of another.
func (s *shardLocks) put(f *lockFile) {
	s.mu.Lock()
	old := f
	if !s.closed {
		old, s.kept[f.shard%s.max] = s.kept[f.shard%s.max], f
	}
	s.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// close closes what is kept, and has what is put back later closed as well.
func (s *shardLocks) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for i, f := range s.kept {
		if f != nil {
			f.close()
			s.kept[i] = nil
		}
	}
}

// locked is a shard whose lock is held.
type locked struct {
	d     *Disk
	shard int
	mine  shardLock
	file  *lockFile // nil where locks are not supported
}

// lock waits for the lock of a shard, for about as long as wait if who has it does not go on. It fails with errLocked
// then, and if ctx ends, if the store is closed, or if the lock's file cannot be made.
func (d *Disk) lock(ctx context.Context, shard int, wait time.Duration) (*locked, error) {
	mine := d.locks.of(shard)
	select {
	case mine <- struct{}{}:
	default:
		if err := d.locks.queue(ctx, shard, mine, wait); err != nil {
			return nil, err
		}
	}
	l := &locked{d: d, shard: shard, mine: mine}
	if err := l.lockFile(ctx, wait); err != nil {
		<-mine
		return nil, err
	}
	d.locks.taken[shard].Add(1)
	// What is changed under the lock is to be of the cache, even if somebody put a symbolic link into it.
	if err := d.checkShard(shard); err != nil {
		l.unlock()
		return nil, err
	}
	return l, nil
}

func (l *locked) lockFile(ctx context.Context, patience time.Duration) (err error) {
	d := l.d
	if d.closed.Load() {
		return ErrClosed
	}
	path := d.lockPath(l.shard)
	made := false
	f := d.locks.take(l.shard)
	kept := f != nil
	defer func() {
		if f != nil && l.file == nil {
			f.close()
		}
	}()
	var deadline time.Time
	tries := 0
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		if f == nil {
			if err = checkDirs(d.root, d.root+string(filepath.Separator)+"locks"); err == nil {
				f, err = openLock(path, l.shard)
			}
		}
		ok := false
		if err == nil {
			ok, err = f.tryLock()
		}
		switch {
		case ok && kept && !f.stands(path):
			// The directory was taken away, and others lock another file.
			f.close()
			f, kept = nil, false
			continue
		case ok:
			l.file = f
			if d.locks.stalled[l.shard].Load() != 0 {
				d.locks.stalled[l.shard].Store(0)
			}
			return nil
		case errors.Is(err, fs.ErrNotExist) && !made:
			made = true
			if err = d.makeLayout(); err != nil {
				return err
			}
			continue
		case lockUnsupported(err):
			return nil
		case err != nil:
			return opError("lock shard", err)
		}
		now := time.Now()
		patience := d.locks.patience(l.shard, patience)
		if tries++; tries == 1 {
			deadline = now.Add(patience)
		} else if now.After(deadline) && tries > int(patience/(4*time.Millisecond)) { // else this process was stopped itself
			d.locks.stalled[l.shard].Store(now.UnixNano())
			return opError("lock shard", errLocked)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (d *Disk) lockPath(shard int) string {
	const sep = string(filepath.Separator)
	return d.root + sep + "locks" + sep + shardName(shard)
}

func (l *locked) unlock() {
	if l.file != nil {
		if l.file.unlock() {
			l.d.locks.put(l.file)
		} else {
			l.file.close()
		}
	}
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
