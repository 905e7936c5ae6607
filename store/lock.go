package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gofrs/flock"
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
}

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
	file  *flock.Flock // nil where locks are not supported
}

// lock waits for the lock of a shard. It fails if ctx ends, if the store is closed, or if the lock's
// file cannot be made.
func (d *Disk) lock(ctx context.Context, shard int) (*locked, error) {
	mine := d.locks.of(shard)
	select {
	case mine <- struct{}{}:
	default:
		select {
		case mine <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	l := &locked{d: d, shard: shard, mine: mine}
	if err := l.lockFile(ctx); err != nil {
		<-mine
		return nil, err
	}
	return l, nil
}

func (l *locked) lockFile(ctx context.Context) error {
	if l.d.closed.Load() {
		return ErrClosed
	}
	path := filepath.Join(l.d.root, "locks", shardName(l.shard))
	made := false
	// Other processes hold the lock for tens of microseconds, or a millisecond or two while they list the shard.
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		f := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY|nofollow), flock.SetPermissions(0o600))
		ok, err := f.TryLock()
		switch {
		case ok:
			l.file = f
			return nil
		case err == nil:
			f.Close()
		case errors.Is(err, fs.ErrNotExist) && !made:
			made = true
			if err := l.d.makeLayout(); err != nil {
				return err
			}
			continue
		case lockUnsupported(err):
			f.Close()
			return nil
		default:
			f.Close()
			return opError("lock shard", err)
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

func (l *locked) unlock() {
	if l.file != nil {
		l.file.Close()
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
