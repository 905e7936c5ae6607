package store

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is a mapped file of counters. The file itself is not kept open. It is
// unmapped when the mapping is garbage: then no goroutine uses it, and no store
// needs closing.
//
// The system refuses access to a mapped file that somebody has truncated, and
// sends a signal that would end the process. Here it becomes a panic, which is
// caught.
type mapping struct {
	counters *[counterCount]atomic.Uint64
	growth   *[shardCount]atomic.Uint64
	id       fileID
	failed   atomic.Bool // an access failed: the mapping is not used any more
}

// coherent lists the file systems whose mapped files are the same memory for
// all processes, and which write a block to its place. Network file systems are
// not among them. Btrfs and F2FS take a new block for each change, and refuse
// the change if the disk is full.
var coherent = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:      true, // ext2 and ext3 as well
	unix.XFS_SUPER_MAGIC:       true,
	unix.TMPFS_MAGIC:           true,
	unix.OVERLAYFS_SUPER_MAGIC: true, // a file that is opened for writing is that of the upper layer
}

// mappable reports whether files of a directory can be mapped.
func mappable(dir string) bool {
	var system syscall.Statfs_t
	return syscall.Statfs(dir, &system) == nil && coherent[int64(system.Type)]
}

// mapFile maps the file of counters. It returns ErrDamaged if it is no such
// file.
func mapFile(path string) (*mapping, error) {
	fd, err := openRetry(path, syscall.O_RDWR|nofollow, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return nil, err
	}
	if !isCounters(&s) {
		return nil, ErrDamaged
	}
	b, err := unix.Mmap(fd, 0, countersSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	m := &mapping{
		counters: (*[counterCount]atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(b))),
		growth:   (*[shardCount]atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(b[growthAt:]))),
		id:       fileIDOf(&s),
	}
	runtime.AddCleanup(m, func(b []byte) { unix.Munmap(b) }, b)
	return m, nil
}

func isCounters(s *syscall.Stat_t) bool {
	return s.Mode&syscall.S_IFMT == syscall.S_IFREG && s.Size == countersSize
}

// stands reports whether path names the mapped file, and the file is whole.
func (m *mapping) stands(path string) bool {
	var s syscall.Stat_t
	return lstat(path, &s) == nil && m.id == fileIDOf(&s) && isCounters(&s)
}

// load returns a counter, or 0 if that fails.
func (m *mapping) load(counter int) (v uint64) {
	if m.failed.Load() {
		return 0
	}
	defer m.catch(debug.SetPanicOnFault(true))
	return m.counters[counter].Load()
}

// add adds to a counter and returns it, or 0 if that fails.
func (m *mapping) add(counter int) (v uint64) {
	if m.failed.Load() {
		return 0
	}
	defer m.catch(debug.SetPanicOnFault(true))
	return m.counters[counter].Add(1)
}

// grow adds n blocks to the growth of a shard, and returns it. The result is
// not known if the growth was not, or if that fails.
func (m *mapping) grow(shard int, n int32) (g growth) {
	if m.failed.Load() {
		return growth{}
	}
	defer m.catch(debug.SetPanicOnFault(true))
	for word := &m.growth[shard]; ; {
		old := word.Load()
		g := decodeGrowth(old)
		if !g.known {
			return growth{}
		}
		if g.blocks += n; word.CompareAndSwap(old, g.encode()) {
			return g
		}
	}
}

// settle takes blocks from the growth of a shard that a listing is about to
// find. If the growth was not known, it becomes 0.
func (m *mapping) settle(shard int, blocks int32) {
	if m.failed.Load() {
		return
	}
	defer m.catch(debug.SetPanicOnFault(true))
	for word := &m.growth[shard]; ; {
		old := word.Load()
		g := decodeGrowth(old)
		if !g.known {
			g, blocks = growth{known: true}, 0
		}
		g.blocks -= blocks
		if word.CompareAndSwap(old, g.encode()) {
			return
		}
	}
}

// growths returns the growth of all shards. It reports false if that fails.
func (m *mapping) growths(words *[shardCount]uint64) (ok bool) {
	if m.failed.Load() {
		return false
	}
	defer m.catch(debug.SetPanicOnFault(true))
	for i := range words {
		words[i] = m.growth[i].Load()
	}
	return true
}

// catch catches the panic of an access that failed. before is what
// SetPanicOnFault returned.
func (m *mapping) catch(before bool) {
	debug.SetPanicOnFault(before)
	if recover() != nil {
		m.failed.Store(true)
	}
	runtime.KeepAlive(m)
}
