package store

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"strings"
	"unsafe"

	"github.com/cachetrip/cachetrip/store/internal/entryset"
	"github.com/cachetrip/cachetrip/store/internal/wire"
)

// The file of a key is a sequence of records, each with a checksum:
//
//	magic [4] | type [1] | check of type and length [3] | payload length [4] | CRC-32C of type … payload [4] | payload
//
// Numbers are little-endian. A blob record has the ID [16] and the bytes of a
// small body. An entries record has all entries of the key, and the last one
// counts. Storing and dropping are therefore one append, which takes effect as
// a whole or not at all. Entries name blobs by ID and not by offset, so that
// two appends that did not know of each other do no harm.
//
// A freshened record has what a 304 changed. It is appended without a lock, so
// it names the record that it was made from. It counts only if that record is
// still the last one that counts: it never undoes an invalidation or a new
// response. See freshened.go.
//
// If a file ends in the middle of a record, an append was cut off, and the
// records before it count. The check of type and length proves that the record
// is cut off, and not that its length is damaged. After any other damage the
// whole file counts as missing: nobody knows its last entries then, and those
// before may have been invalidated since.

const (
	recordMagic   = "\xc7\x0etr"
	recordHeader  = 16
	recordBlob    = 1
	recordEntries = 2
	recordFresh   = 3

	blobIDLen = 16 // bytes; in text twice as many hexadecimal digits

	// maxLive limits the metadata and small bodies of a key in bytes, because
	// they are read at once. Beyond it the variants with the oldest
	// ResponseTime are dropped.
	maxLive = 4 << 20

	// compactSlack is how many more bytes of a key's file may be obsolete than
	// in use. Beyond it the file is written again from the start. Some fifteen
	// freshened entries fit, so that few updates cost a new file.
	compactSlack = 16 << 10

	// maxKeyFile is the largest size that a file can have by these rules.
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
	if len(s) != 2*blobIDLen || !entryset.IsHex(s) {
		return id, false
	}
	hex.Decode(id[:], []byte(s))
	return id, true
}

// keyState is the content of a key's file.
type keyState struct {
	entries []*Entry
	size    int64    // of the file in bytes; 0 if there is none
	live    int64    // the bytes of it that are in use, without freshened records
	damaged bool     // a checksum or a record is wrong
	tip     recordID // the last record that counts
	assumed bool     // an earlier look-up found no file, and none was made as far as is known
}

// recordID identifies a record within a file.
type recordID struct {
	at  uint32 // where it begins
	sum uint32 // its checksum
}

// idOf returns the ID of the record that begins at b[at].
func idOf(b []byte, at int) recordID {
	return recordID{uint32(at), binary.LittleEndian.Uint32(b[at+12:])}
}

// appendRecord appends a record. Its payload is the parts, joined.
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

// beginCheck returns the check of type and length: the three bytes after the
// type.
func beginCheck(record []byte) (check [3]byte) {
	sum := crc32.Update(crc32.Update(0, castagnoli, record[4:5]), castagnoli, record[8:12])
	return [3]byte{byte(sum), byte(sum >> 8), byte(sum >> 16)}
}

// nextRecord takes the first record off b. If that is not possible, torn
// reports whether b may be the beginning of a record that was cut off.
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

// decodeKeyFile decodes the file of key. The entries keep using b. It never
// fails: it leaves damaged entries out. It allocates memory in proportion to
// len(b).
func decodeKeyFile(key string, b []byte) keyState {
	st := keyState{size: int64(len(b))}
	var few [2]inlineBlob // nearly always enough
	blobs := few[:0]
	var heads []byte
	var fresh [][]byte // the freshened records after heads that count
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
			heads, fresh = payload, fresh[:0]
			st.tip = idOf(b, len(b)-len(rest))
		case kind == recordFresh && len(payload) >= freshHeader:
			if madeFrom(payload) == st.tip {
				fresh = append(fresh, payload[freshHeader:])
				st.tip = idOf(b, len(b)-len(rest))
			}
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
	set := newBlobSet(blobs)
	entries, err := decodeEntries(key, heads, fresh, func(id blobID) ([]byte, bool) {
		b := set.find(id)
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

// mayMatch reports whether the file of a key may have an entry whose URL
// matches. It decodes nothing else, and is true for a damaged file.
func mayMatch(b []byte, match func(url string) bool) bool {
	for rest := b; len(rest) > 0; {
		kind, payload, next, ok, _ := nextRecord(rest)
		if !ok {
			return true
		}
		rest = next
		skip := 0
		switch kind {
		case recordEntries:
			skip = 1 + keyLen/2
		case recordFresh:
			skip = freshHeader
		default:
			continue
		}
		if len(payload) < skip {
			return true
		}
		payload = payload[skip:]
		d := wire.Decoder{S: unsafe.String(unsafe.SliceData(payload), len(payload))}
		for range d.Count(2) {
			if kind == recordFresh {
				d.Uvarint() // which entry it replaces
			}
			if match(strings.Clone(encodedURL(d.String()))) { // b is used again
				return true
			}
		}
		if d.Bad {
			return true
		}
	}
	return false
}

// blobSet finds blobs by ID. It has a map only of many blobs.
type blobSet struct {
	blobs []inlineBlob
	byID  map[blobID]int
}

func newBlobSet(blobs []inlineBlob) blobSet {
	set := blobSet{blobs: blobs}
	if len(blobs) > 16 {
		set.byID = make(map[blobID]int, len(blobs))
		for i := range blobs {
			set.byID[blobs[i].id] = i
		}
	}
	return set
}

// find returns the blob with an ID, or nil.
func (set *blobSet) find(id blobID) *inlineBlob {
	if set.byID != nil {
		if i, ok := set.byID[id]; ok {
			return &set.blobs[i]
		}
		return nil
	}
	for i := range set.blobs {
		if set.blobs[i].id == id {
			return &set.blobs[i]
		}
	}
	return nil
}
