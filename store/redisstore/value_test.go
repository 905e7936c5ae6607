package redisstore

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store"
)

// FuzzValue decodes what anybody may have put on the server.
func FuzzValue(f *testing.F) {
	key := strings.Repeat("0123456789abcdef", 4)
	encoded, err := encodeEntries([]*store.Entry{{
		Key: key, URL: "https://example.com/", Method: http.MethodGet, Status: 200, Proto: "HTTP/1.1", Length: 3,
		Header: http.Header{"A": {"b", "\xff"}}, ResponseTime: time.Unix(1, 2).UTC(), Selecting: map[string]string{"a": "b"},
		Parts: []store.Part{{Length: 3, Blob: store.Blob{ID: key[:idLen], Size: 3, Inline: []byte("abc")}}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte{0x9f, 0xff})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		entries, err := decodeValue(key, newValue(encoded, time.Now()))
		if err != nil {
			return
		}
		again, err := encodeEntries(entries)
		if err != nil {
			return // too large, say
		}
		same, err := decodeValue(key, newValue(again, time.Now()))
		if diff := cmp.Diff(entries, same); err != nil || diff != "" {
			t.Errorf("%v, or it changes (-want +got):\n%s", err, diff)
		}
	})
}

// TestDecodedMemory remembers many values, and looks at what that takes.
func TestDecodedMemory(t *testing.T) {
	for name, e := range map[string]*store.Entry{
		"many fields": {Header: http.Header{}},
		"no fields":   {},
		"a body":      {Parts: []store.Part{{Length: 10_000, Blob: store.Blob{ID: strings.Repeat("0", idLen), Size: 10_000, Inline: make([]byte, 10_000)}}}},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 15 {
				if e.Header != nil {
					e.Header.Set(fmt.Sprintf("X-Field-%d", i), strings.Repeat("v", 10*i))
				}
			}
			heap := func() int64 {
				runtime.GC()
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			const bound = 8 << 20
			d := decoded{max: bound}
			before, most := heap(), int64(0)
			for i := range 15_000 {
				e.Key = fmt.Sprintf("%064x", i)
				encoded, err := encodeEntries([]*store.Entry{e})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := d.entries(e.Key, string(newValue(encoded, time.Now()))); err != nil {
					t.Fatal(err)
				}
				if i%500 == 0 {
					most = max(most, heap()-before)
				}
			}
			if most > bound || most < bound/4 {
				t.Errorf("it takes %d bytes, want no more than %d, and not much less", most, bound)
			}
			runtime.KeepAlive(&d)
		})
	}
}
