//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package store

import (
	"os"

	"github.com/gofrs/flock"
)

// lockFile is the file of a shard's lock.
type lockFile struct {
	shard int
	lock  *flock.Flock
}

func openLock(path string, shard int) (*lockFile, error) {
	return &lockFile{shard, flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDONLY), flock.SetPermissions(0o600))}, nil
}

// tryLock takes the lock unless another has it. It opens the file.
func (l *lockFile) tryLock() (bool, error) { return l.lock.TryLock() }

func (l *lockFile) stands(string) bool { return true }

// unlock also closes the file, which is opened again with the next lock.
func (l *lockFile) unlock() bool {
	l.lock.Close()
	return false
}

func (l *lockFile) close() { l.lock.Close() }

// descriptorLimit does not matter, as no lock's file is kept open.
func descriptorLimit() int { return 0 }
