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

	changed atomic.Int64 // the ctime when its name last led to it, in nanoseconds since 1970
	used    atomic.Bool  // since the hand of CLOCK came by
}

// toldOfOpenFiles lists the file systems that show at once when any process
// renames or removes an open file. Network file systems do not; nor do
// overlays.
var toldOfOpenFiles = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:  true, // ext2 and ext3 as well
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
	unix.F2FS_SUPER_MAGIC:  true,
	unix.TMPFS_MAGIC:       true,
}

// hold opens the file of a key. st is the result of a stat by name. It returns
// nil if the file has changed since. able is false if the file system does not
// allow files to be held.
func hold(dir *shardDir, name string, st *fileStat) (f *heldFile, able bool) {
	fd, err := dir.open(name, unix.O_PATH, 0) // opening for reading would count as use
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
	f.lost = runtime.AddCleanup(f, func(fd int) { // for a store that nobody closes
		syscall.Close(fd)
		filesHeld.Add(-1)
	}, fd)
	return f, true
}

// stat fills st and reports whether the name of the file still leads to it. A
// file that loses its name, or is renamed or linked, gets a new ctime. Within
// one tick of the clock, only its number of names shows that, which is not 1.
//
// Another goroutine may close the file meanwhile, and its descriptor may be
// reused for another file. The device and inode number show that.
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

// renew reports whether the file is held and is still the file with this name,
// whose stat is st. If it is another file, renew closes it.
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
