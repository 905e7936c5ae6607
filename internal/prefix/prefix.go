// Package prefix compares the beginning of a body with stored content.
package prefix

import (
	"bytes"
	"io"
)

// size is the number of bytes that are compared at once.
const size = 32 << 10

// Same reports whether body begins with the first length bytes of content. It
// reads these bytes of body, or fewer if it returns false. ReadAt of content
// may return fewer bytes than requested, without an error.
func Same(body io.Reader, content io.ReaderAt, length int64) bool {
	got, want := make([]byte, size), make([]byte, size)
	for at := int64(0); at < length; {
		n := min(size, length-at)
		if _, err := io.ReadFull(body, got[:n]); err != nil {
			return false
		}
		if !readFull(content, want[:n], at) || !bytes.Equal(got[:n], want[:n]) {
			return false
		}
		at += n
	}
	return true
}

// readFull fills p with content from an offset on, and reports whether it
// could.
func readFull(content io.ReaderAt, p []byte, offset int64) bool {
	for len(p) > 0 {
		n, err := content.ReadAt(p, offset)
		if n == 0 || err != nil && n < len(p) {
			return false
		}
		p, offset = p[n:], offset+int64(n)
	}
	return true
}
