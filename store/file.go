package store

import "time"

// fileStat is what the store wants to know of a file. Times are nanoseconds since 1970.
type fileStat struct {
	ino     uint64 // 0 where files have no such number
	size    int64
	mtime   int64
	ctime   int64
	atime   int64
	regular bool
	dir     bool
}

// settle is how long after a change the time of change may still stand for a further one: clocks of
// file systems tick every 1 to 10 ms, those of old ones every second or two, which then have no
// fraction.
func settle(mtime int64) time.Duration {
	if mtime%int64(time.Second) == 0 {
		return 3 * time.Second
	}
	return 20 * time.Millisecond
}

// unchanged reports whether a file seen as old and now as st is still the same, if what was read of it
// was read at the time seen. A file that was changed just before it was read is never known to be the
// same: a second change within one tick of the clock would not show.
func (st *fileStat) unchanged(old *fileStat, seen int64) bool {
	return st.same(old) && seen-old.mtime > int64(settle(old.mtime))
}

func (st *fileStat) same(old *fileStat) bool {
	return st.ino == old.ino && st.size == old.size && st.mtime == old.mtime && st.regular
}

// written is what a file was like once it was written under its shard's lock.
//
// Where the system takes it, what writes a key's file gives it a time of change that counts nanoseconds, taken after
// the writing. It is then exact: the file of a key only ever grows until another takes its place, and the one
// that does was given a later time, even if it has the same number and length. So the two need no time to tell them
// apart, as they do where the time of change is that of a tick of the clock.
type written struct {
	stat  fileStat
	exact bool
}

// allocated is what a file of size bytes counts against the bound: whole blocks of 4 KiB.
func allocated(size int64) int64 {
	return (size + 4095) &^ 4095
}
