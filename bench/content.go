package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"sync"
)

// Bodies: made of a number, so that origin and client agree on them without keeping them.

const (
	// labelSize bytes at the beginning of a body name it, so that no two bodies are the same.
	labelSize = 16

	// seaSize is prime: pieces of a body that were exchanged do not go unnoticed because they repeat.
	seaSize = 1<<20 + 7

	// runSize is how many bytes of a body can always be had in one slice, but at its end.
	runSize = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sea are the random bytes that all bodies are cut from, with the first runSize repeated at its end.
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

// at returns some bytes from pos on, none at the end.
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

// reader returns what reads c from its beginning.
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

// body is a content with its checksum, by which what comes is verified.
type body struct {
	content
	sum uint32
}

func (c content) body() body { return body{c, c.checksum()} }

// verify says what is wrong with a body that came, if anything is.
func (b *body) verify(length int64, sum uint32) error {
	if length != b.size {
		return wrongError{fmt.Errorf("wrong body: %d bytes instead of %d", length, b.size)}
	}
	if sum != b.sum {
		return wrongError{fmt.Errorf("wrong body: %d bytes, but checksum %08x instead of %08x", length, sum, b.sum)}
	}
	return nil
}
