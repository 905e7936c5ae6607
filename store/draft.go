package store

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// inlineMax is the largest body, in bytes, that is kept in the file of its key.
// Reading that much more costs less than opening another file, and three
// quarters of the responses of APIs are smaller.
const inlineMax = 16 << 10

// Create implements [Store]. A body of up to 16 KiB stays in memory until an
// Update stores it with its entry. Of a larger body at most 512 KiB are in
// memory at a time, half of them for callers that read it meanwhile.
func (d *Disk) Create(ctx context.Context, key string, size int64) (Draft, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if size > d.maxBody() {
		return nil, opError("create", ErrTooLarge)
	}
	// If the cache cannot be written to, the caller learns it now, not after
	// the download.
	if err := retryBusy(func() error { _, err := d.usageOpen(); return err }); err != nil {
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

// diskDraft is a body on its way to the disk. The bytes before flushed are in a
// temporary file, those after it in buf.
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
	summed   int64     // bytes in sum
	reserved int64     // the bytes that the usage file counts for the draft
	length   int64     // of the file, as it was last truncated or extended
	ended    bool      // committed or closed
	spaces   int       // how often it has made space on a full disk
	until    time.Time // see LimitWait; zero if there is no limit
	lent     bool      // AvailableBuffer has returned the free part of buf

	published bool // the file has its name and a footer since a checkpoint

	mu      sync.RWMutex // guards the fields below, which readers use as well
	buf     []byte
	flushed int64
	file    *os.File
	pooled  *[writeSize]byte
	closed  bool

	// last is the piece before flushed, if it is still in memory. A reader that
	// follows closely finds it there.
	last       []byte
	lastPooled *[writeSize]byte
}

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
	case dr.pastEnd(len(p)):
		dr.err = errPastEnd
		return 0, dr.err
	}
	for n < len(p) {
		if len(dr.buf) == cap(dr.buf) && !dr.grow(len(p)-n) {
			if err := dr.flush(nil, false); err != nil {
				dr.err = opError("write body", err)
				return n, dr.err
			}
		}
		n += dr.add(p[n:])
	}
	dr.lent = false
	return n, nil
}

// flush writes the buffer, and footer after it. If atEnd is true, nothing is
// written later. On a full disk flush makes space first. If that fails, all
// bytes of the draft stay readable.
func (dr *diskDraft) flush(footer []byte, atEnd bool) error {
	return dr.withSpace(func() error { return dr.tryFlush(footer, atEnd) })
}

// withSpace calls f, and again after making space on a full disk. A body that
// is larger than the disk must not evict everything, so a draft makes space a
// few times only.
func (dr *diskDraft) withSpace(f func() error) error {
	for {
		round := dr.d.squeezed.rounds.Load()
		err := f()
		if !diskFull(err) || dr.spaces == spaceTries || !dr.makeSpace(round) {
			return err
		}
		dr.spaces++
	}
}

func (dr *diskDraft) tryFlush(footer []byte, atEnd bool) error {
	size := dr.flushed + int64(len(dr.buf)+len(footer))
	if err := dr.reserve(size, footer != nil); err != nil {
		return err
	}
	out := dr.buf
	if cap(out)-len(out) >= len(footer) && !dr.lent {
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
	dr.recycle(atEnd)
	return nil
}

// reserve notes in the usage file that the draft's file grows to size bytes,
// and makes room for them. It reserves in steps, so that a long body does not
// note every write. If exactly is true, it reserves size bytes and no more.
func (dr *diskDraft) reserve(size int64, exactly bool) error {
	target := allocated(size)
	if !exactly {
		if target <= dr.reserved {
			return nil
		}
		// A quarter more than was written, so that notes get rarer as the body
		// grows. The limit of more keeps even 16 drafts from reserving more
		// than 6 % too much. If the size was announced, larger steps are safe.
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
		// Drafts cannot be evicted. If they alone are too large, this one is
		// given up.
		if failed := dr.grant(full, &r); failed != nil || try == roomTries {
			return cmp.Or(failed, ErrTooLarge)
		}
		sum, err = dr.resize(target, r)
	}
	if err == nil && delta > 0 && sum > dr.d.limit() {
		ctx, cancel := dr.context()
		defer cancel()
		dr.d.makeRoom(ctx, sum, 0)
	}
	return err
}

// resize gives the draft's file target bytes, in whole blocks, and notes that
// in the usage file. It does both under the shard's lock, so that a listing of
// the shard finds the reserved bytes. If target is 0, it removes the file. It
// fails with a fullError if there is no room.
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
	length := target
	if dr.want >= 0 && target == allocated(bodyFileSize(dr.want)) {
		length = bodyFileSize(dr.want) // so that it need not be truncated in the end
	}
	switch {
	case target == 0:
		// A closed draft may have been swept as a leftover. The sweep has noted
		// the freed bytes.
		if err = l.dir.remove(dr.tempName()); errors.Is(err, fs.ErrNotExist) {
			dr.reserved = 0
			return 0, nil
		}
	case dr.file == nil:
		var f *os.File
		if f, err = dr.d.owned(l.dir.createOpen(dr.tempName())); err == nil {
			dr.mu.Lock()
			dr.file = f
			dr.mu.Unlock()
			markAlive(f)
			err = dr.truncate(length)
		}
	default:
		err = dr.truncate(length)
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

// truncate gives the file a length, unless it has it.
func (dr *diskDraft) truncate(length int64) error {
	if length == dr.length {
		return nil
	}
	err := dr.file.Truncate(length)
	if err == nil {
		dr.length = length
	}
	return err
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
	// Bytes in memory are copied under the lock: afterwards the buffer may be
	// reused.
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
	b := Blob{ID: dr.id.String(), Size: size}
	var err error
	if dr.published {
		b, err = dr.commitPublished()
	} else {
		err = dr.publish(size)
	}
	if err != nil {
		dr.err = opError("commit", err)
		return Blob{}, dr.err
	}
	dr.ended = true
	return b, nil
}

func (dr *diskDraft) Close() error {
	dr.mu.Lock()
	if dr.closed {
		dr.mu.Unlock()
		return nil
	}
	dr.closed = true
	// The bytes of a committed small body stay in use by its blob. They are
	// never in a pooled buffer.
	dr.dropBuffers()
	file := dr.file
	dr.mu.Unlock()

	committed := dr.ended && dr.err == nil
	dr.ended = true
	if committed && !dr.published && file != nil && !isMissing(dr.temp()) {
		retryBusy(dr.giveName) // the Update is still to come
	}
	if file != nil {
		file.Close()
	}
	switch {
	case committed:
	case dr.published:
		retryBusy(dr.closePublished) // if it fails, the file is swept as a leftover
	case dr.reserved > 0:
		remove := func() error { _, err := dr.resize(0, anyRoom); return err }
		if err := retryBusy(remove); err != nil && dr.d.checkShard(shardOf(dr.key)) == nil {
			removeFile(dr.temp()) // the store is closed, or the lock takes too long
		}
	}
	return nil
}
