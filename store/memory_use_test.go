package store

import (
	"fmt"
	"testing"
)

// TestMemoryUse: a key that is used stays, and those that are not used make
// room. A key among the last ones need not move.
func TestMemoryUse(t *testing.T) {
	const keys = 64
	m, ctx := NewMemory(64<<10), t.Context()
	key := func(i int) string { return fmt.Sprintf("%064x", i) }
	put := func(i int) {
		t.Helper()
		e := &Entry{Key: key(i), URL: fmt.Sprintf("http://%d.test/", i), Method: "GET", Status: 200}
		if err := m.Update(ctx, key(i), func([]*Entry) []*Entry { return []*Entry{e} }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range keys {
		put(i)
	}
	dst := make([]*Entry, 0, 1)
	for i, moves := range map[int]uint64{keys - 1: 0, keys - 2: 0, 0: 1} {
		before := m.moves.Load()
		if got, err := m.AppendEntries(ctx, dst, key(i)); err != nil || len(got) != 1 || &got[0] != &dst[:1][0] {
			t.Fatalf("key %d: got %v, %v", i, got, err)
		}
		if moved := m.moves.Load() - before; moved != moves {
			t.Errorf("key %d was moved %d times, want %d", i, moved, moves)
		}
	}
	for i := keys; m.find(key(1)) != nil; i++ {
		put(i)
	}
	if got, err := m.Entries(ctx, key(0)); len(got) != 1 || err != nil {
		t.Errorf("the key that was used was evicted before another one: %v", err)
	}
}
