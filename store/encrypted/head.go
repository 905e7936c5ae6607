package encrypted

import (
	"encoding/binary"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// The plain text of a sealed head: the fields of an entry one after the other, numbers as varints and
// strings after their length. Only what was encrypted with the key is ever parsed.

const headVersion = 1

func appendHead(b []byte, e *store.Entry) []byte {
	var flags byte
	for i, set := range []bool{e.Uncompressed, e.ForeignCredentials, e.Header != nil, e.Trailer != nil, e.Selecting != nil} {
		if set {
			flags |= 1 << i
		}
	}
	b = append(b, headVersion, flags)
	b = appendString(b, e.URL)
	b = appendString(b, e.Method)
	b = binary.AppendVarint(b, int64(e.Status))
	b = appendString(b, e.Proto)
	b = appendHeader(b, e.Header)
	b = appendHeader(b, e.Trailer)
	b = binary.AppendUvarint(b, uint64(len(e.Selecting)))
	for name, value := range e.Selecting {
		b = appendString(appendString(b, name), value)
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
		b = appendString(b, part.Blob.ID)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendHeader(b []byte, h http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(h)))
	for name, values := range h {
		b = appendString(b, name)
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, value := range values {
			b = appendString(b, value)
		}
	}
	return b
}

// parser takes values off the front of b. After the first that is not there, all are zero.
type parser struct {
	b   []byte
	bad bool
}

func parseHead(b []byte) (e *store.Entry, ok bool) {
	p := parser{b: b}
	if p.byte() != headVersion {
		return nil, false
	}
	flags := p.byte()
	e = &store.Entry{
		Uncompressed:       flags&1 != 0,
		ForeignCredentials: flags&2 != 0,
		URL:                p.string(),
		Method:             p.string(),
		Status:             int(p.varint()),
		Proto:              p.string(),
		Header:             p.header(flags&4 != 0),
		Trailer:            p.header(flags&8 != 0),
	}
	n := p.count()
	if flags&16 != 0 {
		e.Selecting = make(map[string]string, n)
	}
	for range n {
		name := p.string()
		value := p.string()
		if e.Selecting != nil {
			e.Selecting[name] = value
		}
	}
	e.RequestTime, e.ResponseTime, e.InvalidatedAt = p.time(), p.time(), p.time()
	e.Length = p.varint()
	for range p.count() {
		e.Parts = append(e.Parts, store.Part{
			Offset: p.varint(), Length: p.varint(), Skip: p.varint(),
			Blob: store.Blob{Size: p.varint(), ID: p.string()},
		})
	}
	return e, !p.bad && len(p.b) == 0
}

func (p *parser) fail() { p.b, p.bad = nil, true }

func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.fail()
		return 0
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

func (p *parser) varint() int64 {
	v, n := binary.Varint(p.b)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return v
}

// count reads how many things follow, of which each takes a byte at least.
func (p *parser) count() int {
	v, n := binary.Uvarint(p.b)
	if n <= 0 || v > uint64(len(p.b)-n) {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return int(v)
}

func (p *parser) string() string {
	n := p.count()
	s := string(p.b[:n])
	p.b = p.b[n:]
	return s
}

func (p *parser) header(set bool) http.Header {
	n := p.count()
	if !set {
		return nil
	}
	h := make(http.Header, n)
	for range n {
		name := p.string()
		values := make([]string, p.count())
		for i := range values {
			values[i] = p.string()
		}
		h[name] = values
	}
	return h
}

func (p *parser) time() time.Time {
	seconds := p.varint()
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail()
		return time.Time{}
	}
	p.b = p.b[n:]
	return time.Unix(seconds, int64(v)).UTC()
}
