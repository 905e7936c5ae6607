package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
)

// Bodies are computed from a number, so that origin and client need not keep
// them.

const (
	// labelSize is the size of the name at the beginning of each body. It makes
	// all bodies different.
	labelSize = 16

	// seaSize is a prime number, so that bodies do not repeat in step with
	// buffers: exchanged pieces are noticed.
	seaSize = 1<<20 + 7

	// runSize is how many bytes the method at returns in one slice, except at
	// the end of a body.
	runSize = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sea are the random bytes that all bodies are cut from, with the first runSize
// repeated at its end.
var sea = sync.OnceValue(func() []byte {
	b := make([]byte, seaSize+runSize)
	rand.NewChaCha8([32]byte{}).Read(b[:seaSize])
	copy(b[seaSize:], b)
	return b
})

// content is a body of a certain size, at least labelSize.
type content struct {
	seed uint64
	size int64
}

// at returns some bytes from pos on, or none at the end.
func (c content) at(pos int64) []byte {
	if pos < labelSize {
		return fmt.Appendf(nil, "%0*x", labelSize, c.seed)[pos:min(labelSize, c.size)]
	}
	start := (c.seed*0x9e3779b97f4a7c15>>20 + uint64(pos)) % seaSize
	return sea()[start : start+uint64(min(runSize, c.size-pos))]
}

// WriteTo writes all of c.
func (c content) WriteTo(w io.Writer) (int64, error) {
	for pos := int64(0); pos < c.size; {
		n, err := w.Write(c.at(pos))
		pos += int64(n)
		if err != nil {
			return pos, err
		}
	}
	return c.size, nil
}

// checksum returns the CRC-32C of c.
func (c content) checksum() uint32 {
	var sum uint32
	for pos := int64(0); pos < c.size; {
		b := c.at(pos)
		sum = crc32.Update(sum, castagnoli, b)
		pos += int64(len(b))
	}
	return sum
}

// reader returns a reader of c.
func (c content) reader() io.Reader { return &contentReader{c: c} }

type contentReader struct {
	c   content
	pos int64
}

func (r *contentReader) Read(p []byte) (int, error) {
	if r.pos >= r.c.size {
		return 0, io.EOF
	}
	n := copy(p, r.c.at(r.pos))
	r.pos += int64(n)
	return n, nil
}

// body is a content with the checksum that received bodies are compared with.
type body struct {
	content
	sum uint32
}

func (c content) body() body { return body{c, c.checksum()} }

// verify returns an error if a received body has another length or checksum.
func (b *body) verify(length int64, sum uint32) error {
	if length != b.size {
		return wrongError{fmt.Errorf("wrong body: %d bytes instead of %d", length, b.size)}
	}
	if sum != b.sum {
		return wrongError{fmt.Errorf("wrong body: %d bytes, but checksum %08x instead of %08x", length, sum, b.sum)}
	}
	return nil
}
