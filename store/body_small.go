package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"
)

// bytesBody is a body in memory.
type bytesBody struct {
	bytes.Reader
}

func newBytesBody(b []byte) *bytesBody {
	body := new(bytesBody)
	body.Reset(b)
	return body
}

func (*bytesBody) Close() error { return nil }

// smallFile holds a whole file of a body of one chunk.
type smallFile [chunkSize + 4 + bodyTrailer]byte

var smallPool = sync.Pool{New: func() any { return new(smallFile) }}

// smallBody is a body of one chunk, read at once into a pooled buffer.
type smallBody struct {
	mu     sync.Mutex
	users  int // goroutines that are reading the buffer
	closed bool
	buf    *smallFile // nil once it was returned to the pool
	size   int64
}

// openSmall reads the file of a body of at most one chunk and verifies it.
func (d *Disk) openSmall(key string, id blobID, blob Blob) (Body, error) {
	name, size := blobName(key, blob.ID), blob.Size
	buf := smallPool.Get().(*smallFile)
	b, err := d.readFrom(shardOf(key), name, &reading{max: int64(len(buf)), buf: buf[:], now: time.Now().UnixNano()})
	switch {
	case isUnreadable(d.path(name), err) || err == nil && int64(len(b)) != bodyFileSize(size):
		err = ErrDamaged
	case err == nil:
		table, ok := checkFooter(b[size:], id, size)
		if !ok || size > 0 && !checkChunk(table, 0, b[:size]) {
			err = ErrDamaged
		}
	}
	if err != nil {
		smallPool.Put(buf)
		return nil, err
	}
	return &smallBody{buf: buf, size: size}, nil
}

// acquire returns the bytes of the body. The buffer is not reused before
// release, even if the body is closed meanwhile.
func (b *smallBody) acquire() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, opError("read body", fs.ErrClosed)
	}
	b.users++
	return b.buf[:b.size], nil
}

func (b *smallBody) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users--; b.users == 0 && b.closed {
		smallPool.Put(b.buf)
		b.buf = nil
	}
}

func (b *smallBody) ReadAt(p []byte, off int64) (int, error) {
	all, err := b.acquire()
	if err != nil {
		return 0, err
	}
	defer b.release()
	switch {
	case off < 0:
		return 0, opError("read body", errors.New("negative offset"))
	case off >= b.size:
		return 0, io.EOF
	}
	n := copy(p, all[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteRangeTo writes length bytes from offset on to w.
func (b *smallBody) WriteRangeTo(w io.Writer, offset, length int64) (int64, error) {
	if err := checkRange(offset, length, b.size); err != nil {
		return 0, err
	}
	all, err := b.acquire()
	if err != nil {
		return 0, err
	}
	defer b.release()
	return writeAll(w, all[offset:offset+length])
}

func (b *smallBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		if b.users == 0 {
			smallPool.Put(b.buf)
			b.buf = nil
		}
	}
	return nil
}

// checkRange returns an error unless a range lies within a body of size bytes.
func checkRange(offset, length, size int64) error {
	if offset < 0 || length < 0 || offset > size || length > size-offset {
		return fmt.Errorf("cachetrip: store: %d bytes at %d are not within a body of %d", length, offset, size)
	}
	return nil
}

func writeAll(w io.Writer, b []byte) (int64, error) {
	n, err := w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}
