package store

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"net/http"
	"slices"
	"sync"
	"time"
	"unsafe"
)

// The file of a key is a sequence of records, each of which proves itself:
//
//	magic [4] | type [1] | check of type and length [3] | payload length [4] | CRC-32C of type … payload [4] | payload
//
// Numbers are little-endian. A blob record holds the ID [16] and the bytes of a small body, a heads
// record all entries of the key. The last heads record counts, so that storing, freshening and dropping
// are one append, which either is there whole or not at all. Entries name blobs by ID and not by
// offset: appends that did not know of each other do no harm.
//
// A file that ends in the middle of a record was cut off while it was appended to: what is before
// counts. That it does, and is not said to by a length that is damaged itself, the check in the record's beginning
// shows. Any other damage makes that the file as a whole does not count: what it says last is not known, and must not
// be taken from what it said before, as that may have been invalidated since.

const (
	recordMagic  = "\xc7\x0etr"
	recordHeader = 16
	recordBlob   = 1
	recordHeads  = 2

	blobIDLen = 16 // bytes; in text twice as many hexadecimal digits

	// maxLive bounds the heads and small bodies of a key in bytes, as they are read at once. Beyond it
	// the variants with the oldest ResponseTime go.
	maxLive = 4 << 20

	// compactSlack is how many bytes of a key's file may be obsolete beyond what is in use, before it is
	// written anew: some fifteen freshened heads of usual size, so that few updates cost a new file.
	compactSlack = 16 << 10

	// maxKeyFile is what a file can grow to by these rules; anything larger is none of ours.
	maxKeyFile = 2*maxLive + maxLive + compactSlack

	headsVersion = 1
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	errRecord = errors.New("store: malformed record")
)

type blobID [blobIDLen]byte

func (id blobID) String() string { return hex.EncodeToString(id[:]) }

func parseBlobID(s string) (id blobID, ok bool) {
	if len(s) != 2*blobIDLen || !isHex(s) {
		return id, false
	}
	hex.Decode(id[:], []byte(s))
	return id, true
}

// keyState is what a key's file says.
type keyState struct {
	entries []*Entry
	size    int64 // of the file in bytes; 0 if there is none
	live    int64 // bytes of it that are in use
	damaged bool  // something in it does not prove itself
}

