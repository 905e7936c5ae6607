package store

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

const (
	// inlineMax is the largest body in bytes that is kept with the heads: reading that much more costs
	// less than opening another file, and three quarters of the responses of APIs are smaller.
	inlineMax = 16 << 10

	// writeSize is how much is gathered before a write. What is written in small pieces reads back at half
	// the speed, as the page cache keeps the pieces that it was given.
	writeSize = 256 << 10

	// stagingMax is how many bytes all drafts of a store may gather before they write pieces of
	// stagingMin instead, so that a thousand slow downloads do not take 256 MiB.
	stagingMax = 16 << 20
	stagingMin = 32 << 10
)

var writePool = sync.Pool{New: func() any { return new([writeSize]byte) }}

// Create implements [Store]. A body of up to 16 KiB stays in memory until an Update stores it with its
// entry; of a larger one at most 256 KiB at a time do.
func (d *Disk) Create(ctx context.Context, key string, size int64) (Draft, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if size > d.maxBody() {
		return nil, opError("create", ErrTooLarge)
	}
	// A cache that cannot be written to says so now and not after the download.
	if f, err := d.usageOpen(); err != nil {
		return nil, opError("create", err)
	} else if _, err := f.Stat(); err != nil {
		return nil, opError("create", err)
	}
	dr := &diskDraft{d: d, ctx: context.WithoutCancel(ctx), key: key, want: size}
	for i := range 2 {
		v := rand.Uint64()
		for j := range 8 {
			dr.id[8*i+j] = byte(v >> (8 * j))
		}
	}
	return dr, nil
}

func (d *Disk) maxBody() int64 { return d.max / bodyShare }

// diskDraft is a body on its way to the disk. Its first bytes, up to flushed, are in a temporary file,
// those after them in buf.
type diskDraft struct {
	d    *Disk
	ctx  context.Context
	key  string
	id   blobID
	want int64 // the size that was announced, or negative

	// What follows is the writer's alone.
	err      error
	sums     []uint32
	sum      uint32
	summed   int64 // bytes in sum
	reserved int64 // bytes that the usage file has for it
	ended    bool  // committed or closed

	mu      sync.RWMutex // what follows is read by others
	buf     []byte
	flushed int64
	file    *os.File
	pooled  *[writeSize]byte
	closed  bool
}

func (dr *diskDraft) name() string { return blobName(dr.key, dr.id.String()) }
func (dr *diskDraft) temp() string { return filepath.Join(dr.d.tmp, dr.name()) }

func (dr *diskDraft) Write(p []byte) (n int, err error) {
	switch {
	case dr.err != nil:
		return 0, dr.err
	case dr.ended:
		return 0, opError("write body", fs.ErrClosed)
	case dr.d.closed.Load():
		return 0, ErrClosed
	case dr.flushed+int64(len(dr.buf))+int64(len(p)) > dr.d.maxBody():
		dr.err = opError("write body", ErrTooLarge)
		return 0, dr.err
	}
	for n < len(p) {
		if len(dr.buf) == cap(dr.buf) && !dr.grow(len(p)-n) {
			if err := dr.flush(nil); err != nil {
				dr.err = opError("write body", err)
				return n, dr.err
			}
		}
		piece := p[n:min(len(p), n+cap(dr.buf)-len(dr.buf))]
		dr.mu.Lock()
		dr.buf = append(dr.buf, piece...)
		dr.mu.Unlock()
		dr.addSum(piece)
		n += len(piece)
	}
	return n, nil
}

// addSum takes p into the sums of the chunks.
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

// grow enlarges the buffer, for more bytes to come, unless it is as large as it may be.
func (dr *diskDraft) grow(more int) bool {
	size := max(1<<10, 4*cap(dr.buf))
	if dr.want > 0 && cap(dr.buf) == 0 {
		size = int(min(dr.want, inlineMax))
	}
	size = max(size, min(cap(dr.buf)+more, writeSize))
	if size > inlineMax {
		size = max(size, stagingMin)
	}
	size = min(size, writeSize)
	if size <= cap(dr.buf) {
		return false
	}
	if cap(dr.buf) >= stagingMin && dr.d.staging.Load()+int64(size) > stagingMax {
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

// dropBuffer gives the buffer back. mu is held.
func (dr *diskDraft) dropBuffer() {
	dr.d.staging.Add(-int64(cap(dr.buf)))
	if dr.pooled != nil {
		writePool.Put(dr.pooled)
	}
	dr.buf, dr.pooled = nil, nil
}

// flush writes what is in the buffer, and footer after it. If it fails, all that was written stays
// readable.
func (dr *diskDraft) flush(footer []byte) error {
	size := dr.flushed + int64(len(dr.buf)+len(footer))
	if err := dr.reserve(size, footer != nil); err != nil {
		return err
	}
	if dr.file == nil {
		f, err := dr.d.createTemp(dr.temp())
		if err != nil {
			return err
		}
		dr.mu.Lock()
		dr.file = f
		dr.mu.Unlock()
	}
	out := dr.buf
	if footer != nil {
		out = append(out, footer...) // beyond the length of buf: readers do not look there
	}
	if _, err := dr.file.WriteAt(out, dr.flushed); err != nil {
		return err
	}
	dr.mu.Lock()
	defer dr.mu.Unlock()
	dr.flushed += int64(len(dr.buf))
	dr.buf = dr.buf[:0]
	return nil
}

// createTemp makes a new file in the directory for temporary ones, which may have vanished.
func (d *Disk) createTemp(path string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL | nofollow
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeLayout(); err != nil {
			return nil, err
		}
		if _, err := makeDir(d.tmp); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, flags, 0o600)
	}
	return f, err
}

