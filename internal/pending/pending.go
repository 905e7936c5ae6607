// Package pending counts the writes that are under way for each key. A caller
// that needs their result can wait for them. A caller that waits sees the store
// as if the write had ended before.
package pending

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

// Writes are the pending writes of a store. The zero value is ready for use. It
// is safe for concurrent use.
type Writes struct {
	keys  atomic.Int32 // len(byKey), which is mostly 0
	mu    sync.Mutex
	byKey map[string]*Write
}

// Write stands for all pending writes of one key.
type Write struct {
	key   string
	count int // how many have begun and not ended; needs Writes.mu
	done  chan struct{}
}

// Of returns the pending writes of a key, nil if there are none. Without any
// pending writes it takes no lock.
func (ws *Writes) Of(key string) *Write {
	if ws.keys.Load() == 0 {
		return nil
	}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	return ws.byKey[key]
}

// Begin notes that a write for a key begins. Each Begin needs one End with its
// result.
func (ws *Writes) Begin(key string) *Write {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.byKey[key]
	if w == nil {
		w = &Write{key: key, done: make(chan struct{})}
		if ws.byKey == nil {
			ws.byKey = make(map[string]*Write)
		}
		ws.byKey[key] = w
		ws.keys.Add(1)
	}
	w.count++
	return w
}

// End notes that a write has ended. When the last write of a key ends, all
// waiting callers continue.
func (ws *Writes) End(w *Write) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w.count--; w.count == 0 {
		delete(ws.byKey, w.key)
		ws.keys.Add(-1)
		close(w.done)
	}
}

// Wait returns when all writes of w have ended, ctx has ended, or the patience
// of its caller. A nil Write has ended.
func (w *Write) Wait(ctx context.Context) {
	if w != nil {
		_ = patience.Wait(ctx, w.done, patience.Of(ctx, time.Now(), patience.Longest))
	}
}
