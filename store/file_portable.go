//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package store

import (
	"io"
	"os"
	"runtime"
)

func (st *fileStat) set(fi os.FileInfo) {
	*st = fileStat{
		size:    fi.Size(),
		mtime:   fi.ModTime().UnixNano(),
		ctime:   fi.ModTime().UnixNano(),
		atime:   useTime(fi),
		regular: fi.Mode().IsRegular(),
		dir:     fi.IsDir(),
	}
}

func statFile(path string, st *fileStat) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return err
	}
	st.set(fi)
	return nil
}

func statOpen(f *os.File, st *fileStat) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	st.set(fi)
	return nil
}

// linked: here an open file cannot lose its name.
func linked(uintptr) bool { return true }

// stands: here an open file cannot lose its name.
func stands(uintptr, string) bool { return true }

// setMode does nothing: these systems have no umask.
func setMode(*os.File) {}

// openRead opens a file. On Windows, a file that another process is just
// replacing cannot be opened for a moment.
func openRead(path string) (f *os.File, err error) {
	err = retryBusy(func() error {
		f, err = os.OpenFile(path, os.O_RDONLY|nofollow, 0)
		return err
	})
	return f, err
}

func readFile(path string, r *reading) ([]byte, error) {
	f, err := openRead(path)
	if err != nil {
		return nil, err
	}
	return readOpen(f, r)
}

// readOpen reads a file, and closes it.
func readOpen(f *os.File, r *reading) ([]byte, error) {
	defer f.Close()
	if err := statOpen(f, &r.fileStat); err != nil {
		return nil, err
	}
	if !r.regular || r.size > r.max {
		return nil, ErrDamaged
	}
	b := r.into()
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, err
	}
	return b, nil
}

// writeNew makes a file with the content b. The file must not exist.
func writeNew(path string, b []byte, w *written) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// appendFile appends b to a file of size bytes. If that fails, the file is as
// before.
func appendFile(path string, b []byte, size int64, w *written) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|nofollow, 0)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		f.Truncate(size)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func rename(from, to string) error { return os.Rename(from, to) }

func markAlive(*os.File) {}

func shareLock(*os.File) {}

// lockAll: on Windows a file that is in use cannot be removed, so that trying
// does no harm. Elsewhere nobody knows whether it is in use.
func lockAll(*os.File) bool { return runtime.GOOS == "windows" }

// abandoned: on Windows an open file cannot be removed, so that trying does no
// harm. Elsewhere nobody knows whether the process lives.
func abandoned(string) bool { return runtime.GOOS == "windows" }
