package store

import (
	"sync"
	"sync/atomic"
)

// heldFiles are the files of the hottest keys, held open: what an open file is like is told in less than half the time
// that it takes by name. Which they are is decided by CLOCK: whoever wants in takes the place of one that was not used
// since the hand came by last.
//
// A file that is held keeps its room on the disk even if it is removed, by another process say, without being counted
// against the bound; hence they are bounded by bytes as well.
type heldFiles struct {
	max   int64       // bytes
	limit int32       // of how many all stores of the process may hold
	off   atomic.Bool // closed, or the file system is none that tells all that has to be known of an open file

	mu    sync.Mutex
	files []*heldFile
	hand  int
	bytes int64
}

// filesHeld counts what the stores of the process hold.
var filesHeld atomic.Int32

const (
	maxFilesHeld = 1024    // of the process, but not more of its descriptors than for directories; see dirShare
	maxHeldBytes = 8 << 20 // of a store
	heldShare    = 128     // which part of the bound a store may hold

	holdAfter = 4 // by how many looks by name a key shows that it is hot
	holdTries = 4 // for how many places it is seen whether they can be had
)

// init takes the bound of the cache in bytes, and how many descriptors the process may use for this.
func (h *heldFiles) init(bound int64, descriptors int32) {
	h.max = min(bound/heldShare, maxHeldBytes)
	h.limit = min(descriptors, maxFilesHeld)
}

// named is told of every look by name at the file of an item, with what it has shown.
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

// room makes room for a file of size bytes, if a few tries are enough for that.
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

// close closes all, and has none be held any more.
func (h *heldFiles) close() {
	h.off.Store(true)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.files {
		f.close()
	}
	h.files = nil
}
