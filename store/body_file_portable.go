//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package store

import "os"

// bodyFile is an open file of a large body.
type bodyFile struct{ *os.File }

func (dir *shardDir) openBody(name string) (*bodyFile, error) {
	f, err := os.OpenFile(dir.name(name), os.O_RDONLY|nofollow, 0)
	if err != nil {
		return nil, err
	}
	return &bodyFile{f}, nil
}

// createOpen makes a file that must not exist.
func (dir *shardDir) createOpen(name string) (*os.File, error) {
	return os.OpenFile(dir.name(name), os.O_RDWR|os.O_CREATE|os.O_EXCL|nofollow, 0o600)
}

func (f *bodyFile) stat(st *fileStat) error { return statOpen(f.File, st) }

func (f *bodyFile) osFile() *os.File { return f.File }
