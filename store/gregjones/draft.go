package gregjones

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/cachetrip/cachetrip/store"
)

// spoolAfter is how many bytes of a draft are kept in memory. Most responses of
// an API have fewer.
const spoolAfter = 64 << 10

// draft is a body that is arriving. Its beginning is in memory, the rest in a
// temporary file.
type draft struct {
	store *Store
	key   string

	mu     sync.RWMutex
	begin  []byte
	file   *os.File // the bytes after begin; nil if there are none
	size   int64
	err    error
	ended  bool // committed
	closed bool
}

func (d *draft) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return 0, d.err
	case d.closed || d.ended:
		return 0, opError("write body", fs.ErrClosed)
	case d.size+int64(len(p)) > d.store.maxBody:
		d.err = opError("write body", store.ErrTooLarge)
		return 0, d.err
	}
	n := min(len(p), spoolAfter-len(d.begin))
	d.begin = append(d.begin, p[:n]...)
	d.size += int64(n)
	if n == len(p) {
		return n, nil
	}
	if d.file == nil {
		if d.file, d.err = os.CreateTemp("", "cachetrip-body-"); d.err != nil {
			d.err = opError("write body", d.err)
			return n, d.err
		}
		os.Remove(d.file.Name()) // so that a crash leaves nothing; where the system does not allow it, Close removes it
	}
	m, err := d.file.WriteAt(p[n:], d.size-int64(len(d.begin)))
	d.size += int64(m)
	if err != nil {
		d.err = opError("write body", err)
	}
	return n + m, d.err
}

func (d *draft) ReadAt(p []byte, off int64) (n int, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch {
	case d.closed:
		return 0, opError("read draft", fs.ErrClosed)
	case off < 0:
		return 0, opError("read draft", errors.New("negative offset"))
	case off >= d.size:
		return 0, io.EOF
	}
	if left := d.size - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	if off < int64(len(d.begin)) {
		n = copy(p, d.begin[off:])
	}
	if n < len(p) {
		m, rerr := d.file.ReadAt(p[n:], off+int64(n)-int64(len(d.begin)))
		n += m
		if n < len(p) {
			return n, opError("read draft", rerr)
		}
	}
	return n, err
}

func (d *draft) Commit() (store.Blob, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return store.Blob{}, d.err
	case d.closed || d.ended:
		return store.Blob{}, opError("commit", fs.ErrClosed)
	}
	value := make([]byte, sha256.Size+d.size)
	n := copy(value[sha256.Size:], d.begin)
	if d.file != nil {
		if _, err := io.ReadFull(io.NewSectionReader(d.file, 0, d.size-int64(n)), value[sha256.Size+n:]); err != nil {
			d.err = opError("commit", err)
			return store.Blob{}, d.err
		}
	}
	blob := store.Blob{ID: rand.Text(), Size: d.size}
	d.store.set(bodyName(d.key, blob.ID), value)
	d.ended = true
	return blob, nil
}

func (d *draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed, d.begin = true, nil
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	os.Remove(d.file.Name())
	return err
}
