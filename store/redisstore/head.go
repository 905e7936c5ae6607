package redisstore

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"net/http"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cachetrip/cachetrip/store"
)

// The value that holds the entries of a key:
//
//	revision [16] | when it may go, Unix seconds [4] | CRC-32C of all else [4] | entries as CBOR
//
// Numbers are big-endian, as the script that compares revisions and drops what may go reads them, too. A
// value that does not prove itself counts as none, and is replaced by the next update.

const (
	revisionLen = 16
	valueHeader = revisionLen + 4 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// head has the fields of store.Entry, by number, so that the format does not depend
// on names in Go. A new field needs a number here, and a place in encodeEntries and
// decodeValue; TestValueKnowsAllFields fails as long as one of them lacks it.
type head struct {
	URL                string            `cbor:"1,keyasint"`
	Method             string            `cbor:"2,keyasint"`
	Status             int               `cbor:"3,keyasint"`
	Proto              string            `cbor:"4,keyasint"`
	Header             http.Header       `cbor:"5,keyasint"`
	Trailer            http.Header       `cbor:"6,keyasint,omitzero"`
	Selecting          map[string]string `cbor:"7,keyasint,omitzero"`
	RequestTime        instant           `cbor:"8,keyasint"`
	ResponseTime       instant           `cbor:"9,keyasint"`
	InvalidatedAt      instant           `cbor:"10,keyasint,omitzero"`
	Uncompressed       bool              `cbor:"11,keyasint,omitzero"`
	ForeignCredentials bool              `cbor:"12,keyasint,omitzero"`
	Length             int64             `cbor:"13,keyasint"`
	Parts              []part            `cbor:"14,keyasint,omitzero"`
}

type part struct {
	_      struct{} `cbor:",toarray"`
	Offset int64
	Length int64
	Skip   int64
	ID     []byte
	Size   int64
	Inline []byte
}

// instant is a time; its zero value stands for that of time.Time.
type instant struct {
	_       struct{} `cbor:",toarray"`
	Set     bool
	Seconds int64
	Nanos   int64
}

func instantOf(t time.Time) instant {
	if t.IsZero() {
		return instant{}
	}
	return instant{Set: true, Seconds: t.Unix(), Nanos: int64(t.Nanosecond())}
}

func (i instant) time() time.Time {
	if !i.Set {
		return time.Time{}
	}
	return time.Unix(i.Seconds, i.Nanos).UTC()
}

var (
	encoding, _ = cbor.CoreDetEncOptions().EncMode()
	decoding, _ = cbor.DecOptions{UTF8: cbor.UTF8DecodeInvalid}.DecMode() // field values may be Latin-1
)

// encodeEntries returns entries as CBOR. It fails with ErrTooLarge if a head is over maxMetadata.
func encodeEntries(entries []*store.Entry) ([]byte, error) {
	heads := make([]cbor.RawMessage, len(entries))
	for i, e := range entries {
		inline := 0
		h := head{
			URL: e.URL, Method: e.Method, Status: e.Status, Proto: e.Proto,
			Header: e.Header, Trailer: e.Trailer, Selecting: e.Selecting,
			RequestTime: instantOf(e.RequestTime), ResponseTime: instantOf(e.ResponseTime), InvalidatedAt: instantOf(e.InvalidatedAt),
			Uncompressed: e.Uncompressed, ForeignCredentials: e.ForeignCredentials, Length: e.Length,
		}
		for _, p := range e.Parts {
			id, err := hex.DecodeString(p.Blob.ID)
			if err != nil {
				return nil, err
			}
			inline += len(p.Blob.Inline)
			h.Parts = append(h.Parts, part{Offset: p.Offset, Length: p.Length, Skip: p.Skip, ID: id, Size: p.Blob.Size, Inline: p.Blob.Inline})
		}
		b, err := encoding.Marshal(&h)
		if err != nil {
			return nil, err
		}
		if len(b)-inline > maxMetadata {
			return nil, store.ErrTooLarge
		}
		heads[i] = b
	}
	return encoding.Marshal(heads)
}

// newValue returns a value of a new revision.
func newValue(entries []byte, until time.Time) []byte {
	b := make([]byte, valueHeader, valueHeader+len(entries))
	rand.Read(b[:revisionLen])
	binary.BigEndian.PutUint32(b[revisionLen:], uint32(until.Unix()))
	b = append(b, entries...)
	binary.BigEndian.PutUint32(b[revisionLen+4:], checksum(b))
	return b
}

// checksum returns what a value is proven by.
func checksum(value []byte) uint32 {
	sum := crc32.Checksum(value[:revisionLen+4], castagnoli)
	return crc32.Update(sum, castagnoli, value[valueHeader:])
}

// decodeValue returns the entries of key that value holds.
func decodeValue(key string, value []byte) ([]*store.Entry, error) {
	if len(value) < valueHeader || checksum(value) != binary.BigEndian.Uint32(value[revisionLen+4:]) {
		return nil, store.ErrDamaged
	}
	var heads []head
	if err := decoding.Unmarshal(value[valueHeader:], &heads); err != nil || len(heads) > maxVariants {
		return nil, store.ErrDamaged
	}
	entries := make([]*store.Entry, len(heads))
	for i := range heads {
		h := &heads[i]
		e := &store.Entry{
			Key: key,
			URL: h.URL, Method: h.Method, Status: h.Status, Proto: h.Proto,
			Header: h.Header, Trailer: h.Trailer, Selecting: h.Selecting,
			RequestTime: h.RequestTime.time(), ResponseTime: h.ResponseTime.time(), InvalidatedAt: h.InvalidatedAt.time(),
			Uncompressed: h.Uncompressed, ForeignCredentials: h.ForeignCredentials, Length: h.Length,
		}
		for _, p := range h.Parts {
			e.Parts = append(e.Parts, store.Part{
				Offset: p.Offset, Length: p.Length, Skip: p.Skip,
				Blob: store.Blob{ID: hex.EncodeToString(p.ID), Size: p.Size, Inline: p.Inline},
			})
		}
		if err := checkEntry(key, e); err != nil {
			return nil, store.ErrDamaged
		}
		entries[i] = e
	}
	return entries, nil
}

// decoded remembers what values hold, by their revision.
type decoded struct {
	max int // bytes of memory, as sizeOf has it

	mu     sync.Mutex
	values map[string]decodedValue
	bytes  int
}

type decodedValue struct {
	value   string
	entries []*store.Entry
	size    int
}

// sizeOf returns what a value and the entries that it holds take in memory, in bytes, a little more rather than
// less: heads of many short fields take several times what they do as a value.
func sizeOf(value string, entries []*store.Entry) int {
	const perValue, perEntry, perField, perPart = 256, 512, 160, 128
	size := perValue + len(value)
	for _, e := range entries {
		size += perEntry
		for _, fields := range []http.Header{e.Header, e.Trailer} {
			for name, lines := range fields {
				size += perField + len(name)
				for _, line := range lines {
					size += 32 + len(line)
				}
			}
		}
		for name, value := range e.Selecting {
			size += perField + len(name) + len(value)
		}
		for _, p := range e.Parts {
			size += perPart + len(p.Blob.Inline)
		}
	}
	return size
}

// entries returns the entries of key that value holds.
func (d *decoded) entries(key, value string) ([]*store.Entry, error) {
	d.mu.Lock()
	known, ok := d.values[key]
	d.mu.Unlock()
	if ok && known.value == value {
		return known.entries, nil
	}
	entries, err := decodeValue(key, []byte(value))
	size := sizeOf(value, entries)
	if err != nil || size > d.max {
		return entries, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes += size - d.values[key].size
	if d.values == nil || d.bytes > d.max {
		d.values = make(map[string]decodedValue) // costs each of them to be decoded once more
		d.bytes = size
	}
	d.values[key] = decodedValue{value, entries, size}
	return entries, nil
}
