package store

import (
	"sync/atomic"
	"time"
)

// fileStat has the properties of a file that the store uses. Times are
// nanoseconds since 1970.
type fileStat struct {
	ino     uint64 // 0 where files have no such number
	size    int64
	mtime   int64
	ctime   int64
	atime   int64
	regular bool
	dir     bool
}

// reading is a file that is read.
type reading struct {
	fileStat        // of the file; set when it was opened
	max      int64  // a file of more bytes counts as damaged
	buf      []byte // gets the content if it is large enough

	now      int64 // in nanoseconds since 1970
	useAfter int64 // if the file was last used so many nanoseconds ago, now is recorded as a use
}

// into returns the memory for the content of the file.
func (r *reading) into() []byte {
	if int64(cap(r.buf)) < r.size {
		return make([]byte, r.size)
	}
	return r.buf[:r.size]
}

// isUse reports whether the reading is to be recorded as a use.
func (r *reading) isUse() bool { return r.useAfter > 0 && r.now-r.atime >= r.useAfter }

// settle returns how long after a change a second one may still get the same
// mtime. Clocks of file systems tick every 1 to 10 ms. The clocks of old file
// systems tick every second or two, and their times have no fraction.
func settle(mtime int64) time.Duration {
	if mtime%int64(time.Second) == 0 {
		return 3 * time.Second
	}
	return 20 * time.Millisecond
}

// unchanged reports whether a file that was old when it was read, at the time
// seen, and is st now, did not change in between. It reports false if the file
// was changed just before it was read: a second change within one tick of the
// clock would not show.
func (st *fileStat) unchanged(old *fileStat, seen int64) bool {
	return st.same(old) && seen-old.mtime > int64(settle(old.mtime))
}

func (st *fileStat) same(old *fileStat) bool {
	return st.ino == old.ino && st.size == old.size && st.mtime == old.mtime && st.regular
}

// written has the properties of a file right after it was written under the
// lock of its shard.
//
// Where the system allows it, the writer of a key's file sets its mtime to the
// nanosecond, after writing. Then exact is true: no other state of the file has
// these properties. The file only grows until another one replaces it. The
// second file gets a later mtime, even if it has the same inode number and
// size. Two states can therefore be told apart at once, without waiting for a
// tick of the clock.
type written struct {
	stat   fileStat
	exact  bool
	linked bool   // the file had a name after it was written; not known where exact is false
	count  uint64 // the value of the key's counter then; 0 if another change was counted meanwhile

	// Of a new file, these are set before it is written.
	owner       owner
	counted     bool          // count will be known, unless another change is counted meanwhile
	modeChecked *atomic.Int64 // when a new file was last found to have mode 0600, in nanoseconds since 1970; may be nil
}

// vouched reports whether the counter of the key vouches for a file whose
// properties were not asked for.
func (w *written) vouched() bool { return w.count != 0 && w.stat.mtime == 0 }

// allocated returns how much a file of size bytes counts against the size
// limit: whole blocks of 4 KiB.
func allocated(size int64) int64 {
	return (size + 4095) &^ 4095
}
