package digest

import (
	"bytes"
	"fmt"
	"hash"
	"sync"

	"github.com/cachetrip/cachetrip/internal/span"
)

// Check hashes content while it passes, and compares the results with digests.
// It is safe for concurrent use. A nil Check checks nothing.
type Check struct {
	mu   sync.Mutex
	sums []*sum
}

// sum is the hash of one stretch of the content.
type sum struct {
	span   span.Span // End is -1 if the stretch ends with the content
	hash   hash.Hash
	hashed int64    // the position up to which hash has the content
	stated []Digest // the digests that it must have
}

// Mismatch is the error of content that does not have the digest that it should
// have.
type Mismatch struct {
	Field     string // that states the digest
	Algorithm string // its name in that field
}

func (m *Mismatch) Error() string {
	return fmt.Sprintf("the body does not match %s (%s)", m.Field, m.Algorithm)
}

// With returns c with one more digest, which the stretch s of the content must
// have. s.End is -1 if s ends with the content. With makes a Check if c is nil.
// It must be called before the other methods.
func (c *Check) With(d Digest, s span.Span) *Check {
	if c == nil {
		c = new(Check)
	}
	for _, known := range c.sums {
		if known.span == s && known.stated[0].algorithm == d.algorithm {
			known.stated = append(known.stated, d)
			return c
		}
	}
	c.sums = append(c.sums, &sum{span: s, hash: d.algorithm.new(), hashed: s.Start, stated: []Digest{d}})
	return c
}

// Take takes content that begins at a position. Bytes that c has are skipped,
// and so are bytes that leave a gap: each byte must come after the one before
// it, but may come again.
func (c *Check) Take(position int64, p []byte) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sums {
		end := position + int64(len(p))
		if s.span.End >= 0 {
			end = min(end, s.span.End)
		}
		if position <= s.hashed && s.hashed < end {
			s.hash.Write(p[s.hashed-position : end-position])
			s.hashed = end
		}
	}
}

// Lacks returns the position from which c lacks content before the position
// end, or end if it lacks none.
func (c *Check) Lacks(end int64) int64 {
	if c == nil {
		return end
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	from := end
	for _, s := range c.sums {
		if s.span.Start < end && (s.span.End < 0 || s.hashed < s.span.End) {
			from = min(from, s.hashed)
		}
	}
	return from
}

// Wrong returns a [*Mismatch] if a stretch that ends at the position end, or
// before, does not have its digest. It may be called several times.
func (c *Check) Wrong(end int64) error {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sums {
		if s.span.End > end {
			continue // still to come
		}
		length := s.span.End
		if length < 0 {
			length = end
		}
		value := s.hash.Sum(nil)
		for _, d := range s.stated {
			if s.hashed != length || !bytes.Equal(value, d.value) {
				return &Mismatch{d.field, d.algorithm.name}
			}
		}
	}
	return nil
}
