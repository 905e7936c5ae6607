package store

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The file of a large body has the bytes of the body, from offset 0, and a
// footer. With the footer any part of the body can be verified alone:
//
//	body | CRC-32C [4] of each chunk | magic [8] | ID [16] | body length [8] | CRC-32C of the table [4] | CRC-32C of magic … table's CRC [4]

const (
	bodyMagic   = "ctbody1\n"
	bodyTrailer = 40

	// chunkSize is how many bytes are verified together. A body of up to that
	// size is verified before it is opened. Reading a chunk takes the time of
	// about ten system calls.
	chunkSize = 64 << 10
)

func chunks(size int64) int64 { return (size + chunkSize - 1) / chunkSize }

// bodyFileSize returns the size of the file of a body of size bytes.
func bodyFileSize(size int64) int64 { return size + 4*chunks(size) + bodyTrailer }

// appendFooter appends the footer of a body to b.
func appendFooter(b []byte, id blobID, size int64, sums []uint32) []byte {
	start := len(b)
	for _, sum := range sums {
		b = binary.LittleEndian.AppendUint32(b, sum)
	}
	table := crc32.Checksum(b[start:], castagnoli)
	start = len(b)
	b = append(b, bodyMagic...)
	b = append(b, id[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = binary.LittleEndian.AppendUint32(b, table)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// checkFooter returns the table in the footer of a body of size bytes. ok is
// false if the footer is damaged.
func checkFooter(footer []byte, id blobID, size int64) (table []byte, ok bool) {
	n := 4 * chunks(size)
	if size < 0 || int64(len(footer)) != n+bodyTrailer {
		return nil, false
	}
	table, t := footer[:n], footer[n:]
	ok = string(t[:8]) == bodyMagic && blobID(t[8:24]) == id &&
		binary.LittleEndian.Uint64(t[24:]) == uint64(size) &&
		binary.LittleEndian.Uint32(t[32:]) == crc32.Checksum(table, castagnoli) &&
		binary.LittleEndian.Uint32(t[36:]) == crc32.Checksum(t[:36], castagnoli)
	return table, ok
}

// checkChunk verifies the bytes of a chunk against the table.
func checkChunk(table []byte, chunk int64, b []byte) bool {
	return crc32.Checksum(b, castagnoli) == binary.LittleEndian.Uint32(table[4*chunk:])
}

// Open implements [Store].
func (d *Disk) Open(ctx context.Context, key string, blob Blob) (Body, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	if blob.Inline != nil {
		return newBytesBody(blob.Inline), nil
	}
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	id, ok := parseBlobID(blob.ID)
	if !ok || blob.Size < 0 {
		return nil, opError("open body", ErrDamaged)
	}
	body, err := d.openFile(key, id, blob)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.nameBody(ctx, key, blob.ID); err != nil {
			return nil, opError("open body", err)
		}
		body, err = d.openFile(key, id, blob) // another caller may have named it meanwhile
	}
	if errors.Is(err, fs.ErrNotExist) {
		// The blob may be kept with the entry, and the caller may have left out
		// its bytes.
		st, _, lerr := d.load(key)
		if lerr != nil {
			return nil, lerr
		}
		for _, e := range st.entries {
			for _, p := range e.Parts {
				if p.Blob.ID == blob.ID && p.Blob.Inline != nil {
					return newBytesBody(p.Blob.Inline), nil
				}
			}
		}
		err = ErrDamaged
	}
	if errors.Is(err, ErrDamaged) {
		d.discardBlob(key, blob.ID)
	}
	if err != nil {
		return nil, opError("open body", err)
	}
	return body, nil
}

func (d *Disk) openFile(key string, id blobID, blob Blob) (Body, error) {
	if blob.Size <= chunkSize {
		return d.openSmall(key, id, blob)
	}
	name := blobName(key, blob.ID)
	var f *bodyFile
	err := d.fromShard(shardOf(key), time.Now().UnixNano(), func(dir *shardDir) (err error) {
		f, err = dir.openBody(name)
		return err
	})
	if err != nil {
		if isUnreadable(d.path(name), err) {
			err = ErrDamaged
		}
		return nil, err
	}
	b := &fileBody{d: d, key: key, id: blob.ID, f: f, size: blob.Size}
	if err := b.prepare(); err != nil {
		f.Close()
		return nil, err
	}
	return b, nil
}

// fileBody is a body in a file of its own. Chunks are verified before their
// bytes are returned.
type fileBody struct {
	d    *Disk
	key  string
	id   string
	f    *bodyFile
	size int64

	proof atomic.Pointer[proof]

	position sync.Mutex // guards the file position of f
}

// proof tells which chunks of a file were verified. It has the checksums for
// the others.
type proof struct {
	marks *verified
	table []byte // the chunks' sums; nil if all chunks were verified before
}

// prepare checks the file's length and, if chunks are still to be verified, its
// footer. It does so again if the file has changed since.
func (b *fileBody) prepare() error {
	now := time.Now().UnixNano()
	var st fileStat
	if err := b.f.stat(&st); err != nil {
		return err
	}
	if p := b.proof.Load(); p != nil && st.ctime == p.marks.stat.ctime && st.mtime == p.marks.stat.mtime && st.size == p.marks.stat.size {
		return nil
	}
	id, ok := parseBlobID(b.id)
	if !ok || !st.regular || st.size != bodyFileSize(b.size) {
		return ErrDamaged
	}
	p := &proof{marks: b.d.verified.get(b.id, &st, now, chunks(b.size))}
	if p.marks.left.Load() == 0 {
		b.proof.Store(p)
		return nil
	}
	footer := make([]byte, st.size-b.size)
	if _, err := b.f.ReadAt(footer, b.size); err != nil {
		return err
	}
	table, ok := checkFooter(footer, id, b.size)
	for try := 0; !ok && try < 3 && now-st.mtime < int64(time.Second); try++ { // a checkpoint may just be writing it
		time.Sleep(time.Millisecond)
		if _, err := b.f.ReadAt(footer, b.size); err != nil {
			return err
		}
		table, ok = checkFooter(footer, id, b.size)
	}
	if !ok {
		return ErrDamaged
	}
	p.table = table
	b.proof.Store(p)
	return nil
}

func (b *fileBody) Close() error { return b.f.Close() }

// ReadAt implements io.ReaderAt.
func (b *fileBody) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read body", errors.New("negative offset"))
	}
	if off >= b.size {
		return 0, io.EOF
	}
	var atEnd error
	if left := b.size - off; int64(len(p)) > left {
		p, atEnd = p[:left], io.EOF
	}
	for n < len(p) {
		m, err := b.readSome(p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, b.failed(err)
		}
	}
	return n, atEnd
}

