package store

import (
	"hash/crc32"
	"io/fs"
	"runtime"
	"slices"
	"sync"
)

// A draft of an announced size may be made a blob while it is written, so that
// its beginning survives the end of the process. Its file then has its final
// name, its final length and a footer. The bytes that are still to come are a
// hole, and the footer has the checksums of chunks of zeros for them.

// Checkpoint makes the bytes before length a part of a blob, which an entry may
// name at once. The draft goes on, and Commit returns the same blob. length is
// 0 if it is too early or not possible: if the size was not announced, and on
// Windows, where an open file cannot be renamed.
func (dr *diskDraft) Checkpoint() (b Blob, length int64, err error) {
	length = dr.flushed / chunkSize * chunkSize
	if dr.err != nil || dr.ended || dr.file == nil || length == 0 || dr.want < dr.flushed+int64(len(dr.buf)) || runtime.GOOS == "windows" {
		return Blob{}, 0, dr.err
	}
	if err := dr.d.begin(dr.ctx); err != nil {
		return Blob{}, 0, err
	}
	if err := dr.writeFooter(dr.sums[:length/chunkSize]); err != nil {
		return Blob{}, 0, opError("checkpoint", err)
	}
	return Blob{ID: dr.id.String(), Size: dr.want}, length, nil
}

// writeFooter writes the footer for the final size, with the sums of the first
// chunks. The first time, it gives the file its name.
func (dr *diskDraft) writeFooter(sums []uint32) error {
	size := bodyFileSize(dr.want)
	if !dr.published {
		if err := dr.reserve(size, true); err != nil {
			return err
		}
		if err := dr.truncate(size); err != nil {
			return err
		}
	}
	footer := appendFooter(nil, dr.id, dr.want, withZeros(sums, dr.want))
	if err := dr.withSpace(func() error { _, err := dr.file.WriteAt(footer, dr.want); return err }); err != nil || dr.published {
		return err
	}
	if err := retryBusy(dr.giveName); err != nil {
		return err
	}
	dr.published = true
	return nil
}

// commitPublished is Commit for a draft that is a blob already. If it ends
// before its announced size, the rest stays a hole.
func (dr *diskDraft) commitPublished() (Blob, error) {
	if err := dr.flush(nil, true); err != nil {
		return Blob{}, err
	}
	sums := slices.Clip(dr.sums)
	if dr.summed > 0 {
		end := min(int64(len(sums)+1)*chunkSize, dr.want)
		sums = append(sums, sumZeros(dr.sum, end-dr.flushed))
	}
	if err := dr.writeFooter(sums); err != nil {
		return Blob{}, err
	}
	return Blob{ID: dr.id.String(), Size: dr.want}, nil
}

// closePublished removes the file of a draft that was not committed, unless an
// entry names it since a checkpoint.
func (dr *diskDraft) closePublished() error {
	l, err := dr.lock()
	if err != nil {
		return err
	}
	defer l.unlock()
	st, err := l.current(dr.key)
	if err != nil || fileBlobs(st.entries)[dr.id.String()] {
		return err
	}
	n, err := l.removeBlob(dr.key, dr.id.String())
	if err != nil {
		return err
	}
	page := pagePool.Get().(*usagePage)
	defer pagePool.Put(page)
	_, err = l.account(-allocated(n), page)
	return err
}

// pastEnd reports whether n more bytes would overwrite the footer.
func (dr *diskDraft) pastEnd(n int) bool {
	return dr.published && dr.flushed+int64(len(dr.buf))+int64(n) > dr.want
}

// errPastEnd is the error of a draft that gets more bytes than announced.
var errPastEnd = opError("write body", fs.ErrInvalid)

var zeroSum = sync.OnceValue(func() uint32 { return sumZeros(0, chunkSize) })

// withZeros appends the sums of chunks of zeros, up to those of a body of size
// bytes.
func withZeros(sums []uint32, size int64) []uint32 {
	sums = slices.Clip(sums)
	for n := chunks(size); int64(len(sums)) < n; {
		sum := zeroSum()
		if rest := size % chunkSize; rest > 0 && int64(len(sums)) == n-1 {
			sum = sumZeros(0, rest)
		}
		sums = append(sums, sum)
	}
	return sums
}

// sumZeros continues a checksum with n zeros.
func sumZeros(sum uint32, n int64) uint32 {
	var zeros [4 << 10]byte
	for ; n > 0; n -= int64(len(zeros)) {
		sum = crc32.Update(sum, castagnoli, zeros[:min(n, int64(len(zeros)))])
	}
	return sum
}
