package store

import (
	"cmp"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
)

const (
	// inlineMax is the largest body, in bytes, that is kept in the file of its key. Reading
	// that much more costs less than opening another file, and three quarters of the
	// responses of APIs are smaller.
	inlineMax = 16 << 10

	// writeSize is how many bytes a draft collects before it writes them. A file that was
	// written in small pieces reads at half the speed, because the page cache keeps the
	// pieces as they came.
	writeSize = 256 << 10

	// stagingMax limits the bytes that all drafts of a store collect. Beyond it they write
	// pieces of stagingMin instead, so that a thousand slow downloads do not use 256 MiB.
	stagingMax = 16 << 20
	stagingMin = 32 << 10
)

var writePool = sync.Pool{New: func() any { return new([writeSize]byte) }}

// Create implements [Store]. A body of up to 16 KiB stays in memory until an Update stores it
// with its entry. Of a larger body at most 512 KiB are in memory at a time, half of them for
// callers that read it meanwhile.
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
	// If the cache cannot be written to, the caller learns it now, not after the download.
	if _, err := d.usageOpen(); err != nil {
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

// diskDraft is a body on its way to the disk. The bytes before flushed are in a temporary
// file, those after it in buf.
type diskDraft struct {
	d    *Disk
	ctx  context.Context
	key  string
	id   blobID
	want int64 // the size that was announced, or negative

	// Only the writer uses these.
	err      error
	sums     []uint32
	sum      uint32
	summed   int64 // bytes in sum
	reserved int64 // the bytes that the usage file counts for the draft
	ended    bool  // committed or closed
	spaces   int   // how often it has made space on a full disk

	mu      sync.RWMutex // guards the fields below, which readers use as well
	buf     []byte
	flushed int64
	file    *os.File
	pooled  *[writeSize]byte
	closed  bool

	// last is the piece before flushed, if it is still in memory. A reader that follows
	// closely finds it there.
	last       []byte
	lastPooled *[writeSize]byte
}

func (dr *diskDraft) name() string { return blobName(dr.key, dr.id.String()) }

// temp returns the path of the body until it is committed. It is in the shard, so that
// listing the shard finds everything that counts for it.
func (dr *diskDraft) temp() string { return dr.d.path(dr.tempName()) }

func (dr *diskDraft) tempName() string { return dr.name() + tempSuffix }

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

// grow enlarges the buffer for more bytes. It reports false if the buffer may not grow.
func (dr *diskDraft) grow(more int) bool {
	if int64(cap(dr.buf)) >= max(dr.d.max/64, stagingMin) {
		return false // in a very small cache, one piece would be a large part of the cache
	}
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

// dropBuffer returns the buffers to their pool. The caller holds mu.
func (dr *diskDraft) dropBuffer() {
	dr.d.staging.Add(-int64(cap(dr.buf)))
	if dr.pooled != nil {
		writePool.Put(dr.pooled)
	}
	if dr.lastPooled != nil {
		dr.d.staging.Add(-writeSize)
		writePool.Put(dr.lastPooled)
	}
	dr.buf, dr.pooled, dr.last, dr.lastPooled = nil, nil, nil, nil
}

// flush writes the buffer, and footer after it. On a full disk it makes space first. If
// that fails, all bytes of the draft stay readable.
func (dr *diskDraft) flush(footer []byte) error {
	return dr.withSpace(func() error { return dr.tryFlush(footer) })
}

// withSpace calls f, and again after making space on a full disk. A body that is larger
// than the disk must not evict everything, so a draft makes space a few times only.
func (dr *diskDraft) withSpace(f func() error) error {
	for {
		round := dr.d.squeezed.rounds.Load()
		err := f()
		if !diskFull(err) || dr.spaces == spaceTries || !dr.d.makeSpace(dr.ctx, round, int64(len(dr.buf))) {
			return err
		}
		dr.spaces++
	}
}

func (dr *diskDraft) tryFlush(footer []byte) error {
	size := dr.flushed + int64(len(dr.buf)+len(footer))
	last := footer != nil
	if err := dr.reserve(size, last); err != nil {
		return err
	}
	out := dr.buf
	if cap(out)-len(out) >= len(footer) {
		out, footer = append(out, footer...), nil // behind the end of buf, where readers do not look
	}
	if _, err := dr.file.WriteAt(out, dr.flushed); err != nil {
		return err
	}
	if len(footer) > 0 {
		if _, err := dr.file.WriteAt(footer, dr.flushed+int64(len(out))); err != nil {
			return err
		}
	}
	dr.mu.Lock()
	defer dr.mu.Unlock()
	dr.flushed += int64(len(dr.buf))
	if dr.pooled != nil && !last {
		next := dr.lastPooled
		if next == nil && dr.d.staging.Load()+writeSize <= stagingMax {
			dr.d.staging.Add(writeSize)
			next = writePool.Get().(*[writeSize]byte)
		}
		if next != nil {
			dr.last, dr.lastPooled = dr.buf, dr.pooled
			dr.buf, dr.pooled = next[:0], next
			return nil
		}
	}
	dr.buf, dr.last = dr.buf[:0], nil
	return nil
}

// createTemp makes a new file in a shard, and the directory of the shard if need be.
func (d *Disk) createTemp(shard int, path string) (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_EXCL | nofollow
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeShardDir(shard); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, flags, 0o600)
	}
	if err == nil {
		setMode(f)
		d.owner.give(f.Fd())
	}
	return f, err
}

