package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip/store"
)

// Writing bodies to the server. Readers of a draft read the copy in this
// process, so that a failure of the server affects neither them nor the
// download.

const (
	// inlineSize is the largest body that is kept with its metadata. A hit on
	// it needs one round trip, or none. An update sends it again.
	inlineSize = 16 << 10

	// draftTime is how long the chunks of a draft stay after the last one was
	// written. It is longer than any pause in a download.
	draftTime = 10 * time.Minute
)

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if size > s.opts.MaxBodyBytes {
		return nil, opError("create", store.ErrTooLarge)
	}
	raw := make([]byte, idLen/2)
	rand.Read(raw)
	id := hex.EncodeToString(raw)
	d := &draft{s: s, ctx: context.WithoutCancel(ctx), key: key, id: id, hash: s.blobName(key, id)}
	d.more.L = &d.mu
	return d, nil
}

// draft is a body that is being written.
type draft struct {
	s    *Store
	ctx  context.Context // for its values
	key  string
	id   string
	hash string // the name of the blob

	mu        sync.Mutex
	more      sync.Cond // signals that there is more to send, or that the draft ended
	memory    []byte    // the whole body while it fits one chunk; otherwise it is in file
	file      *os.File
	name      string // name of file; empty once it was removed
	size      int64
	err       error // the first error of Write or Commit
	committed bool
	closed    bool

	sending chan struct{} // closed when sending has ended; nil if it has not begun
	sent    int64         // number of chunks sent
	sendErr error
}

// Write implements [store.Draft]. It starts sending when a chunk is complete.
func (d *draft) Write(p []byte) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return 0, d.err
	case d.closed || d.committed:
		return 0, opError("write body", fs.ErrClosed)
	case d.sendErr != nil: // the body will not be stored, so keep no more of it
		d.err = opError("write body", d.sendErr)
	case d.size+int64(len(p)) > d.s.opts.MaxBodyBytes:
		d.err = opError("write body", store.ErrTooLarge)
	case d.file == nil && len(d.memory)+len(p) > chunkSize:
		d.err = opError("write body", d.spill())
	}
	if d.err != nil {
		return 0, d.err
	}
	if d.file != nil {
		n, err = d.file.WriteAt(p, d.size)
		d.err = opError("write body", err)
	} else {
		d.memory = append(d.memory, p...)
		n = len(p)
	}
	d.size += int64(n)
	if d.file != nil && d.err == nil {
		d.send()
	}
	return n, d.err
}

// spill moves the body from memory to a file. It removes the name of the file
// at once, where the system allows that.
func (d *draft) spill() error {
	f, err := os.CreateTemp(d.s.opts.TempDir, "cachetrip-")
	if err != nil {
		return err
	}
	if os.Remove(f.Name()) != nil {
		d.name = f.Name() // Windows removes a file only after it is closed
	}
	d.file = f
	_, err = f.Write(d.memory)
	if err == nil {
		d.memory = nil
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (d *draft) ReadAt(p []byte, off int64) (n int, err error) {
	d.mu.Lock()
	size, file := d.size, d.file
	switch {
	case d.closed:
		err = opError("read draft", fs.ErrClosed)
	case off < 0:
		err = opError("read draft", fs.ErrInvalid)
	case off >= size:
		err = io.EOF
	case d.memory != nil:
		file = nil
		if n = copy(p, d.memory[off:]); n < len(p) {
			err = io.EOF
		}
	}
	d.mu.Unlock()
	if err != nil || file == nil {
		return n, err
	}
	short := int64(len(p)) > size-off
	n, err = file.ReadAt(p[:min(int64(len(p)), size-off)], off)
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// send starts or continues sending: complete chunks, and after Commit also the
// last one. d.mu is held.
func (d *draft) send() {
	if d.sending == nil {
		d.sending = make(chan struct{})
		go d.transfer()
	}
	d.more.Broadcast()
}

// transfer sends chunks in order, until the draft is complete or closed.
func (d *draft) transfer() {
	defer close(d.sending)
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.closed && d.sendErr == nil {
		from := d.sent * chunkSize
		size := min(chunkSize, d.size-from)
		if size < chunkSize && !d.committed {
			d.more.Wait()
			continue
		}
		if size <= 0 {
			return
		}
		// Each chunk gets new memory. After a timeout the client may still be
		// writing the old one.
		chunk := make([]byte, 4+size)
		d.mu.Unlock()
		err := d.put(chunk, from)
		d.mu.Lock()
		d.sent++
		d.sendErr = err
	}
}

// put reads the chunk at offset from into chunk, and sends it.
func (d *draft) put(chunk []byte, from int64) error {
	if n, err := d.ReadAt(chunk[4:], from); n < len(chunk)-4 {
		return err
	}
	binary.BigEndian.PutUint32(chunk, crc32.Checksum(chunk[4:], castagnoli))
	_, err := run(d.s, d.s.bodies, d.ctx, d.key, d.s.opts.WriteTimeout, func(ctx context.Context, c *connection) (struct{}, error) {
		b := c.bodies.B()
		resps := c.bodies.DoMulti(ctx,
			b.Hset().Key(d.hash).FieldValue().FieldValue(strconv.FormatInt(from/chunkSize, 10), rueidis.BinaryString(chunk)).Build(),
			c.bodies.B().Pexpire().Key(d.hash).Milliseconds(draftTime.Milliseconds()).Build())
		if err := resps[0].Error(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, resps[1].Error()
	})
	return err
}

// Commit implements [store.Draft]. It waits up to WriteTimeout until the whole
// body is on the server.
func (d *draft) Commit() (store.Blob, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return store.Blob{}, d.err
	case d.closed || d.committed:
		return store.Blob{}, opError("commit", fs.ErrClosed)
	}
	d.committed = true
	blob := store.Blob{ID: d.id, Size: d.size}
	if d.size <= inlineSize {
		blob.Inline = append([]byte{}, d.memory...)
		return blob, nil
	}
	d.send()
	waiting := newBudget(d.s.opts.WriteTimeout)
	defer waiting.end()
	d.mu.Unlock()
	select {
	case <-d.sending:
	case <-waiting.done:
	}
	d.mu.Lock()
	if d.sendErr == nil && d.sent < chunksOf(d.size) {
		d.sendErr = os.ErrDeadlineExceeded
	}
	if d.sendErr != nil {
		d.err = opError("commit", d.sendErr)
		return store.Blob{}, d.err
	}
	return blob, nil
}

// Close implements [store.Draft].
func (d *draft) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.memory = nil
	d.more.Broadcast()
	sending, discard := d.sending, d.sending != nil && (!d.committed || d.err != nil)
	d.mu.Unlock()
	if !discard {
		return d.closeFile()
	}
	go func() { // ends soon; the last chunk may still be on its way
		<-sending
		d.closeFile()
		run(d.s, d.s.bodies, d.ctx, d.key, d.s.opts.WriteTimeout, func(ctx context.Context, c *connection) (struct{}, error) {
			return struct{}{}, c.bodies.Do(ctx, c.bodies.B().Unlink().Key(d.hash).Build()).Error()
		}) // if this fails, the chunks expire
	}()
	return nil
}

func (d *draft) closeFile() error {
	if d.file == nil {
		return nil
	}
	err := d.file.Close()
	if d.name != "" {
		os.Remove(d.name)
	}
	return err
}
