package store

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Updates of a Memory that fail, or make it too large.

// TestMemoryFailedUpdate has updates fail in each way, after a body came back
// that had been evicted. Nothing of them is left.
func TestMemoryFailedUpdate(t *testing.T) {
	for name, change := range map[string]func(e *Entry){
		"a body is missing": func(e *Entry) {
			e.Parts = append(e.Parts, Part{Offset: 1000, Length: 10, Blob: Blob{ID: "missing", Size: 10}})
		},
		"another key":             func(e *Entry) { e.Key = testKey(2) },
		"a part outside its blob": func(e *Entry) { e.Parts[0].Length = 1001 },
		"too much metadata":       func(e *Entry) { e.Header.Set("X", strings.Repeat("x", maxMetadata)) },
		"too much for the store":  func(e *Entry) { e.Header.Set("X", strings.Repeat("x", maxMetadata-10_000)) },
		"a panic":                 func(*Entry) { panic("change") },
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(512 << 10)
			for range 10 {
				func() {
					defer func() { recover() }()
					err := m.Update(t.Context(), testKey(1), func([]*Entry) []*Entry {
						e := testHead(testKey(1))
						e.Parts = []Part{{Length: 1000, Blob: Blob{ID: "gone", Size: 1000, Inline: make([]byte, 1000)}}}
						change(e)
						return []*Entry{e}
					})
					if err == nil {
						t.Error("Update is no error")
					}
				}()
			}
			nothingIn(t, m)
		})
	}
	t.Run("the context ends", func(t *testing.T) {
		m := NewMemory(512 << 10)
		began, goOn := make(chan struct{}), make(chan struct{})
		done := make(chan error)
		go func() {
			done <- m.Update(t.Context(), testKey(1), func(current []*Entry) []*Entry {
				close(began)
				<-goOn
				return current
			})
		}()
		<-began
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := m.Update(ctx, testKey(1), func(current []*Entry) []*Entry { return current })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update: %v", err)
		}
		close(goOn)
		if err := <-done; err != nil {
			t.Error(err)
		}
		nothingIn(t, m)
	})
}

// nothingIn checks that a Memory holds nothing.
func nothingIn(t *testing.T, m *Memory) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bytes != 0 || m.count.Load() != 0 || len(m.blobs) != 0 || m.lru.len() != 0 || m.loose.len() != 0 || len(m.origins) != 0 {
		t.Errorf("%d bytes, %d keys, %d blobs and %d origins are left", m.bytes, m.count.Load(), len(m.blobs), len(m.origins))
	}
}

// TestMemoryDropsLooseFirst fills a store with bodies that no entry ever names.
// Over the limit they go before an entry does.
func TestMemoryDropsLooseFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(1 << 20)
		mustPut(t, m, testKey(1), make([]byte, 150_000))
		for i := range 4 {
			draft, err := m.Create(t.Context(), testKey(100+i), -1)
			if err != nil {
				t.Fatal(err)
			}
			draft.Write(make([]byte, 100_000))
			if _, err := draft.Commit(); err != nil {
				t.Fatal(err)
			}
			draft.Close()
		}
		time.Sleep(2 * orphanAfter)
		mustPut(t, m, testKey(2), make([]byte, 250_000))
		mustPut(t, m, testKey(3), make([]byte, 250_000))
		if len(mustEntries(t, m, testKey(1))) != 1 {
			t.Error("an entry was evicted for bodies that no entry names")
		}
	})
}
