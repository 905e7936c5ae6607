package store

import (
	"sync"
	"sync/atomic"
)

// verifiedMax limits the files that are remembered as verified: 1024 files of
// 64 MiB take some 200 KiB.
const verifiedMax = 1024

// verified has the chunks of a file that were verified.
type verified struct {
	stat fileStat
	seen int64
	bits []atomic.Uint64
	left atomic.Int64 // the number of chunks that are still to be verified
}

func (v *verified) has(chunk int64) bool {
	return v.bits[chunk/64].Load()&(1<<(chunk%64)) != 0
}

func (v *verified) set(chunk int64) {
	bit := uint64(1) << (chunk % 64)
	if v.bits[chunk/64].Or(bit)&bit == 0 {
		v.left.Add(-1)
	}
}

// verifiedFiles remembers, for a limited number of files, which chunks were
// verified. They need not be verified again as long as the file does not
// change.
type verifiedFiles struct {
	mu    sync.Mutex
	files map[string]*verified
	ring  [verifiedMax]string // the IDs in the order in which they came
	next  int
}

// get returns the verified chunks of the file of a blob, whose properties are
// st now.
func (vf *verifiedFiles) get(id string, st *fileStat, now, chunks int64) *verified {
	vf.mu.Lock()
	defer vf.mu.Unlock()
	v := vf.files[id]
	if v != nil && st.sameVersion(&v.stat, v.seen) {
		return v
	}
	fresh := &verified{stat: *st, seen: now, bits: make([]atomic.Uint64, (chunks+63)/64)}
	fresh.left.Store(chunks)
	if v == nil {
		if vf.files == nil {
			vf.files = make(map[string]*verified)
		}
		delete(vf.files, vf.ring[vf.next])
		vf.ring[vf.next] = id
		vf.next = (vf.next + 1) % verifiedMax
	}
	vf.files[id] = fresh
	return fresh
}

// sameVersion reports whether the file of a body, whose properties were old, is
// still the same; see unchanged. A published body is never changed, and its use
// is not recorded. Any change of the inode is therefore a reason to verify
// again.
func (st *fileStat) sameVersion(old *fileStat, seen int64) bool {
	return st.unchanged(old, seen) && st.ctime == old.ctime && seen-st.ctime > int64(settle(st.ctime))
}

// forget makes the next reader of a blob verify it again.
func (vf *verifiedFiles) forget(id string) {
	vf.mu.Lock()
	defer vf.mu.Unlock()
	delete(vf.files, id) // its place in the ring stays, and does no harm
}
