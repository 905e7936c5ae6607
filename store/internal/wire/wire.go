// Package wire encodes and decodes the values that the metadata of an entry
// consists of. Numbers are varints; a string follows its length.
package wire

import (
	"encoding/binary"
	"time"
)

// AppendString appends the length of s and s.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendTime appends t without its location. The zero time takes one byte.
func AppendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	b = append(b, 1)
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// Decoder takes values off the front of S. After the first error it sets Bad,
// and everything that it returns is zero. The strings that it returns are parts
// of S.
type Decoder struct {
	S   string
	Bad bool
}

// Fail makes everything that follows zero.
func (d *Decoder) Fail() { d.S, d.Bad = "", true }

// Byte takes one byte.
func (d *Decoder) Byte() byte {
	if len(d.S) == 0 {
		d.Fail()
		return 0
	}
	c := d.S[0]
	d.S = d.S[1:]
	return c
}

// Uvarint takes a number that is not negative.
func (d *Decoder) Uvarint() uint64 {
	var v uint64
	for i := 0; i < len(d.S) && i < binary.MaxVarintLen64; i++ {
		c := d.S[i]
		if c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 {
				break
			}
			d.S = d.S[i+1:]
			return v | uint64(c)<<(7*i)
		}
		v |= uint64(c&0x7f) << (7 * i)
	}
	d.Fail()
	return 0
}

// Varint takes a number.
func (d *Decoder) Varint() int64 {
	u := d.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// Count takes the number of values that follow, each of which has at least size
// bytes. A larger number is an error, so that nobody allocates for values that
// cannot be there.
func (d *Decoder) Count(size int) int {
	n := d.Uvarint()
	if n > uint64(len(d.S)) || n*uint64(size) > uint64(len(d.S)) { // faster than a division
		d.Fail()
		return 0
	}
	return int(n)
}

// Take takes n bytes.
func (d *Decoder) Take(n int) string {
	if n > len(d.S) {
		d.Fail()
		return ""
	}
	s := d.S[:n]
	d.S = d.S[n:]
	return s
}

// String takes what AppendString appended.
func (d *Decoder) String() string { return d.Take(d.Count(1)) }

// Time takes what AppendTime appended.
func (d *Decoder) Time() time.Time {
	switch d.Byte() {
	case 0:
		return time.Time{}
	case 1:
		return d.Instant()
	}
	d.Fail()
	return time.Time{}
}

// Instant takes a time that was encoded as seconds since 1970 and nanoseconds.
func (d *Decoder) Instant() time.Time {
	sec, nsec := d.Varint(), d.Uvarint()
	if nsec > 999_999_999 {
		d.Fail()
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}
