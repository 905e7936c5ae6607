//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// bodyFile is an open file of a large body. An os.File costs a third more to
// open, because it is found by its whole path, and is offered to the network
// poller, which takes no files.
type bodyFile struct {
	fd   int
	path string
	lost runtime.Cleanup // closes the file of a body that a program has lost
	file *os.File        // made by osFile; has fd then
}

func (dir *shardDir) openBody(name string) (*bodyFile, error) {
	fd, err := dir.open(name, syscall.O_RDONLY, 0)
	if err == syscall.ENOENT {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, dir.failed("open", name, err)
	}
	f := &bodyFile{fd: fd, path: dir.path + "/" + name}
	f.lost = runtime.AddCleanup(f, func(fd int) { syscall.Close(fd) }, fd)
	return f, nil
}

// createOpen makes a file that must not exist. Unlike other files, it is not
// opened with O_NONBLOCK: os.NewFile would offer it to the network poller then.
func (dir *shardDir) createOpen(name string) (*os.File, error) {
	fd, err := dir.openAt(name, syscall.O_RDWR|syscall.O_CREAT|syscall.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, dir.failed("create", name, err)
	}
	return os.NewFile(uintptr(fd), dir.path+"/"+name), nil
}

// ReadAt implements io.ReaderAt.
func (f *bodyFile) ReadAt(p []byte, off int64) (n int, err error) {
	defer runtime.KeepAlive(f)
	n, err = readAt(f.fd, p, off)
	if err != nil && err != io.EOF {
		err = &fs.PathError{Op: "read", Path: f.path, Err: err}
	}
	return n, err
}

func (f *bodyFile) stat(st *fileStat) error {
	defer runtime.KeepAlive(f)
	var s syscall.Stat_t
	if err := syscall.Fstat(f.fd, &s); err != nil {
		return &fs.PathError{Op: "fstat", Path: f.path, Err: err}
	}
	st.set(&s)
	return nil
}

// osFile returns the file as an os.File, which must not be closed. One
// goroutine at a time may call it.
func (f *bodyFile) osFile() *os.File {
	if f.file == nil {
		f.lost.Stop()
		f.file = os.NewFile(uintptr(f.fd), f.path)
	}
	return f.file
}

func (f *bodyFile) Close() error {
	if f.file != nil {
		return f.file.Close()
	}
	f.lost.Stop()
	fd := f.fd
	f.fd = -1
	return syscall.Close(fd)
}
