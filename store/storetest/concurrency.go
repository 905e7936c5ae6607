package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

func testConcurrentUpdates(t testing.TB, s store.Store) {
	const workers, rounds = 8, 40
	keys := []string{Key(1, 1), Key(1, 2), Key(2, 1)}
	for _, key := range keys {
		putCounted(t, s, key)
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				if err := count(t, s, keys[(w+i)%len(keys)]); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, key := range keys {
		sum += counted(entries(t, s, key))
	}
	if sum != workers*rounds {
		t.Errorf("%d updates counted, want %d", sum, workers*rounds)
	}
}

// putCounted stores an entry that count adds to. It has a body: a store may drop
// an entry that it could not update, but not if the update keeps the body.
func putCounted(t testing.TB, s store.Store, key string) {
	t.Helper()
	put(t, s, entry(key, 0), content(1, 100))
}

func count(t testing.TB, s store.Store, key string) error {
	return patientUpdate(t, s, key, func(current []*store.Entry) []*store.Entry {
		if len(current) == 0 {
			return current
		}
		e := current[0].Clone()
		e.Status++
		return []*store.Entry{e}
	})
}

// counted returns how often entries were counted: -1 if they are not the one
// that was put.
func counted(current []*store.Entry) int {
	if len(current) != 1 {
		return -1
	}
	return current[0].Status - entry("", 0).Status
}

func testContext(t testing.TB, s store.Store) {
	put(t, s, entry(Key(1, 1), 1), content(1, 100))
	blob := blobOf(t, s, Key(1, 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs := map[string]error{}
	_, errs["Entries"] = s.Entries(ctx, Key(1, 1))
	errs["Update"] = s.Update(ctx, Key(1, 1), func([]*store.Entry) []*store.Entry { return nil })
	_, errs["Open"] = s.Open(ctx, Key(1, 1), blob)
	_, errs["Create"] = s.Create(ctx, Key(1, 1), 1)
	_, errs["Secret"] = s.Secret(ctx)
	for _, err := range s.All(ctx, "") {
		errs["All"] = err
	}
	for _, name := range []string{"Entries", "Update", "Open", "Create", "Secret", "All"} {
		if !errors.Is(errs[name], context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, errs[name])
		}
	}
	if len(entries(t, s, Key(1, 1))) != 1 {
		t.Error("a cancelled Update changed something")
	}
}

func testPanic(t testing.TB, s store.Store) {
	key := Key(1, 1)
	put(t, s, entry(key, 1), content(1, 100))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Update swallows a panic of change")
			}
		}()
		s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { panic("change") })
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := s.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
		return append([]*store.Entry{entry(key, 2)}, current...)
	})
	if err != nil || len(entries(t, s, key)) != 2 {
		t.Errorf("Update after a panic: %v, and %d entries, want 2", err, len(entries(t, s, key)))
	}
}

// testEverything lets several goroutines store, freshen, read and drop the same
// few keys.
func testEverything(t testing.TB, s store.Store) {
	const workers, rounds = 6, 60
	c := newCrowd(s)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range rounds {
				key := Key(r.IntN(4), 0)
				switch r.IntN(5) {
				case 0, 1:
					if !c.store(t, key, r.IntN(len(c.bodies))) {
						return
					}
				case 2:
					c.freshen(t, key)
				default:
					c.read(t, key)
				}
			}
		})
	}
	wg.Wait()
}

// crowd has the operations of testEverything. The first byte of each body
// determines the rest.
type crowd struct {
	s      store.Store
	bodies [][]byte
}

func newCrowd(s store.Store) *crowd {
	c := &crowd{s: s}
	for i, size := range []int{1, 900, 16_000, 30_000, 90_000, 400_000} {
		body := content(uint64(i), size)
		body[0] = byte(i)
		c.bodies = append(c.bodies, body)
	}
	return c
}

// store stores an entry with body i, and drops all but three others of the key.
// It reports whether the store took the body.
func (c *crowd) store(t testing.TB, key string, i int) bool {
	var blob store.Blob
	err := patiently(func() (err error) {
		blob, err = c.stage(t, key, c.bodies[i])
		return err
	})
	if err != nil {
		t.Errorf("staging: %v", err)
		return false
	}
	e := whole(entry(key, i), blob)
	err = patientUpdate(t, c.s, key, func(current []*store.Entry) []*store.Entry {
		return append([]*store.Entry{e}, current[:min(3, len(current))]...)
	})
	if err != nil {
		t.Errorf("Update: %v", err)
	}
	return true
}

func (c *crowd) stage(t testing.TB, key string, body []byte) (store.Blob, error) {
	draft, err := c.s.Create(t.Context(), key, -1)
	if err != nil {
		return store.Blob{}, err
	}
	defer draft.Close()
	if _, err := draft.Write(body); err != nil {
		return store.Blob{}, err
	}
	return draft.Commit()
}

// freshen changes the header of the first entry of the key.
func (c *crowd) freshen(t testing.TB, key string) {
	err := patientUpdate(t, c.s, key, func(current []*store.Entry) []*store.Entry {
		if len(current) == 0 {
			return current
		}
		next := slices.Clone(current)
		next[0] = next[0].Clone()
		next[0].Header.Set("X-Fresh", "1")
		return next
	})
	if err != nil {
		t.Errorf("Update: %v", err)
	}
}

// read checks the bodies of all entries of the key.
func (c *crowd) read(t testing.TB, key string) {
	got, err := c.s.Entries(t.Context(), key)
	if err != nil {
		t.Errorf("Entries: %v", err)
	}
	for _, e := range got {
		if len(e.Parts) != 1 {
			t.Errorf("an entry lost its body")
			continue
		}
		body, err := c.s.Open(t.Context(), key, e.Parts[0].Blob)
		if errors.Is(err, store.ErrDamaged) {
			continue // released since
		}
		if err != nil {
			t.Errorf("Open: %v", err)
			continue
		}
		b, err := io.ReadAll(io.NewSectionReader(body, 0, e.Length))
		body.Close()
		if err != nil || len(b) == 0 || int(b[0]) >= len(c.bodies) || !bytes.Equal(b, c.bodies[b[0]]) {
			t.Errorf("read %d wrong bytes, %v", len(b), err)
		}
	}
}
