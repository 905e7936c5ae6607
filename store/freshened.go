package store

import (
	"encoding/binary"
	"maps"
	"slices"
	"unsafe"

	"github.com/cachetrip/cachetrip/store/internal/wire"
)

// This file says which changes merely freshen stored responses, as a 304 does,
// and how they are recorded.
//
// A freshened record has the ID of the record that it was made from [8], and
// then some entries. Each has the index of the entry that it replaces. They
// come before the other entries, as [Arrange] has it. Any order of appends is
// harmless:
//
//   - Another change came between the two records: the freshened one was not made from the
//     last record that counts, and is ignored.
//   - Another change is appended after it, or the file is replaced or removed: the freshened
//     entry is lost.
//
// Both cost a 304, and nothing else, because a change that says how a response
// may be used is not made in this way.

// freshHeader is the size of the ID in a freshened record.
const freshHeader = 8

// replacement is a new version of the entry with an index.
type replacement struct {
	index int
	entry *Entry
}

// freshenings returns how next differs from current, if it only has newer
// headers and times of stored responses. next is arranged. It returns nil for
// all other changes, which must not be lost: new and dropped responses,
// invalidations, and notes, which record invalidations.
func freshenings(current, next []*Entry) []replacement {
	if len(next) != len(current) {
		return nil
	}
	var rs []replacement
	for _, e := range next {
		if slices.Contains(current, e) {
			break // the others are kept
		}
		i := slices.IndexFunc(current, func(old *Entry) bool { return freshens(e, old) })
		if i < 0 || slices.Contains(next, current[i]) || slices.ContainsFunc(rs, func(r replacement) bool { return r.index == i }) {
			return nil
		}
		rs = append(rs, replacement{i, e})
	}
	kept := next[len(rs):]
	for i, e := range current {
		if slices.ContainsFunc(rs, func(r replacement) bool { return r.index == i }) {
			continue
		}
		if kept[0] != e {
			return nil
		}
		kept = kept[1:]
	}
	return rs
}

// usageFields say how a response may be used. A Store below one that encrypts
// does not see them, nor Date.
var usageFields = [...]string{"Cache-Control", "Pragma", "Expires", "Vary", "No-Vary-Search", "Cache-Groups"}

// freshens reports whether e is a newer version of old, with the same body,
// that may be used as old may.
func freshens(e, old *Entry) bool {
	for _, name := range usageFields {
		if !slices.Equal(e.Header[name], old.Header[name]) {
			return false
		}
	}
	return len(e.Parts) > 0 && !e.IsNote() && e.Header["Date"] != nil && old.Header["Date"] != nil &&
		e.ForeignCredentials == old.ForeignCredentials && e.Uncompressed == old.Uncompressed && maps.Equal(e.Selecting, old.Selecting) &&
		slices.EqualFunc(e.Parts, old.Parts, samePart) &&
		e.Length == old.Length && e.Status == old.Status && e.Method == old.Method && e.URL == old.URL &&
		e.ResponseTime.After(old.ResponseTime) && !e.RequestTime.Before(old.RequestTime) &&
		(e.InvalidatedAt.IsZero() || e.InvalidatedAt.Equal(old.InvalidatedAt))
}

// samePart reports whether two parts are the same stretch of the same blob.
func samePart(a, b Part) bool {
	return a.Blob.ID == b.Blob.ID && a.Offset == b.Offset && a.Length == b.Length && a.Skip == b.Skip
}

// encodeFresh encodes the payload of a freshened record, in the memory of buf.
func (buf *encodeBuffers) encodeFresh(from recordID, rs []replacement) ([]byte, error) {
	b := binary.LittleEndian.AppendUint32(buf.entries[:0], from.at)
	b = binary.LittleEndian.AppendUint32(b, from.sum)
	b = binary.AppendUvarint(b, uint64(len(rs)))
	for _, r := range rs {
		one, err := appendEntry(buf.entry[:0], r.entry)
		if err != nil {
			return nil, err
		}
		if len(one) > maxMetadata {
			return nil, ErrTooLarge
		}
		b = binary.AppendUvarint(b, uint64(r.index))
		b = binary.AppendUvarint(b, uint64(len(one)))
		b = append(b, one...)
		buf.entry = one
	}
	buf.entries = b
	return b, nil
}

// madeFrom returns the ID in the payload of a freshened record.
func madeFrom(payload []byte) recordID {
	return recordID{binary.LittleEndian.Uint32(payload), binary.LittleEndian.Uint32(payload[4:])}
}

// applyFresh applies a freshened record, without its ID, to encoded entries. It
// changes the slice.
func applyFresh(encoded []string, payload []byte) (_ []string, ok bool) {
	// The entries are parts of the payload. Nobody writes to it.
	d := wire.Decoder{S: unsafe.String(unsafe.SliceData(payload), len(payload))}
	n := d.Count(2)
	out := make([]string, 0, len(encoded))
	for range n {
		i := d.Uvarint()
		one := d.String()
		if d.Bad || i >= uint64(len(encoded)) || encoded[i] == "" || one == "" {
			return nil, false
		}
		out, encoded[i] = append(out, one), ""
	}
	for _, one := range encoded {
		if one != "" {
			out = append(out, one)
		}
	}
	return out, d.S == "" && len(out) == len(encoded)
}
