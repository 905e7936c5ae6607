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

// Bodies on their way to the server. Those who read along read what this process has, so that what happens
// to the server does not concern them, nor whoever makes the body arrive.

const (
	// inlineSize is up to what size a body is kept with the head: a hit costs one round trip, or none, and an
	// update sends it again.
	inlineSize = 16 << 10

	// draftTime is for how long chunks stay that no entry names, since the last one was written: longer than
	// any pause in a download that is going on.
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
	more      sync.Cond // there is more to send, or nothing any more
	memory    []byte    // all of it, up to a chunk; then
	file      *os.File
	name      string // of the file, empty if it has none any more
	size      int64
	err       error // of Write
	committed bool
	closed    bool

	sending chan struct{} // closed when nothing is sent any more; nil if that has not begun
	sent    int64         // chunks
	sendErr error
}

// Write keeps p, and has whole chunks sent.
func (d *draft) Write(p []byte) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.err != nil:
		return 0, d.err
	case d.closed || d.committed:
		return 0, opError("write body", fs.ErrClosed)
	case d.sendErr != nil: // it will not be stored, so that there is no use in keeping more of it
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

// spill moves what there is to a file, which has no name any more where a system allows that.
func (d *draft) spill() error {
	f, err := os.CreateTemp(d.s.opts.TempDir, "cachetrip-")
	if err != nil {
		return err
	}
	if os.Remove(f.Name()) != nil {
		d.name = f.Name() // Windows does so only once it is closed
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

// send has the chunks that are complete sent, and once the draft is committed the last one. The lock is held.
func (d *draft) send() {
	if d.sending == nil {
		d.sending = make(chan struct{})
		go d.transfer()
	}
	d.more.Broadcast()
}

// transfer sends chunks in order until there will be no more.
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
		// What is given to the client stays its own: after a timeout it may still be writing it.
		chunk := make([]byte, 4+size)
		d.mu.Unlock()
		err := d.put(chunk, from)
		d.mu.Lock()
		d.sent++
		d.sendErr = err
	}
}

// put sends the chunk at an offset, read into the given memory.
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

// Commit implements [store.Draft]. It waits until everything is on the server, for WriteTimeout at most.
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
	late := time.NewTimer(d.s.opts.WriteTimeout)
	defer late.Stop()
	d.mu.Unlock()
	select {
	case <-d.sending:
	case <-late.C:
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
	go func() { // which ends soon: the last chunk may be on its way
		<-sending
		d.closeFile()
		run(d.s, d.s.bodies, d.ctx, d.key, d.s.opts.WriteTimeout, func(ctx context.Context, c *connection) (struct{}, error) {
			return struct{}{}, c.bodies.Do(ctx, c.bodies.B().Unlink().Key(d.hash).Build()).Error()
		}) // else it expires
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