// appendRecord appends a record whose payload is the parts joined.
func appendRecord(b []byte, kind byte, parts ...[]byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b = append(b, kind, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	check := beginCheck(b[start:])
	copy(b[start+5:], check[:])
	b = append(b, 0, 0, 0, 0)
	for _, p := range parts {
		b = append(b, p...)
	}
	sum := crc32.Update(0, castagnoli, b[start+4:start+12])
	sum = crc32.Update(sum, castagnoli, b[start+recordHeader:])
	binary.LittleEndian.PutUint32(b[start+12:], sum)
	return b
}

// beginCheck returns what is to be in the three bytes after the type of a record.
func beginCheck(record []byte) (check [3]byte) {
	sum := crc32.Update(crc32.Update(0, castagnoli, record[4:5]), castagnoli, record[8:12])
	return [3]byte{byte(sum), byte(sum >> 8), byte(sum >> 16)}
}

// nextRecord takes the first record off b. If that is not possible, torn tells whether b is the beginning of one, as
// far as can be known.
func nextRecord(b []byte) (kind byte, payload, rest []byte, ok, torn bool) {
	if len(b) < recordHeader {
		return 0, nil, nil, false, true
	}
	if string(b[:4]) != recordMagic || beginCheck(b) != [3]byte(b[5:8]) {
		return 0, nil, nil, false, false
	}
	n := int64(binary.LittleEndian.Uint32(b[8:]))
	if n > int64(len(b)-recordHeader) {
		return 0, nil, nil, false, true
	}
	payload, rest = b[recordHeader:recordHeader+n:recordHeader+n], b[recordHeader+n:]
	sum := crc32.Update(0, castagnoli, b[4:12])
	if crc32.Update(sum, castagnoli, payload) != binary.LittleEndian.Uint32(b[12:]) {
		return 0, nil, nil, false, false
	}
	return b[4], payload, rest, true, false
}

type inlineBlob struct {
	id   blobID
	data []byte
	used bool // by an entry
}

// decodeKeyFile reads the file of key, whose bytes the entries go on using. It never fails: what does
// not prove itself is not among the entries. Its memory is bounded by len(b).
func decodeKeyFile(key string, b []byte) keyState {
	st := keyState{size: int64(len(b))}
	var blobs []inlineBlob
	var heads []byte
	for rest := b; len(rest) > 0; {
		kind, payload, next, ok, torn := nextRecord(rest)
		if !ok {
			st.damaged = true
			if !torn {
				return st
			}
			break
		}
		switch {
		case kind == recordBlob && len(payload) >= blobIDLen:
			blobs = append(blobs, inlineBlob{id: blobID(payload[:blobIDLen]), data: payload[blobIDLen:]})
		case kind == recordHeads:
			heads = payload
		default:
			st.damaged = true
		}
		rest = next
	}
	if heads == nil {
		st.damaged = true
		return st
	}
	live := int64(recordHeader + len(heads))
	find := blobFinder(blobs)
	entries, err := decodeHeads(key, heads, func(id blobID) ([]byte, bool) {
		b := find(id)
		if b == nil {
			return nil, false
		}
		if !b.used {
			b.used = true
			live += int64(recordHeader + blobIDLen + len(b.data))
		}
		return b.data, true
	})
	if err != nil {
		st.damaged = true
	}
	st.entries, st.live = entries, live
	return st
}

// blobFinder looks blobs up by ID; a map only pays for many.
func blobFinder(blobs []inlineBlob) func(blobID) *inlineBlob {
	if len(blobs) <= 16 {
		return func(id blobID) *inlineBlob {
			for i := range blobs {
				if blobs[i].id == id {
					return &blobs[i]
				}
			}
			return nil
		}
	}
	m := make(map[blobID]*inlineBlob, len(blobs))
	for i := range blobs {
		m[blobs[i].id] = &blobs[i]
	}
	return func(id blobID) *inlineBlob { return m[id] }
}

// Flags of an encoded entry.
const (
	flagUncompressed = 1 << iota
	flagForeignCredentials
	flagHeader
	flagTrailer
	flagSelecting
)

// encodeBuffers are what an Update encodes in.
type encodeBuffers struct {
	heads, entry, file []byte
}

var encodePool = sync.Pool{New: func() any { return new(encodeBuffers) }}

// maxPooled bounds the bytes of a buffer that is kept for the next Update.
const maxPooled = 256 << 10

func (buf *encodeBuffers) free() {
	if max(cap(buf.heads), cap(buf.entry), cap(buf.file)) <= maxPooled {
		encodePool.Put(buf)
	}
}

// encodeHeads encodes the entries of key, in memory of buf. It fails with ErrTooLarge if one of them is over maxMetadata.
func (buf *encodeBuffers) encodeHeads(key string, entries []*Entry) ([]byte, error) {
	b := append(buf.heads[:0], headsVersion)
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
	buf.heads = b
	return b, nil
}

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
	b = appendString(b, e.URL)
	b = appendString(b, e.Method)
	b = binary.AppendVarint(b, int64(e.Status))
	b = appendString(b, e.Proto)
	if e.Header != nil {
		b = appendHeader(b, e.Header)
	}
	if e.Trailer != nil {
		b = appendHeader(b, e.Trailer)
	}
	if e.Selecting != nil {
		b = binary.AppendUvarint(b, uint64(len(e.Selecting)))
		for _, name := range sortedKeys(e.Selecting) {
			b = appendString(b, name)
			b = appendString(b, e.Selecting[name])
		}
	}
	b = appendTime(b, e.RequestTime)
	b = appendTime(b, e.ResponseTime)
	b = appendTime(b, e.InvalidatedAt)
	b = binary.AppendVarint(b, e.Length)
	b = binary.AppendUvarint(b, uint64(len(e.Parts)))
	for _, p := range e.Parts {
		id, ok := parseBlobID(p.Blob.ID)
		if !ok {
			return nil, errors.New("cachetrip: store: blob " + p.Blob.ID + " is not of this store")
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

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// sortedKeys makes the encoding of a map the same each time.
func sortedKeys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func appendHeader(b []byte, h http.Header) []byte {
	values := 0
	for _, v := range h {
		values += len(v)
	}
	b = binary.AppendUvarint(b, uint64(len(h)))
	b = binary.AppendUvarint(b, uint64(values))
	for _, name := range sortedKeys(h) {
		b = appendString(b, name)
		b = binary.AppendUvarint(b, uint64(len(h[name])))
		for _, v := range h[name] {
			b = appendString(b, v)
		}
	}
	return b
}

func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, 0)
	}
	b = append(b, 1)
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// decoder takes values off the front of s. After the first error all that it returns is zero.
type decoder struct {
	s   string
	bad bool
}

func (d *decoder) fail() {
	d.s, d.bad = "", true
}

func (d *decoder) byte() byte {
	if len(d.s) == 0 {
		d.fail()
		return 0
	}
	c := d.s[0]
	d.s = d.s[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	var v uint64
	for i := 0; i < len(d.s) && i < binary.MaxVarintLen64; i++ {
		c := d.s[i]
		if c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 {
				break
			}
			d.s = d.s[i+1:]
			return v | uint64(c)<<(7*i)
		}
		v |= uint64(c&0x7f) << (7 * i)
	}
	d.fail()
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// count returns the number of things that follow, each of which takes at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.s)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) take(n int) string {
	if n > len(d.s) {
		d.fail()
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

func (d *decoder) string() string {
	n := d.count(1)
	return d.take(n)
}

func (d *decoder) time() time.Time {
	switch d.byte() {
	case 0:
		return time.Time{}
	case 1:
		sec, nsec := d.varint(), d.uvarint()
		if nsec > 999_999_999 {
			d.fail()
		}
		return time.Unix(sec, int64(nsec)).UTC()
	}
	d.fail()
	return time.Time{}
}

func (d *decoder) header() http.Header {
	n := d.count(2)
	values := make([]string, 0, d.count(1))
	h := make(http.Header, n)
	for range n {
		name := d.string()
		start := len(values)
		for range d.count(1) {
			if len(values) == cap(values) {
				d.fail()
			}
			values = append(values, d.string())
		}
		// The capacity is cut so that an append to one field's values does not write into the next.
		h[name] = values[start:len(values):len(values)]
		if d.bad {
			return nil
		}
	}
	return h
}

// decodeHeads decodes what encodeHeads encoded. Entries whose inline blobs are missing are left out.
func decodeHeads(key string, payload []byte, inline func(blobID) ([]byte, bool)) ([]*Entry, error) {
	if len(payload) < 1+keyLen/2 || payload[0] != headsVersion {
		return nil, errRecord
	}
	raw := payload[1 : 1+keyLen/2]
	var text [keyLen]byte
	if hex.Encode(text[:], raw); string(text[:]) != key {
		return nil, errRecord // the file of another key, moved here
	}
	// The strings of all entries are parts of the payload, which nobody writes to.
	d := decoder{s: unsafe.String(unsafe.SliceData(payload), len(payload))[1+keyLen/2:]}
	n := d.count(8)
	if n > maxVariants {
		return nil, errRecord
	}
	var err error
	entries := make([]*Entry, 0, n)
	for range n {
		ed := decoder{s: d.string()}
		e, whole := ed.entry(key, inline)
		if d.bad || ed.bad || ed.s != "" {
			return nil, errRecord
		}
		if !whole {
			err = errRecord
			continue
		}
		entries = append(entries, e)
	}
	if d.bad || d.s != "" {
		return nil, errRecord
	}
	return entries, err
}

func (d *decoder) entry(key string, inline func(blobID) ([]byte, bool)) (e *Entry, whole bool) {
	flags := d.byte()
	e = &Entry{Key: key}
	e.Uncompressed = flags&flagUncompressed != 0
	e.ForeignCredentials = flags&flagForeignCredentials != 0
	e.URL = d.string()
	e.Method = d.string()
	e.Status = int(d.varint())
	e.Proto = d.string()
	if flags&flagHeader != 0 {
		e.Header = d.header()
	}
	if flags&flagTrailer != 0 {
		e.Trailer = d.header()
	}
	if flags&flagSelecting != 0 {
		n := d.count(2)
		e.Selecting = make(map[string]string, n)
		for range n {
			name := d.string()
			e.Selecting[name] = d.string()
		}
	}
	e.RequestTime = d.time()
	e.ResponseTime = d.time()
	e.InvalidatedAt = d.time()
	e.Length = d.varint()
	whole = true
	n := d.count(blobIDLen + 5)
	if n > 0 {
		e.Parts = make([]Part, 0, n)
	}
	for range n {
		p := Part{Offset: d.varint(), Length: d.varint(), Skip: d.varint()}
		rawID := d.take(blobIDLen)
		p.Blob.Size = d.varint()
		isInline := d.byte()
		if d.bad {
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
