package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sort"
	"strconv"
	"sync"
	"time"
)

const (
	// chunkMin and chunkMax are the sizes in bytes of the pieces by which a
	// body in memory grows. A body is never copied to grow. It wastes at most
	// its own length, and at most chunkMax.
	chunkMin = 1 << 10
	chunkMax = 256 << 10
)

type memBody struct{ *memBlob }

func (memBody) Close() error { return nil }

// memBlob is a body in memory. Its pieces never move.
type memBlob struct {
	id        string
	pieces    [][]byte
	starts    []int64 // the offsets of the pieces
	size      int64
	held      int64 // bytes that count against the limit
	named     int   // parts of entries that name it
	committed time.Time
	place     node[memBlob] // in Memory.loose
}

// ReadAt implements io.ReaderAt.
func (b *memBlob) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read body", errors.New("negative offset"))
	}
	for i := sort.Search(len(b.starts), func(i int) bool { return b.starts[i] > off }) - 1; i >= 0 && i < len(b.pieces) && n < len(p); i++ {
		from := off + int64(n) - b.starts[i]
		if from >= int64(len(b.pieces[i])) {
			break
		}
		n += copy(p[n:], b.pieces[i][from:])
	}
	if n < len(p) || len(p) == 0 && off >= b.size {
		return n, io.EOF
	}
	return n, nil
}

// Create implements [Store].
func (m *Memory) Create(ctx context.Context, key string, size int64) (Draft, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if size > m.max/bodyShare {
		return nil, opError("create", ErrTooLarge)
	}
	return &memDraft{m: m, want: size}, nil
}

type memDraft struct {
	m    *Memory
	want int64

	mu        sync.RWMutex
	blob      memBlob
	err       error
	committed bool
	closed    bool
}

func (dr *memDraft) Write(p []byte) (n int, err error) {
	switch {
	case dr.err != nil:
		return 0, dr.err
	case dr.closed || dr.committed:
		return 0, opError("write body", fs.ErrClosed)
	case dr.blob.size+int64(len(p)) > dr.m.max/bodyShare:
		dr.err = opError("write body", ErrTooLarge)
		return 0, dr.err
	}
	b := &dr.blob
	for n < len(p) {
		last := len(b.pieces) - 1
		if last < 0 || len(b.pieces[last]) == cap(b.pieces[last]) {
			size := min(max(chunkMin, b.size), chunkMax)
			if left := dr.want - b.size; left > 0 {
				size = min(left, chunkMax)
			}
			if !dr.reserve(size) {
				dr.err = opError("write body", ErrTooLarge)
				return n, dr.err
			}
			dr.mu.Lock()
			b.pieces = append(b.pieces, make([]byte, 0, size))
			b.starts = append(b.starts, b.size)
			dr.mu.Unlock()
			last++
		}
		piece := p[n:min(len(p), n+cap(b.pieces[last])-len(b.pieces[last]))]
		dr.mu.Lock()
		b.pieces[last] = append(b.pieces[last], piece...)
		b.size += int64(len(piece))
		dr.mu.Unlock()
		n += len(piece)
	}
	return n, nil
}

// reserve makes room for size more bytes and reports whether it could.
func (dr *memDraft) reserve(size int64) bool {
	m := dr.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += size
	if !m.makeRoom(nil) {
		m.bytes -= size
		return false
	}
	dr.blob.held += size
	return true
}

func (dr *memDraft) ReadAt(p []byte, off int64) (int, error) {
	dr.mu.RLock()
	defer dr.mu.RUnlock()
	if dr.closed {
		return 0, opError("read draft", fs.ErrClosed)
	}
	n, err := dr.blob.ReadAt(p, off)
	if off >= dr.blob.size && err == nil {
		err = io.EOF
	}
	return n, err
}

func (dr *memDraft) Commit() (Blob, error) {
	switch {
	case dr.err != nil:
		return Blob{}, dr.err
	case dr.closed || dr.committed:
		return Blob{}, opError("commit", fs.ErrClosed)
	}
	m := dr.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next++
	b := dr.blob // readers of the draft keep using its own copy
	b.id = strconv.FormatUint(m.next, 36)
	b.committed = time.Now()
	dr.committed = true
	m.blobs[b.id] = &b
	m.loose.pushBack(&b.place, &b)
	blob := Blob{ID: b.id, Size: b.size}
	switch len(b.pieces) {
	case 0:
		blob.Inline = []byte{}
	case 1:
		blob.Inline = b.pieces[0][:b.size:b.size]
	}
	return blob, nil
}

func (dr *memDraft) Close() error {
	dr.mu.Lock()
	var freed int64
	if !dr.closed && !dr.committed {
		freed = dr.blob.held
		dr.blob = memBlob{}
	}
	dr.closed = true
	dr.mu.Unlock()
	dr.m.mu.Lock()
	defer dr.m.mu.Unlock()
	dr.m.bytes -= freed
	return nil
}
