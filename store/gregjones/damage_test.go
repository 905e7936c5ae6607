package gregjones

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"slices"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/store"
)

// values is a cache in memory.
type values map[string][]byte

func (v values) Get(name string) ([]byte, bool) { value, ok := v[name]; return value, ok }
func (v values) Set(name string, value []byte)  { v[name] = value }
func (v values) Delete(name string)             { delete(v, name) }

// TestForgedSlots: entries that this package cannot have written count as
// missing, even if their digest is right. They are replaced.
func TestForgedSlots(t *testing.T) {
	key, other := strings.Repeat("1", 64), strings.Repeat("1", 63)+"2"
	for _, test := range []struct {
		name  string
		forge func(*slot)
		want  int // entries
	}{
		{"as it was", func(*slot) {}, 1},
		{"a part behind its blob", func(sl *slot) { sl.Entries[0].Parts[0].Skip = 3 }, 0},
		{"a part longer than its blob", func(sl *slot) { sl.Entries[0].Parts[0].Length = 1 << 40 }, 0},
		{"a part of a negative length", func(sl *slot) { sl.Entries[0].Parts[0].Length = -1 }, 0},
		{"a blob of a negative size", func(sl *slot) { sl.Entries[0].Parts[0].Blob.Size = -1 }, 0},
		{"an entry of another key", func(sl *slot) { sl.Entries[0].Key = other }, 0},
		{"very many entries", func(sl *slot) {
			for range maxVariants {
				sl.Entries = append(sl.Entries, sl.Entries[0])
			}
		}, 0},
		{"no key", func(sl *slot) { sl.Key, sl.Entries[0].Key = "", "" }, 0},
		{"a key of another URL", func(sl *slot) { sl.Key = strings.Repeat("2", 64); sl.Entries[0].Key = sl.Key }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept := values{}
			s := New(kept, Options{})
			put := func(key string) {
				t.Helper()
				d, err := s.Create(t.Context(), key, 5)
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				d.Write([]byte("hello"))
				blob, err := d.Commit()
				if err != nil {
					t.Fatal(err)
				}
				e := &store.Entry{Key: key, URL: "http://example.com/", Method: "GET", Status: 200, Length: 5, Parts: []store.Part{{Length: 5, Blob: blob}}}
				if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} }); err != nil {
					t.Fatalf("storing: %v", err)
				}
			}
			count := func(key string) int {
				t.Helper()
				es, err := s.Entries(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				return len(es)
			}
			put(other)
			put(key)

			name := headsName(key[:32])
			value, _ := s.get(name)
			var slots []slot
			if err := gob.NewDecoder(bytes.NewReader(value)).Decode(&slots); err != nil {
				t.Fatal(err)
			}
			test.forge(&slots[0])
			b := bytes.NewBuffer(make([]byte, sha256.Size))
			if err := gob.NewEncoder(b).Encode(slots); err != nil {
				t.Fatal(err)
			}
			s.set(name, b.Bytes())

			if n := count(key); n != test.want {
				t.Errorf("%d entries, want %d", n, test.want)
			}
			if n := count(other); n != 1 {
				t.Errorf("%d entries of another identity, want 1", n)
			}
			var listed []string
			for e, err := range s.All(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				listed = append(listed, e.Key)
			}
			if len(listed) != 1+test.want || !slices.Contains(listed, other) {
				t.Errorf("listed are %q", listed)
			}
			put(key)
			if count(key) != 1 || count(other) != 1 {
				t.Errorf("after an update: %d and %d entries, want 1 each", count(key), count(other))
			}
		})
	}
}
