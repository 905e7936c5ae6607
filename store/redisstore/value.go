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

// The value on the server that holds the entries of a key:
//
//	revision [16] | expiry, Unix seconds [4] | CRC-32C of all else [4] | entries as CBOR
//
// Numbers are big-endian. The update script also reads revision and expiry. A
// value whose checksum does not match counts as missing, and the next update
// replaces it.

const (
	revisionLen = 16
	valueHeader = revisionLen + 4 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// metadata has the fields of store.Entry, by number, so that the format does not depend
// on names in Go. A new field needs a number here, and a place in encodeEntries and
// decodeValue; TestValueKnowsAllFields fails as long as one of them lacks it.
type metadata struct {
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

// instant is a time. Its zero value stands for the zero time.Time.
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

// encodeEntries returns entries as CBOR. It fails with ErrTooLarge if the
// metadata of one is larger than maxMetadata.
func encodeEntries(entries []*store.Entry) ([]byte, error) {
	encoded := make([]cbor.RawMessage, len(entries))
	for i, e := range entries {
		inline := 0
		h := metadata{
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
		encoded[i] = b
	}
	return encoding.Marshal(encoded)
}

// newValue returns a value with a new revision.
func newValue(entries []byte, until time.Time) []byte {
	b := make([]byte, valueHeader, valueHeader+len(entries))
	rand.Read(b[:revisionLen])
	binary.BigEndian.PutUint32(b[revisionLen:], uint32(until.Unix()))
	b = append(b, entries...)
	binary.BigEndian.PutUint32(b[revisionLen+4:], checksum(b))
	return b
}

// checksum returns the checksum of a value.
func checksum(value []byte) uint32 {
	sum := crc32.Checksum(value[:revisionLen+4], castagnoli)
	return crc32.Update(sum, castagnoli, value[valueHeader:])
}

// decodeValue returns the entries of key from a value.
func decodeValue(key string, value []byte) ([]*store.Entry, error) {
	if len(value) < valueHeader || checksum(value) != binary.BigEndian.Uint32(value[revisionLen+4:]) {
		return nil, store.ErrDamaged
	}
	var decoded []metadata
	if err := decoding.Unmarshal(value[valueHeader:], &decoded); err != nil || len(decoded) > maxVariants {
		return nil, store.ErrDamaged
	}
	entries := make([]*store.Entry, len(decoded))
	for i := range decoded {
		h := &decoded[i]
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

// decoded remembers the entries of values that were decoded.
type decoded struct {
	max int // largest sum of sizeOf

	mu     sync.Mutex
	values map[string]decodedValue
	bytes  int
}

type decodedValue struct {
	value   string
	entries []*store.Entry
	size    int
}

// sizeOf returns about how many bytes a value and its decoded entries take in
// memory. It rather counts too many. Metadata with many short fields takes
// several times the size of its value.
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

// entries returns the entries of key from a value, which it decodes only if it
// is new.
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
		d.values = make(map[string]decodedValue) // every value is decoded once more
		d.bytes = size
	}
	d.values[key] = decodedValue{value, entries, size}
	return entries, nil
}
