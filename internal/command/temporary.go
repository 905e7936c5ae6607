package command

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/gofrs/flock"
)

// A run that is killed leaves the temporary file of its output. So that such
// files do not pile up, all runs use the same name for the same output, and a
// run removes what another has left. The lock of the file tells whether that
// one still lives.

// locksTemporary is false where open files cannot be removed anyway.
const locksTemporary = runtime.GOOS != "windows"

// createTemporary creates the temporary file of o. If another run is writing
// the same output, this one takes another name. The output is then that of the
// run that ends last.
func (o *output) createTemporary(mode fs.FileMode) error {
	dir, name := filepath.Split(o.final)
	for _, infix := range []string{"", "." + rand.Text()} {
		path := filepath.Join(dir, "."+name+infix+".cachetrip.part")
		removeLeftover(path)
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		created, err := file.Stat()
		if err != nil {
			return errors.Join(err, file.Close(), os.Remove(path))
		}
		if locksTemporary {
			o.lock, err = lockTemporary(path, created)
		}
		if errors.Is(err, fs.ErrExist) { // another run takes it for a leftover, and removes it
			file.Close()
			continue
		}
		o.file, o.Writer, o.temporary = file, file, path
		return nil // some file systems have no locks
	}
	return fs.ErrExist
}

// removeLeftover removes a temporary file unless a run is writing it.
func removeLeftover(path string) {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if locksTemporary {
		lock, err := lockTemporary(path, info)
		if err != nil {
			return
		}
		defer lock.Close()
	}
	os.Remove(path)
}

// lockTemporary locks a temporary file. Only the holder of the lock may remove
// or rename the file. The error is fs.ErrExist if another run has the lock, or
// if path is not the file any more.
func lockTemporary(path string, file fs.FileInfo) (*flock.Flock, error) {
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	locked, err := lock.TryLock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if locked {
		held, herr := lock.Stat()
		current, cerr := os.Lstat(path)
		if herr == nil && cerr == nil && os.SameFile(held, file) && os.SameFile(held, current) {
			return lock, nil
		}
		lock.Close()
	}
	return nil, fs.ErrExist
}
