package gregjones

import (
	"bytes"
	"crypto/sha256"
	"encoding/gob"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// This file has the metadata of a URL, which is one value: "heads:" and the
// URL's half of the keys.

// slot has the entries of one key. The slot of a URL that was changed last
// comes first.
type slot struct {
	Key     string
	Entries []*store.Entry
}

// heads returns the slots of a URL. It leaves out those that this package
// cannot have written: somebody else can write to the cache.
func (s *Store) heads(url string) []slot {
	value, ok := s.get(headsName(url))
	var slots []slot
	if !ok || gob.NewDecoder(bytes.NewReader(value)).Decode(&slots) != nil {
		return nil
	}
	return slices.DeleteFunc(slots, func(sl slot) bool { return !sl.valid(url) })
}

// valid reports whether the slot can be one of the URL.
func (sl *slot) valid(url string) bool {
	if entryset.CheckKey(sl.Key) != nil || !strings.HasPrefix(sl.Key, url) || len(sl.Entries) > maxVariants {
		return false
	}
	_, err := store.Arrange(sl.Key, nil, sl.Entries) // checks each entry
	return err == nil
}

func find(slots []slot, key string) []*store.Entry {
	for _, sl := range slots {
		if sl.Key == key {
			return sl.Entries
		}
	}
	return nil
}

// encode returns slots as a value. If they are too large, it drops slots at the
// end.
func encode(slots []slot) ([]byte, []slot, error) {
	for {
		b := bytes.NewBuffer(make([]byte, sha256.Size, 1<<10))
		if err := gob.NewEncoder(b).Encode(slots); err != nil {
			return nil, nil, opError("encode", err)
		}
		bound := maxHeads
		if len(slots) == 1 { // the limit of one key in any store
			bound = maxVariants * maxMetadata
			for _, e := range slots[0].Entries {
				if size(e) > maxMetadata {
					return nil, nil, opError("update", store.ErrTooLarge)
				}
			}
		}
		if b.Len() <= bound {
			return b.Bytes(), slots, nil
		}
		if len(slots) == 1 {
			return nil, nil, opError("update", store.ErrTooLarge)
		}
		slots = slots[:len(slots)/2]
	}
}

// size returns about how many bytes the metadata of an entry has.
func size(e *store.Entry) (n int) {
	for _, h := range []map[string][]string{e.Header, e.Trailer} {
		for name, values := range h {
			for _, v := range values {
				n += len(name) + len(v)
			}
		}
	}
	for name, v := range e.Selecting {
		n += len(name) + len(v)
	}
	return n + len(e.URL) + 64*len(e.Parts)
}

// blobs returns the names of all bodies that the slots name.
func blobs(slots []slot) map[string]bool {
	names := make(map[string]bool)
	for _, sl := range slots {
		for _, e := range sl.Entries {
			for _, p := range e.Parts {
				names[bodyName(sl.Key, p.Blob.ID)] = true
			}
		}
	}
	return names
}

// release deletes the bodies that no entry names any more.
func (s *Store) release(before, after []slot) {
	named := blobs(after)
	for name := range blobs(before) {
		if !named[name] {
			s.cache.Delete(prefix + name)
		}
	}
}