// reserve notes in the usage file that the draft's file grows to size bytes, and makes room
// for them. It reserves in steps, so that a long body does not note every write. If exactly
// is true, it reserves size bytes and no more.
func (dr *diskDraft) reserve(size int64, exactly bool) error {
	target := allocated(size)
	if !exactly {
		if target <= dr.reserved {
			return nil
		}
		// A quarter more than was written, so that notes get rarer as the body grows. The
		// limit of more keeps even 16 drafts from reserving more than 6 % too much. If the
		// size was announced, larger steps are safe.
		more := min(dr.d.max/256, 4<<20)
		if dr.want >= 0 {
			target = max(allocated(size), min(allocated(size+more), allocated(bodyFileSize(dr.want))))
		} else {
			target = max(target, allocated(size+min(size/4, more)))
		}
	}
	delta := target - dr.reserved
	if delta == 0 {
		return nil
	}
	r := room{limit: dr.d.near()}
	sum, err := dr.resize(target, r)
	full := (*fullError)(nil)
	for try := 0; errors.As(err, &full); try++ {
		// Drafts cannot be evicted. If they alone are too large, this one is given up.
		if failed := dr.d.grant(dr.ctx, full, &r); failed != nil || try == roomTries {
			return cmp.Or(failed, ErrTooLarge)
		}
		sum, err = dr.resize(target, r)
	}
	if err == nil && delta > 0 && sum > dr.d.limit() {
		dr.d.makeRoom(dr.ctx, sum, 0)
	}
	return err
}

// resize gives the draft's file target bytes, in whole blocks, and notes that in the usage
// file. It does both under the shard's lock, so that a listing of the shard finds the
// reserved bytes. If target is 0, it removes the file. It fails with a fullError if there is
// no room.
func (dr *diskDraft) resize(target int64, r room) (sum int64, err error) {
	l, err := dr.lock()
	if err != nil {
		return 0, err
	}
	defer l.unlock()
	page := pagePool.Get().(*usagePage)
	defer pagePool.Put(page)
	if delta := target - dr.reserved; delta > 0 {
		if sum, err = l.reserve(delta, r, page); err != nil {
			return 0, err
		}
		dr.reserved = target
	}
	switch {
	case target == 0:
		// A closed draft may have been swept as a leftover. The sweep has noted the freed bytes.
		if err = retryBusy(func() error { return l.dir.remove(dr.tempName()) }); errors.Is(err, fs.ErrNotExist) {
			dr.reserved = 0
			return 0, nil
		}
	case dr.file == nil:
		var f *os.File
		if f, err = dr.d.createTemp(l.shard, dr.temp()); err == nil {
			dr.mu.Lock()
			dr.file = f
			dr.mu.Unlock()
			markAlive(f)
			err = f.Truncate(target)
		}
	default:
		err = dr.file.Truncate(target)
	}
	if err != nil {
		if dr.file == nil && target > 0 {
			l.account(-dr.reserved, page)
			dr.reserved = 0
		}
		return 0, err
	}
	if delta := target - dr.reserved; delta < 0 {
		if sum, err = l.account(delta, page); err != nil {
			return 0, err
		}
		dr.reserved = target
	}
	return sum, nil
}

