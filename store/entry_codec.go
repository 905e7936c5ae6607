package store

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"sync"
	"unsafe"

	"github.com/cachetrip/cachetrip/store/internal/wire"
)

// This file encodes entries for the file of a key. A new field of Entry needs a
// place in appendEntry and in decodeEntry, and the format a new directory:
// version in disk.go. A new entriesVersion alone is not enough, because older
// programs would remove the files. TestEntryCodecKnowsAllFields fails as long
// as one of them lacks the field, and TestReadsFilesOfV1 if files that were
// written before cannot be read.

// Flags of an encoded entry.
const (
	flagUncompressed = 1 << iota
	flagForeignCredentials
	flagHeader
	flagTrailer
	flagSelecting
)

// encodeBuffers is the memory that an Update encodes in.
type encodeBuffers struct {
	entries, entry, file []byte
}

var encodePool = sync.Pool{New: func() any { return new(encodeBuffers) }}

// maxPooled is the largest buffer, in bytes, that is kept for the next Update.
const maxPooled = 256 << 10

func (buf *encodeBuffers) free() {
	if max(cap(buf.entries), cap(buf.entry), cap(buf.file)) <= maxPooled {
		encodePool.Put(buf)
	}
}

// encodeEntries encodes the entries of key, in the memory of buf. It fails with
// ErrTooLarge if one of them is larger than maxMetadata.
func (buf *encodeBuffers) encodeEntries(key string, entries []*Entry) ([]byte, error) {
	b := append(buf.entries[:0], entriesVersion)
	raw, err := hex.DecodeString(key)
	if err != nil {
		return nil, err
	}
	b = append(b, raw...)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for _, e := range entries {
		one, err := appendEntry(buf.entry[:0], e)
		if err != nil {
			return nil, err
		}
		if len(one) > maxMetadata {
			return nil, ErrTooLarge
		}
		b = binary.AppendUvarint(b, uint64(len(one)))
		b = append(b, one...)
		buf.entry = one
	}
	buf.entries = b
	return b, nil
}

