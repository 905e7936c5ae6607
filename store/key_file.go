package store

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
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
	recordMagic   = "\xc7\x0etr"
	recordHeader  = 16
	recordBlob    = 1
	recordEntries = 2

	blobIDLen = 16 // bytes; in text twice as many hexadecimal digits

	// maxLive bounds the heads and small bodies of a key in bytes, as they are read at once. Beyond it
	// the variants with the oldest ResponseTime go.
	maxLive = 4 << 20

	// compactSlack is how many bytes of a key's file may be obsolete beyond what is in use, before it is
	// written anew: some fifteen freshened heads of usual size, so that few updates cost a new file.
	compactSlack = 16 << 10

	// maxKeyFile is what a file can grow to by these rules; anything larger is none of ours.
	maxKeyFile = 2*maxLive + maxLive + compactSlack

	entriesVersion = 1
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

// inlineBlob is a blob that is kept in the file of its key.
type inlineBlob struct {
	id   blobID
	data []byte
	used bool // by an entry
}

// recordSize returns the size of the record with the blob.
func (b *inlineBlob) recordSize() int64 { return int64(recordHeader + blobIDLen + len(b.data)) }

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
		case kind == recordEntries:
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
	entries, err := decodeEntries(key, heads, func(id blobID) ([]byte, bool) {
		b := find(id)
		if b == nil {
			return nil, false
		}
		if !b.used {
			b.used = true
			live += b.recordSize()
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