// lock locks the draft's shard.
func (dr *diskDraft) lock() (*locked, error) {
	return dr.d.lock(dr.ctx, shardOf(dr.key), lockWait)
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
	// Bytes in memory are copied under the lock: afterwards the buffer may be reused.
	start := flushed - int64(len(dr.last))
	inFile := int(max(0, min(start-off, int64(len(p)))))
	if in := p[inFile:]; len(in) > 0 {
		at := off + int64(inFile) - start // in last and buf joined
		if at < int64(len(dr.last)) {
			n := copy(in, dr.last[at:])
			in, at = in[n:], at+int64(n)
		}
		if len(in) > 0 {
			copy(in, dr.buf[at-int64(len(dr.last)):])
		}
	}
	dr.mu.RUnlock()
	if inFile > 0 {
		n, err := file.ReadAt(p[:inFile], off)
		if errors.Is(err, fs.ErrClosed) { // renameClosed or Close has closed it
			dr.mu.RLock()
			if !dr.closed {
				n, err = dr.file.ReadAt(p[:inFile], off)
			}
			dr.mu.RUnlock()
		}
		if err != nil {
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
		if b == nil || dr.pooled != nil || int64(cap(dr.buf)) > 2*size+1024 { // the bytes may stay in the memory tier
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

// publish writes the rest of the body and its footer, and gives the file its name.
func (dr *diskDraft) publish(size int64) error {
	if dr.summed > 0 {
		dr.sums = append(dr.sums, dr.sum)
		dr.sum, dr.summed = 0, 0
	}
	if err := dr.flush(appendFooter(nil, dr.id, size, dr.sums)); err != nil {
		return err
	}
	dr.mu.Lock()
	dr.dropBuffer()
	dr.mu.Unlock()
	// The reserved bytes are whole blocks. Under the shard's lock, a listing finds the file
	// under one name or the other. Readers do not wait for that lock.
	if err := dr.file.Truncate(bodyFileSize(size)); err != nil {
		return err
	}
	return dr.withSpace(dr.giveName)
}

// giveName gives the file of the body its name.
func (dr *diskDraft) giveName() error {
	l, err := dr.lock()
	if err != nil {
		return err
	}
	defer l.unlock()
	if runtime.GOOS == "windows" { // Windows does not rename an open file
		return dr.renameClosed()
	}
	return dr.rename()
}

// rename gives the file its name, through diskv. The caller holds the shard's lock.
func (dr *diskDraft) rename() error {
	return retryBusy(func() error { return dr.d.dv.Import(dr.temp(), dr.name(), true) })
}

// renameClosed closes the file, renames it and opens it again. If that fails, the bytes
// stay readable.
func (dr *diskDraft) renameClosed() error {
	dr.mu.Lock()
	defer dr.mu.Unlock()
	dr.file.Close()
	path := dr.d.path(dr.name())
	err := dr.rename()
	if err != nil {
		path = dr.temp()
	}
	f, oerr := os.Open(path)
	if oerr == nil {
		dr.file = f
	}
	return errors.Join(err, oerr)
}

func (dr *diskDraft) Close() error {
	dr.mu.Lock()
	if dr.closed {
		dr.mu.Unlock()
		return nil
	}
	dr.closed = true
	// The bytes of a committed small body stay in use by its blob. They are never in a
	// pooled buffer.
	dr.dropBuffer()
	file := dr.file
	dr.mu.Unlock()

	committed := dr.ended && dr.err == nil
	dr.ended = true
	if file != nil {
		file.Close()
	}
	if !committed && dr.reserved > 0 {
		if _, err := dr.resize(0, anyRoom); err != nil && dr.d.checkShard(shardOf(dr.key)) == nil {
			removeFile(dr.temp()) // the store is closed, or the lock takes too long
		}
	}
	return nil
}
