package store

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// usageMap is the usage file in memory, so that reading it takes no system
// call. Other processes write the file with a system call, and the memory shows
// that at once on every file system where counters can be mapped. A usageMap is
// unmapped when it is garbage, as a mapping is.
type usageMap struct {
	file   *os.File
	page   *usagePage
	failed atomic.Bool // it cannot be mapped, or somebody has truncated it
}

// newUsageMap maps the open file f, which has the descriptor fd, if path still
// names it. It opens the file again, because a map would keep the lock of fd
// until it is garbage.
func newUsageMap(f *os.File, fd uintptr, path string) *usageMap {
	m := &usageMap{file: f}
	m.failed.Store(true)
	again, err := openRetry(path, syscall.O_RDONLY|nofollow, 0)
	if err != nil {
		return m
	}
	defer syscall.Close(again)
	var s, t syscall.Stat_t
	if syscall.Fstat(int(fd), &s) != nil || syscall.Fstat(again, &t) != nil ||
		s.Dev != t.Dev || s.Ino != t.Ino || t.Size < usageSize {
		return m
	}
	b, err := unix.Mmap(again, 0, usageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return m
	}
	m.page = (*usagePage)(unsafe.Pointer(unsafe.SliceData(b)))
	runtime.AddCleanup(m, func(b []byte) { unix.Munmap(b) }, b)
	m.failed.Store(false)
	return m
}

// read fills p. It reports false if the file must be read by a system call.
func (m *usageMap) read(p *usagePage) (ok bool) {
	if m.failed.Load() {
		return false
	}
	defer m.catch(debug.SetPanicOnFault(true))
	*p = *m.page
	return true
}

// catch catches the panic of an access that failed; see [mapping.catch].
func (m *usageMap) catch(before bool) {
	debug.SetPanicOnFault(before)
	if recover() != nil {
		m.failed.Store(true)
	}
	runtime.KeepAlive(m)
}