// failed returns the error for a reader. If err is damage, it also removes the
// entries with this body.
func (b *fileBody) failed(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = ErrDamaged // the file was cut since it was opened
	}
	if errors.Is(err, ErrDamaged) {
		b.d.discardBlob(b.key, b.id)
	}
	return opError("read body", err)
}

// WriteRangeTo writes length bytes from offset on to w. It does not write
// damaged bytes; the error is ErrDamaged then. If the whole file was verified
// and has not changed since, the kernel copies it, to a file or a TCP
// connection.
func (b *fileBody) WriteRangeTo(w io.Writer, offset, length int64) (n int64, err error) {
	if err := checkRange(offset, length, b.size); err != nil {
		return 0, err
	}
	if length == 0 {
		return 0, nil
	}
	if err := b.prepare(); err != nil {
		return 0, b.failed(err)
	}
	if kernelCopies(w) && b.proved() && b.position.TryLock() {
		defer b.position.Unlock()
		return b.sendFile(w, offset, length)
	}
	buf := writePool.Get().(*[writeSize]byte)
	defer writePool.Put(buf)
	for n < length {
		// Pieces end at multiples of the buffer size, so that each chunk is
		// read once.
		piece := buf[:min(length-n, writeSize-(offset+n)%writeSize)]
		m, err := b.readSome(piece, offset+n)
		written, werr := writeAll(w, piece[:m])
		n += written
		if werr != nil {
			return n, werr
		}
		if err != nil {
			return n, b.failed(err)
		}
	}
	return n, nil
}

// kernelCopies reports whether w may let the kernel copy a file. Other writers
// would read the file in smaller pieces than WriteRangeTo does.
func kernelCopies(w io.Writer) bool {
	switch w := w.(type) {
	case *os.File, *net.TCPConn:
		return true
	case http.ResponseWriter:
		_, ok := w.(io.ReaderFrom)
		return ok
	}
	return false
}

// proved reports whether the whole file is verified.
func (b *fileBody) proved() bool {
	m := b.proof.Load().marks
	return m.left.Load() == 0 && m.stat.sameVersion(&m.stat, m.seen) // or it could have changed unseen since
}

// sendFile lets w copy length bytes of the file from offset on. The caller
// holds b.position.
func (b *fileBody) sendFile(w io.Writer, offset, length int64) (int64, error) {
	f := b.f.osFile()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return 0, opError("read body", err)
	}
	n, err := io.Copy(w, &io.LimitedReader{R: f, N: length})
	if err == nil && n < length {
		var st fileStat
		if b.f.stat(&st) == nil && st.size < offset+length {
			return n, b.failed(ErrDamaged)
		}
		err = io.ErrShortWrite
	}
	return n, err
}

// readSome reads some of the bytes at off, which lie within the body. It reads
// one of three things: a run of verified chunks; a run of whole chunks, which
// it verifies in p; or a part of one chunk.
func (b *fileBody) readSome(p []byte, off int64) (int, error) {
	proof := b.proof.Load()
	chunk := off / chunkSize
	end := off + int64(len(p))
	if proof.table == nil || proof.marks.has(chunk) {
		stop := end
		if proof.table != nil {
			next := chunk + 1
			for next*chunkSize < end && proof.marks.has(next) {
				next++
			}
			stop = min(end, next*chunkSize)
		}
		return b.f.ReadAt(p[:stop-off], off)
	}
	if start := chunk * chunkSize; off != start || b.chunkEnd(chunk) > end {
		buf := chunkPool.Get().(*[chunkSize]byte)
		defer chunkPool.Put(buf)
		whole := buf[:b.chunkEnd(chunk)-start]
		if _, err := b.f.ReadAt(whole, start); err != nil {
			return 0, err
		}
		if !checkChunk(proof.table, chunk, whole) {
			return 0, ErrDamaged
		}
		proof.marks.set(chunk)
		return copy(p, whole[off-start:]), nil
	}
	last := chunk // of the run
	for b.chunkEnd(last) < end && b.chunkEnd(last+1) <= end && !proof.marks.has(last+1) {
		last++
	}
	run := p[:b.chunkEnd(last)-off]
	if _, err := b.f.ReadAt(run, off); err != nil {
		return 0, err
	}
	for c := chunk; c <= last; c++ {
		if !checkChunk(proof.table, c, run[c*chunkSize-off:b.chunkEnd(c)-off]) {
			return int(c*chunkSize - off), ErrDamaged
		}
		proof.marks.set(c)
	}
	return len(run), nil
}

// chunkEnd returns the offset at which a chunk ends.
func (b *fileBody) chunkEnd(chunk int64) int64 { return min((chunk+1)*chunkSize, b.size) }

var chunkPool = sync.Pool{New: func() any { return new([chunkSize]byte) }}
