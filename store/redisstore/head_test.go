package redisstore

import (
	"net/http"
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
