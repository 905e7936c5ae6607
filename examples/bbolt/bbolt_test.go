package bbolt

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storetest"
	bolt "go.etcd.io/bbolt"
)

// open opens a store until the test ends.
func open(t testing.TB, path string, opts Options) *Store {
	t.Helper()
	s, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestStore runs the acceptance tests. There is no Second, because bbolt locks
// its file.
func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		path := filepath.Join(t.TempDir(), "cache.db")
		s := open(t, path, Options{MaxBytes: 64 << 20})
		// flip changes a byte of a value of a key, or removes the value.
		flip := func(key, name string, remove bool) error {
			return s.db.Update(func(tx *bolt.Tx) error {
				b := tx.Bucket(keysName).Bucket([]byte(key))
				value := bytes.Clone(b.Get([]byte(name)))
				if value == nil {
					return fmt.Errorf("there is no value %s", name)
				}
				if remove {
					return b.Delete([]byte(name))
				}
				value[rand.IntN(len(value))] ^= 1
				return b.Put([]byte(name), value)
			})
		}
		return storetest.Subject{
			Store:   s,
			MaxBody: 16 << 20,
			Reopen: func() (store.Store, error) {
				if err := s.Close(); err != nil {
					return nil, err
				}
				s = open(t, path, Options{MaxBytes: 64 << 20})
				return s, nil
			},
			Damage:        func(key string, blob store.Blob) error { return flip(key, blob.ID, false) },
			Lose:          func(key string, blob store.Blob) error { return flip(key, blob.ID, true) },
			DamageEntries: func(key string) error { return flip(key, string(entriesName), false) },
			Collect: func() error {
				s.now = func() time.Time { return time.Now().Add(time.Hour) }
				return nil
			},
		}
	})
}

// TestEviction fills a small store. The keys that were used last stay, and the
// size is what it says.
func TestEviction(t *testing.T) {
	const limit = 1 << 20
	path := filepath.Join(t.TempDir(), "cache.db")
	s := open(t, path, Options{MaxBytes: limit})
	const size, keys = 50_000, 60
	for i := range keys {
		if err := put(t, s, i, size); err != nil {
			t.Fatal(err)
		}
		if n := s.size; n > limit {
			t.Fatalf("%d bytes after %d keys, more than %d", n, i, limit)
		}
		if got, err := s.Entries(t.Context(), storetest.Key(0, 0)); len(got) != 1 || err != nil {
			t.Fatalf("the key that is used all the time is gone after %d, %v", i, err)
		}
	}
	kept := 0
	for range s.All(t.Context(), "") {
		kept++
	}
	if kept < limit/size-2 || kept > limit/size {
		t.Errorf("%d keys are kept", kept)
	}
	for i := keys - kept + 1; i < keys; i++ {
		if got, err := s.Entries(t.Context(), storetest.Key(i, 0)); len(got) != 1 || err != nil {
			t.Errorf("key %d is gone, although it was stored late: %v", i, err)
		}
	}
	for range 10 { // what is replaced makes room for what replaces it
		if err := put(t, s, keys-1, size); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.items); n != kept {
		t.Errorf("%d keys are left after one of %d was replaced", n, kept)
	}
	counted := s.size
	s.Close()
	s = open(t, path, Options{MaxBytes: limit})
	if s.size != counted {
		t.Errorf("%d bytes were counted, but there are %d", counted, s.size)
	}
	if err := put(t, s, keys, size); err != nil { // the order of use is that of storing now
		t.Fatal(err)
	}
	for i, want := range map[int]int{0: 0, keys - 2: 1, keys - 1: 1} {
		if got, err := s.Entries(t.Context(), storetest.Key(i, 0)); len(got) != want || err != nil {
			t.Errorf("%d entries of key %d are left, %v; want %d", len(got), i, err, want)
		}
	}
}

// put stores a body of size bytes under the key with the number i.
func put(t *testing.T, s *Store, i, size int) error {
	key := storetest.Key(i, 0)
	draft, err := s.Create(t.Context(), key, int64(size))
	if err != nil {
		return err
	}
	defer draft.Close()
	draft.Write(make([]byte, size))
	blob, err := draft.Commit()
	if err != nil {
		return err
	}
	return s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
		stored := time.Unix(int64(i), 0)
		return []*store.Entry{{Key: key, Method: "GET", ResponseTime: stored, Length: blob.Size, Parts: []store.Part{{Length: blob.Size, Blob: blob}}}}
	})
}

// TestManyWriters evicts in several goroutines. The size is what it says
// afterwards, too.
func TestManyWriters(t *testing.T) {
	const limit = 1 << 20
	path := filepath.Join(t.TempDir(), "cache.db")
	s := open(t, path, Options{MaxBytes: limit})
	s.db.NoSync = true // it shows more if it is quick
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 50 {
				if err := put(t, s, (i*w)%40, 10_000*(1+i%5)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	counted := s.size
	s.Close()
	if again := open(t, path, Options{MaxBytes: limit}); again.size != counted || counted > limit {
		t.Errorf("%d bytes were counted, but there are %d", counted, again.size)
	}
}

// TestLocked checks that a second process fails soon, with an error.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.db")
	open(t, path, Options{})
	if s, err := Open(path, Options{}); err == nil {
		s.Close()
		t.Error("the file is opened twice")
	}
}

func Example() {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	defer origin.Close()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := Open(filepath.Join(dir, "cache.db"), Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	cache := &cachetrip.Transport{Store: s}
	defer cache.Close()
	for range 2 {
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%s %v, from the cache: %t\n", body, err, resp.Header.Get("X-From-Cache") == "1")
	}
	// Output:
	// hello <nil>, from the cache: false
	// hello <nil>, from the cache: true
}
