package store

import (
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// heldFile is an open file of a key.
type heldFile struct {
	fd    atomic.Int32 // -1: closed
	id    fileID
	bytes int64
	lost  runtime.Cleanup

	changed atomic.Int64 // its ctime when it was last known to be what its name leads to, in nanoseconds since 1970
	used    atomic.Bool  // since the hand of CLOCK came by
}

// toldOfOpenFiles are the file systems that tell of an open file, at once and whoever did it, that it has lost its
// name, or was given another. Network file systems do not; nor does one that is laid over another.
var toldOfOpenFiles = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:  true, // ext2 and ext3 as well
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
	unix.F2FS_SUPER_MAGIC:  true,
	unix.TMPFS_MAGIC:       true,
}

// hold opens the file of a key that was as st says when it was looked at by its name. It returns nil if it is not so
// any more. It also tells whether the file system is one where files can be held.
func hold(dir *shardDir, name string, st *fileStat) (f *heldFile, able bool) {
	fd, err := dir.open(name, unix.O_PATH, 0) // for reading, it would count as read
	if err != nil {
		return nil, true
	}
	var s syscall.Stat_t
	var system syscall.Statfs_t
	if syscall.Fstatfs(fd, &system) != nil || !toldOfOpenFiles[int64(system.Type)] {
		syscall.Close(fd)
		return nil, false
	}
	if syscall.Fstat(fd, &s) != nil || s.Nlink != 1 || s.Ino != st.ino || s.Ctim.Nano() != st.ctime {
		syscall.Close(fd)
		return nil, true
	}
	f = &heldFile{id: fileID{uint64(s.Dev), s.Ino}}
	f.fd.Store(int32(fd))
	f.changed.Store(st.ctime)
	filesHeld.Add(1)
	f.lost = runtime.AddCleanup(f, func(fd int) { // of a store that nobody has closed
		syscall.Close(fd)
		filesHeld.Add(-1)
	}, fd)
	return f, true
}

// stat looks at the file, and reports whether it still is what its name leads to. What loses its name, is renamed or
// linked also changes its ctime; within one tick of the clock, that it has not just one name tells.
//
// The file may be closed meanwhile, and its descriptor be that of another file, of which it then is found to be another.
func (f *heldFile) stat(st *fileStat) bool {
	if f == nil || !f.open() {
		return false
	}
	var s syscall.Stat_t
	if syscall.Fstat(int(f.fd.Load()), &s) != nil || s.Nlink != 1 ||
		f.id != (fileID{uint64(s.Dev), s.Ino}) || s.Ctim.Nano() != f.changed.Load() {
		return false
	}
	st.set(&s)
	if !f.used.Load() {
		f.used.Store(true)
	}
	return true
}

// renew reports whether the file is held, and is the one that was looked at by its name. It is closed if it is not.
func (f *heldFile) renew(st *fileStat) bool {
	if f.id.ino != st.ino {
		f.close()
		return false
	}
	f.changed.Store(st.ctime)
	return f.open()
}

func (f *heldFile) open() bool { return f.fd.Load() >= 0 }

func (f *heldFile) close() {
	if fd := f.fd.Swap(-1); fd >= 0 {
		f.lost.Stop()
		syscall.Close(int(fd))
		filesHeld.Add(-1)
	}
}
