package store

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzKeyFile is best run with -fuzzminimizetime=1x. Otherwise package testing
// spends a minute on minimizing each new input, and reports 0 execs/sec
// meanwhile.
func FuzzKeyFile(f *testing.F) {
	key := testKey(1)
	e := testHead(key)
	id := blobID{1, 2, 3}
	e.Length = 5
	e.Trailer = http.Header{"X": {"y"}}
	e.Parts = []Part{{Length: 5, Blob: Blob{ID: id.String(), Size: 5, Inline: []byte("hello")}}}
	heads, err := new(encodeBuffers).encodeEntries(key, []*Entry{e, testHead(key)})
	if err != nil {
		f.Fatal(err)
	}
	whole := appendRecord(appendRecord(nil, recordBlob, id[:], []byte("hello")), recordEntries, heads)
	f.Add(whole, true)
	f.Add(whole[:len(whole)-3], false)
	f.Add(heads, true)
	f.Add(append(bytes.Clone(whole), whole[30:]...), false)
	f.Fuzz(func(t *testing.T, b []byte, wrap bool) {
		if wrap { // so that the fuzzer gets past the checksums
			b = appendRecord(nil, recordEntries, b)
		}
		given := bytes.Clone(b)
		st := decodeKeyFile(key, b)
		if !bytes.Equal(b, given) {
			t.Fatal("decoding changes the bytes")
		}
		// Decoded entries can be encoded, and are the same then.
		for _, e := range st.entries {
			if err := checkEntry(key, e); err != nil {
				t.Fatal(err)
			}
		}
		again, err := new(encodeBuffers).encodeEntries(key, st.entries)
		if err != nil {
			return
		}
		blobs, _, err := inlineBlobs(st.entries)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for _, b := range blobs {
			out = appendRecord(out, recordBlob, b.id[:], b.data)
		}
		st2 := decodeKeyFile(key, appendRecord(out, recordEntries, again))
		if st2.damaged {
			t.Fatal("what was encoded does not decode")
		}
		if diff := cmp.Diff(st.entries, st2.entries, cmpopts.EquateEmpty(), cmp.Comparer(bytes.Equal)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzFooter(f *testing.F) {
	f.Add(appendFooter(nil, blobID{1}, 100_000, []uint32{1, 2}), int64(100_000))
	f.Add([]byte{}, int64(-5))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		table, ok := checkFooter(b, blobID{1}, size)
		if ok && int64(len(table)) != 4*chunks(size) {
			t.Fatalf("a table of %d bytes for %d", len(table), size)
		}
	})
}

func TestDecoderBoundsMemory(t *testing.T) {
	// A head that lies about how much follows.
	for _, lie := range []uint64{1 << 20, 1 << 40, 1<<63 - 1} {
		heads := append([]byte{entriesVersion}, make([]byte, keyLen/2)...)
		heads = append(heads, 1)
		e := []byte{flagHeader | flagSelecting, 0, 0, 0, 0}
		for lie := lie; ; lie >>= 7 {
			if lie < 0x80 {
				e = append(e, byte(lie))
				break
			}
			e = append(e, byte(lie)|0x80)
		}
		heads = append(heads, byte(len(e)))
		heads = append(heads, e...)
		b := appendRecord(nil, recordEntries, heads)
		allocs := testing.AllocsPerRun(1, func() {
			if st := decodeKeyFile(strings.Repeat("0", 64), b); len(st.entries) > 0 || !st.damaged {
				t.Errorf("lie of %d: accepted", lie)
			}
		})
		if allocs > 50 {
			t.Errorf("lie of %d: %v allocations", lie, allocs)
		}
	}
}

// TestBlobSet finds each of few and of many blobs, and no others.
func TestBlobSet(t *testing.T) {
	for _, n := range []int{0, 1, 16, 17, 40} {
		blobs := make([]inlineBlob, n)
		for i := range blobs {
			blobs[i].id = blobID{byte(i)}
		}
		set := newBlobSet(blobs)
		for i := range blobs {
			if found := set.find(blobs[i].id); found != &blobs[i] {
				t.Errorf("of %d blobs, number %d was not found", n, i)
			}
		}
		if set.find(blobID{byte(n)}) != nil {
			t.Errorf("of %d blobs, another one was found", n)
		}
	}
}
