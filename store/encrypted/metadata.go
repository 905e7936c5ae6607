package encrypted

import (
	"encoding/binary"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/wire"
)

// The plain text of the metadata of an entry: its fields one after the other,
// in the encoding of package wire. Only text that was encrypted with the key is
// ever parsed. A new field of store.Entry needs a place in appendHead and in
// parseHead, and the format a new version; TestHeadKnowsAllFields fails as long
// as one of them lacks it.

// appendHead appends the metadata of e.
func appendHead(b []byte, e *store.Entry) []byte {
	var flags byte
	for i, set := range []bool{e.Uncompressed, e.ForeignCredentials, e.Header != nil, e.Trailer != nil, e.Selecting != nil} {
		if set {
			flags |= 1 << i
		}
	}
	b = append(b, formatVersion, flags)
	b = wire.AppendString(b, e.URL)
	b = wire.AppendString(b, e.Method)
	b = binary.AppendVarint(b, int64(e.Status))
	b = wire.AppendString(b, e.Proto)
	b = appendHeader(b, e.Header)
	b = appendHeader(b, e.Trailer)
	b = binary.AppendUvarint(b, uint64(len(e.Selecting)))
	for name, value := range e.Selecting {
		b = wire.AppendString(wire.AppendString(b, name), value)
	}
	for _, at := range []time.Time{e.RequestTime, e.ResponseTime, e.InvalidatedAt} {
		b = binary.AppendVarint(b, at.Unix())
		b = binary.AppendUvarint(b, uint64(at.Nanosecond()))
	}
	b = binary.AppendVarint(b, e.Length)
	b = binary.AppendUvarint(b, uint64(len(e.Parts)))
	for _, part := range e.Parts {
		b = binary.AppendVarint(b, part.Offset)
		b = binary.AppendVarint(b, part.Length)
		b = binary.AppendVarint(b, part.Skip)
		b = binary.AppendVarint(b, part.Blob.Size)
		b = wire.AppendString(b, part.Blob.ID)
	}
	return b
}

func appendHeader(b []byte, h http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(h)))
	for name, values := range h {
		b = wire.AppendString(b, name)
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, value := range values {
			b = wire.AppendString(b, value)
		}
	}
	return b
}

// parseHead returns the entry whose metadata appendHead has encoded.
func parseHead(b []byte) (e *store.Entry, ok bool) {
	p := wire.Decoder{S: string(b)}
	if p.Byte() != formatVersion {
		return nil, false
	}
	flags := p.Byte()
	e = &store.Entry{
		Uncompressed:       flags&1 != 0,
		ForeignCredentials: flags&2 != 0,
		URL:                p.String(),
		Method:             p.String(),
		Status:             int(p.Varint()),
		Proto:              p.String(),
		Header:             parseHeader(&p, flags&4 != 0),
		Trailer:            parseHeader(&p, flags&8 != 0),
	}
	n := p.Count(1)
	if flags&16 != 0 {
		e.Selecting = make(map[string]string, n)
	}
	for range n {
		name := p.String()
		value := p.String()
		if e.Selecting != nil {
			e.Selecting[name] = value
		}
	}
	e.RequestTime, e.ResponseTime, e.InvalidatedAt = p.Instant(), p.Instant(), p.Instant()
	e.Length = p.Varint()
	for range p.Count(1) {
		e.Parts = append(e.Parts, store.Part{
			Offset: p.Varint(), Length: p.Varint(), Skip: p.Varint(),
			Blob: store.Blob{Size: p.Varint(), ID: p.String()},
		})
	}
	return e, !p.Bad && p.S == ""
}

// parseHeader returns nil unless the header was set.
func parseHeader(p *wire.Decoder, set bool) http.Header {
	n := p.Count(1)
	if !set {
		return nil
	}
	h := make(http.Header, n)
	for range n {
		name := p.String()
		values := make([]string, p.Count(1))
		for i := range values {
			values[i] = p.String()
		}
		h[name] = values
	}
	return h
}