// reserve notes in the usage file that the draft's file grows to size bytes, in steps, so that a long
// body does not note each write, and makes room for them. exactly ends the steps.
func (dr *diskDraft) reserve(size int64, exactly bool) error {
	target := allocated(size)
	if !exactly {
		if target <= dr.reserved {
			return nil
		}
		step := min(max(dr.d.max/256, writeSize), 4<<20) // so that even 16 drafts at a time reserve 6 % too much at most
		target = max(target, dr.reserved+step)
		if dr.want >= 0 {
			target = min(target, max(allocated(size), allocated(bodyFileSize(dr.want))))
		}
	}
	delta := target - dr.reserved
	if delta == 0 {
		return nil
	}
	sum, err := dr.d.accountShard(dr.ctx, shardOf(dr.key), delta)
	if err != nil {
		return err
	}
	dr.reserved = target
	if delta > 0 && sum > dr.d.max {
		// Drafts cannot be evicted: if they alone are too much, this one is given up.
		if !dr.d.makeRoom(dr.ctx, sum) {
			return ErrTooLarge
		}
	}
	return nil
}

// accountShard notes growth of a shard whose lock is not held.
func (d *Disk) accountShard(ctx context.Context, shard int, delta int64) (sum int64, err error) {
	// Who waits this long for a lock is stuck behind a stopped process.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	l, err := d.lock(ctx, shard)
	if err != nil {
		return 0, err
	}
	defer l.unlock()
	var page usagePage
	return l.account(delta, &page)
}

func (dr *diskDraft) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read draft", errors.New("negative offset"))
	}
	dr.mu.RLock()
	if dr.closed {
		dr.mu.RUnlock()
		return 0, opError("read draft", fs.ErrClosed)
	}
	file, flushed := dr.file, dr.flushed
	size := flushed + int64(len(dr.buf))
	if off >= size {
		dr.mu.RUnlock()
		return 0, io.EOF
	}
	if left := size - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	// What is in memory must be copied before it is written and its place used again.
	inFile := int(max(0, min(flushed-off, int64(len(p)))))
	if inFile < len(p) {
		copy(p[inFile:], dr.buf[off+int64(inFile)-flushed:])
	}
	dr.mu.RUnlock()
	if inFile > 0 {
		if n, err := file.ReadAt(p[:inFile], off); err != nil {
			if err == io.EOF {
				err = ErrDamaged
			}
			return n, opError("read draft", err)
		}
	}
	return len(p), err
}

func (dr *diskDraft) Commit() (Blob, error) {
	switch {
	case dr.err != nil:
		return Blob{}, dr.err
	case dr.ended:
		return Blob{}, opError("commit", fs.ErrClosed)
	}
	if err := dr.d.begin(context.Background()); err != nil {
		return Blob{}, err
	}
	size := dr.flushed + int64(len(dr.buf))
	if dr.file == nil && size <= inlineMax {
		dr.ended = true
		b := dr.buf[:size:size]
		if b == nil || dr.pooled != nil {
			b = append([]byte{}, b...)
		}
		return Blob{ID: dr.id.String(), Size: size, Inline: b}, nil
	}
	if err := dr.publish(size); err != nil {
		dr.err = opError("commit", err)
		return Blob{}, dr.err
	}
	dr.ended = true
	return Blob{ID: dr.id.String(), Size: size}, nil
}

// publish writes the rest of the body and its footer and gives the file its name.
func (dr *diskDraft) publish(size int64) error {
	if dr.summed > 0 {
		dr.sums = append(dr.sums, dr.sum)
		dr.sum, dr.summed = 0, 0
	}
	if err := dr.flush(appendFooter(nil, dr.id, size, dr.sums)); err != nil {
		return err
	}
	dr.mu.Lock()
	defer dr.mu.Unlock()
	dr.dropBuffer()
	shard := shardOf(dr.key)
	if err := dr.d.checkShardDir(shard); err != nil {
		return err
	}
	if runtime.GOOS == "windows" { // which does not rename what is open
		dr.file.Close()
	}
	path := dr.d.path(dr.name())
	if dr.d.dv.Import(dr.temp(), dr.name(), true) != nil {
		if _, err := makeDir(dr.d.shardDir(shard)); err != nil {
			return err
		}
		if err := retryBusy(func() error { return os.Rename(dr.temp(), path) }); err != nil {
			return err
		}
	}
	if runtime.GOOS == "windows" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		dr.file = f
	}
	return nil
}

func (dr *diskDraft) Close() error {
	dr.mu.Lock()
	if dr.closed {
		dr.mu.Unlock()
		return nil
	}
	dr.closed = true
	// The bytes of a committed small body live on in its blob; they never are in a pooled buffer.
	dr.dropBuffer()
	file := dr.file
	dr.mu.Unlock()

	committed := dr.ended && dr.err == nil
	dr.ended = true
	if file != nil {
		file.Close()
		if !committed {
			removeFile(dr.temp())
		}
	}
	if !committed && dr.reserved > 0 {
		dr.d.accountShard(dr.ctx, shardOf(dr.key), -dr.reserved)
	}
	return nil
}