// appendEntry appends an encoded entry. The key and the bytes of inline blobs
// are not part of it.
func appendEntry(b []byte, e *Entry) ([]byte, error) {
	var flags byte
	for _, f := range []struct {
		set bool
		bit byte
	}{
		{e.Uncompressed, flagUncompressed},
		{e.ForeignCredentials, flagForeignCredentials},
		{e.Header != nil, flagHeader},
		{e.Trailer != nil, flagTrailer},
		{e.Selecting != nil, flagSelecting},
	} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, flags)
	b = wire.AppendString(b, e.URL)
	b = wire.AppendString(b, e.Method)
	b = binary.AppendVarint(b, int64(e.Status))
	b = wire.AppendString(b, e.Proto)
	if e.Header != nil {
		b = appendHeader(b, e.Header)
	}
	if e.Trailer != nil {
		b = appendHeader(b, e.Trailer)
	}
	if e.Selecting != nil {
		b = binary.AppendUvarint(b, uint64(len(e.Selecting)))
		for name, value := range e.Selecting {
			b = wire.AppendString(b, name)
			b = wire.AppendString(b, value)
		}
	}
	b = wire.AppendTime(b, e.RequestTime)
	b = wire.AppendTime(b, e.ResponseTime)
	b = wire.AppendTime(b, e.InvalidatedAt)
	b = binary.AppendVarint(b, e.Length)
	b = binary.AppendUvarint(b, uint64(len(e.Parts)))
	for _, p := range e.Parts {
		id, ok := parseBlobID(p.Blob.ID)
		if !ok {
			return nil, opError("encode", fmt.Errorf("blob %q is not of this store", p.Blob.ID))
		}
		b = binary.AppendVarint(b, p.Offset)
		b = binary.AppendVarint(b, p.Length)
		b = binary.AppendVarint(b, p.Skip)
		b = append(b, id[:]...)
		b = binary.AppendVarint(b, p.Blob.Size)
		if p.Blob.Inline != nil {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b, nil
}

// appendHeader also appends the number of all values, so that a decoder
// allocates them at once.
func appendHeader(b []byte, h http.Header) []byte {
	values := 0
	for _, v := range h {
		values += len(v)
	}
	b = binary.AppendUvarint(b, uint64(len(h)))
	b = binary.AppendUvarint(b, uint64(values))
	for name, lines := range h { // in any order: to sort them takes half of the time
		b = wire.AppendString(b, name)
		b = binary.AppendUvarint(b, uint64(len(lines)))
		for _, v := range lines {
			b = wire.AppendString(b, v)
		}
	}
	return b
}

func decodeHeader(d *wire.Decoder) http.Header {
	n := d.Count(2)
	values := make([]string, 0, d.Count(1))
	h := make(http.Header, n)
	for range n {
		name := d.String()
		start := len(values)
		for range d.Count(1) {
			if len(values) == cap(values) {
				d.Fail()
			}
			values = append(values, d.String())
		}
		// The capacity is cut: an append to the values of one field must not
		// write into those of the next.
		h[name] = values[start:len(values):len(values)]
		if d.Bad {
			return nil
		}
	}
	return h
}

// decodeEntries decodes what encodeEntries encoded, with the freshened records
// that were appended to it. It leaves out entries whose inline blobs are
// missing, and returns errRecord then. inline returns the bytes of an inline
// blob.
func decodeEntries(key string, payload []byte, fresh [][]byte, inline func(blobID) ([]byte, bool)) ([]*Entry, error) {
	if len(payload) < 1+keyLen/2 || payload[0] != entriesVersion {
		return nil, errRecord
	}
	raw := payload[1 : 1+keyLen/2]
	var text [keyLen]byte
	if hex.Encode(text[:], raw); string(text[:]) != key {
		return nil, errRecord // somebody moved the file of another key here
	}
	// The strings of the entries are parts of the payload. Nobody writes to it.
	d := wire.Decoder{S: unsafe.String(unsafe.SliceData(payload), len(payload))[1+keyLen/2:]}
	n := d.Count(8)
	if n > maxVariants {
		return nil, errRecord
	}
	var few [4]string // nearly always enough
	encoded := few[:0]
	for range n {
		encoded = append(encoded, d.String())
	}
	if d.Bad || d.S != "" {
		return nil, errRecord
	}
	for _, f := range fresh {
		var ok bool
		if encoded, ok = applyFresh(encoded, f); !ok {
			return nil, errRecord
		}
	}
	var err error
	entries := make([]*Entry, 0, n)
	for _, one := range encoded {
		ed := wire.Decoder{S: one}
		e, whole := decodeEntry(&ed, key, inline)
		if ed.Bad || ed.S != "" {
			return nil, errRecord
		}
		if !whole {
			err = errRecord
			continue
		}
		entries = append(entries, e)
	}
	return entries, err
}

// entryWithPart is one allocation for an entry and its only part.
type entryWithPart struct {
	Entry
	part [1]Part
}

// decodeEntry decodes one entry. whole is false if a blob is missing or does
// not fit.
func decodeEntry(d *wire.Decoder, key string, inline func(blobID) ([]byte, bool)) (e *Entry, whole bool) {
	flags := d.Byte()
	with := new(entryWithPart)
	e = &with.Entry
	e.Key = key
	e.Uncompressed = flags&flagUncompressed != 0
	e.ForeignCredentials = flags&flagForeignCredentials != 0
	e.URL = d.String()
	e.Method = d.String()
	e.Status = int(d.Varint())
	e.Proto = d.String()
	if flags&flagHeader != 0 {
		e.Header = decodeHeader(d)
	}
	if flags&flagTrailer != 0 {
		e.Trailer = decodeHeader(d)
	}
	if flags&flagSelecting != 0 {
		n := d.Count(2)
		e.Selecting = make(map[string]string, n)
		for range n {
			name := d.String()
			e.Selecting[name] = d.String()
		}
	}
	e.RequestTime = d.Time()
	e.ResponseTime = d.Time()
	e.InvalidatedAt = d.Time()
	e.Length = d.Varint()
	whole = true
	n := d.Count(blobIDLen + 5)
	switch n {
	case 0:
	case 1:
		e.Parts = with.part[:0]
	default:
		e.Parts = make([]Part, 0, n)
	}
	for range n {
		p := Part{Offset: d.Varint(), Length: d.Varint(), Skip: d.Varint()}
		rawID := d.Take(blobIDLen)
		p.Blob.Size = d.Varint()
		isInline := d.Byte()
		if d.Bad {
			return e, false
		}
		id := blobID([]byte(rawID))
		p.Blob.ID = id.String()
		if isInline != 0 {
			data, ok := inline(id)
			if !ok || int64(len(data)) != p.Blob.Size {
				whole = false
			}
			p.Blob.Inline = data
		}
		if checkPart(&p) != nil {
			whole = false
		}
		e.Parts = append(e.Parts, p)
	}
	return e, whole
}

// encodedURL returns the URL of an encoded entry.
func encodedURL(entry string) string {
	d := wire.Decoder{S: entry}
	d.Byte() // flags
	return d.String()
}
