package store

import (
	"hash/crc32"
	"sync"
)

// This file gathers the bytes of a draft in memory, until there are enough for
// a write.

const (
	// writeSize is how many bytes a draft collects before it writes them. A
	// file that was written in small pieces reads at half the speed, because
	// the page cache keeps the pieces as they came.
	writeSize = 256 << 10

	// stagingMax limits the bytes that all drafts of a store collect. Beyond it
	// they write pieces of stagingMin instead, so that a thousand slow
	// downloads do not use 256 MiB.
	stagingMax = 16 << 20
	stagingMin = 32 << 10
)

var writePool = sync.Pool{New: func() any { return new([writeSize]byte) }}

// AvailableBuffer returns a part of the draft's buffer, without bytes. A caller
// that appends the next bytes to it and passes them to Write saves a copy;
// compare bufio.Writer. It returns nil if the draft has no large buffer, or
// cannot write it. The caller may keep using the buffer while the draft is
// committed or closed.
func (dr *diskDraft) AvailableBuffer() []byte {
	if dr.err != nil || dr.ended {
		return nil
	}
	if dr.buf == nil && dr.isLarge() {
		dr.grow(1)
	}
	if dr.pooled == nil {
		return nil
	}
	if len(dr.buf) == cap(dr.buf) {
		if err := dr.flush(nil, false); err != nil {
			dr.err = opError("write body", err)
			return nil
		}
	}
	dr.lent = true
	return dr.buf[len(dr.buf):len(dr.buf):cap(dr.buf)]
}

// add adds bytes of p to the buffer, as many as it has room for, and returns
// their number.
func (dr *diskDraft) add(p []byte) int {
	old := len(dr.buf)
	grown := dr.buf[:min(old+len(p), cap(dr.buf))]
	added := grown[old:]
	if &added[0] != &p[0] { // or they are there already, by AvailableBuffer
		copy(added, p)
	}
	dr.addSum(added)
	dr.mu.Lock()
	defer dr.mu.Unlock()
	dr.buf = grown
	return len(added)
}

// addSum adds p to the checksums of the chunks.
func (dr *diskDraft) addSum(p []byte) {
	for len(p) > 0 {
		n := min(int64(len(p)), chunkSize-dr.summed)
		dr.sum = crc32.Update(dr.sum, castagnoli, p[:n])
		p = p[n:]
		if dr.summed += n; dr.summed == chunkSize {
			dr.sums = append(dr.sums, dr.sum)
			dr.sum, dr.summed = 0, 0
		}
	}
}

// isLarge reports whether the announced size deserves a buffer of writeSize
// from the start.
func (dr *diskDraft) isLarge() bool {
	return dr.want > writeSize/2 && dr.d.max/64 >= writeSize
}

// grow enlarges the buffer for more bytes. It reports false if the buffer may
// not grow.
func (dr *diskDraft) grow(more int) bool {
	if int64(cap(dr.buf)) >= max(dr.d.max/64, stagingMin) {
		return false // in a very small cache, one piece would be a large part of the cache
	}
	size := max(1<<10, 4*cap(dr.buf))
	switch {
	case cap(dr.buf) > 0 || dr.want <= 0:
	case dr.isLarge():
		size = writeSize
	default:
		size = int(min(dr.want, inlineMax))
	}
	size = max(size, min(cap(dr.buf)+more, writeSize))
	if size > inlineMax {
		size = max(size, stagingMin)
	}
	size = min(size, writeSize)
	if size > stagingMin && dr.d.staging.Load()+int64(size) > stagingMax {
		size = stagingMin
	}
	if size <= cap(dr.buf) {
		return false
	}
	var buf []byte
	var pooled *[writeSize]byte
	if size == writeSize {
		pooled = writePool.Get().(*[writeSize]byte)
		buf = pooled[:0]
	} else {
		buf = make([]byte, 0, size)
	}
	dr.d.staging.Add(int64(size - cap(dr.buf)))
	dr.mu.Lock()
	defer dr.mu.Unlock()
	dr.buf, dr.pooled = append(buf, dr.buf...), pooled
	return true
}

// recycle makes room for the next piece after the buffer was written. Readers
// that follow closely find the written piece in last: the end of a body until
// Close. The caller holds mu.
func (dr *diskDraft) recycle(atEnd bool) {
	switch {
	case atEnd && dr.lent:
		dr.dropBuffers()
		return
	case dr.lent: // the caller may still write into the buffer, so nobody else may get it later
		dr.buf, dr.last = dr.buf[:0], nil
		return
	case atEnd:
		dr.dropLast()
		dr.last, dr.lastPooled, dr.buf, dr.pooled = dr.buf, dr.pooled, nil, nil
		return
	}
	next := dr.lastPooled
	if next == nil && dr.pooled != nil && dr.d.staging.Load()+writeSize <= stagingMax {
		dr.d.staging.Add(writeSize)
		next = writePool.Get().(*[writeSize]byte)
	}
	if next == nil {
		dr.buf, dr.last = dr.buf[:0], nil
		return
	}
	dr.last, dr.lastPooled = dr.buf, dr.pooled
	dr.buf, dr.pooled = next[:0], next
}

// dropBuffers returns the buffers to their pool. The caller holds mu.
func (dr *diskDraft) dropBuffers() {
	dr.dropLast()
	dr.d.staging.Add(-int64(cap(dr.buf)))
	if dr.pooled != nil && !dr.lent {
		writePool.Put(dr.pooled)
	}
	dr.buf, dr.pooled = nil, nil
}

func (dr *diskDraft) dropLast() {
	if dr.lastPooled != nil {
		dr.d.staging.Add(-writeSize)
		writePool.Put(dr.lastPooled)
	} else {
		dr.d.staging.Add(-int64(cap(dr.last)))
	}
	dr.last, dr.lastPooled = nil, nil
}
