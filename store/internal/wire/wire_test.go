package wire

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

func TestRoundTrip(t *testing.T) {
	at := time.Date(2024, 2, 29, 23, 59, 59, 999_999_999, time.UTC)
	b := AppendString(nil, "")
	b = AppendString(b, "text")
	b = AppendTime(b, time.Time{})
	b = AppendTime(b, at)
	for _, n := range []int64{0, -1, math.MinInt64, math.MaxInt64} {
		b = binary.AppendVarint(b, n)
	}
	b = append(b, 7)
	d := Decoder{S: string(b)}
	if s := d.String() + "," + d.String(); s != ",text" {
		t.Errorf("strings %q", s)
	}
	if zero, got := d.Time(), d.Time(); !zero.IsZero() || !got.Equal(at) {
		t.Errorf("times %v and %v", zero, got)
	}
	for _, want := range []int64{0, -1, math.MinInt64, math.MaxInt64} {
		if n := d.Varint(); n != want {
			t.Errorf("number %d, want %d", n, want)
		}
	}
	if c := d.Byte(); c != 7 || d.S != "" || d.Bad {
		t.Errorf("byte %d, %q left, bad %t", c, d.S, d.Bad)
	}
}

func TestDecoderFails(t *testing.T) {
	for name, read := range map[string]func(*Decoder){
		"a byte of nothing":              func(d *Decoder) { d.Byte() },
		"an unfinished number: \x80":     func(d *Decoder) { d.S = "\x80"; d.Uvarint() },
		"a number of 65 bits":            func(d *Decoder) { d.S = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"; d.Uvarint() },
		"a number of 11 bytes":           func(d *Decoder) { d.S = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"; d.Uvarint() },
		"a string that is cut":           func(d *Decoder) { d.S = "\x05abc"; _ = d.String() },
		"more values than bytes":         func(d *Decoder) { d.S = "\x02abc"; d.Count(2) },
		"a time of an unknown kind":      func(d *Decoder) { d.S = "\x02\x00\x00"; d.Time() },
		"a second of too many fractions": func(d *Decoder) { d.S = "\x01\x00\xff\xff\xff\xff\x0f"; d.Time() },
	} {
		d := Decoder{}
		read(&d)
		if !d.Bad || d.S != "" || d.Byte() != 0 || d.String() != "" || !d.Time().IsZero() {
			t.Errorf("%s: bad %t, %q left", name, d.Bad, d.S)
		}
	}
}
