package store

import (
	"sync"
	"sync/atomic"
)

// heldFiles keeps the files of the hottest keys open. The stat of an open file
// takes less than half the time of a stat by name. The CLOCK algorithm chooses
// them: a new file takes the place of one that was not used since the hand came
// by last.
//
// An open file uses space on the disk even after another process has removed
// it, and that space does not count against the size limit. The bytes of all
// held files are therefore limited as well.
type heldFiles struct {
	max   int64       // bytes
	limit int32       // files that all stores of the process may hold
	off   atomic.Bool // closed, or the file system does not report enough about an open file

	mu    sync.Mutex
	files []*heldFile
	hand  int
	bytes int64
}

// filesHeld counts the files that all stores of the process hold.
var filesHeld atomic.Int32

const (
	maxFilesHeld = 1024    // of the process, and no more than directories; see dirShare
	maxHeldBytes = 8 << 20 // of a store
	heldShare    = 128     // a store may hold this part of its size limit: one in so many

	holdAfter = 4 // looks by name after which a key counts as hot
	holdTries = 4 // places that are tried for a new file
)

// init takes the size limit of the cache in bytes, and the descriptors that the process
// may use for held files.
func (h *heldFiles) init(bound int64, descriptors int32) {
	h.max = min(bound/heldShare, maxHeldBytes)
	h.limit = min(descriptors, maxFilesHeld)
}

// named is called after every look by name at the file of an item; st is the result.
func (h *heldFiles) named(dir *shardDir, it *tierItem, st *fileStat) {
	if f := it.held.Load(); f != nil && f.renew(st) || it.looks.Add(1)%holdAfter != 0 || h.off.Load() || !h.mu.TryLock() {
		return
	}
	defer h.mu.Unlock()
	size := allocated(st.size)
	if h.off.Load() || !h.room(size) {
		return
	}
	f, able := hold(dir, it.key, st)
	if !able {
		h.off.Store(true)
	}
	if f == nil {
		return
	}
	f.bytes = size
	f.used.Store(true)
	h.files = append(h.files, f)
	h.bytes += size
	it.held.Store(f)
}

// room makes room for a file of size bytes, and reports whether a few tries were enough.
func (h *heldFiles) room(size int64) bool {
	for try := 0; h.bytes+size > h.max || filesHeld.Load() >= h.limit; try++ {
		if try == holdTries || len(h.files) == 0 {
			return false
		}
		h.hand %= len(h.files)
		f := h.files[h.hand]
		if f.used.Swap(false) && f.open() {
			h.hand++
			continue
		}
		f.close()
		h.bytes -= f.bytes
		last := len(h.files) - 1
		h.files[h.hand], h.files[last] = h.files[last], nil
		h.files = h.files[:last]
	}
	return true
}

// close closes all files. No file is held afterwards.
func (h *heldFiles) close() {
	h.off.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.files {
		f.close()
	}
	h.files = nil
}
