package bbolt

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/cachetrip/cachetrip/store"
	bolt "go.etcd.io/bbolt"
)

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	content, ok := s.stagedBody(blob.ID)
	err := s.db.View(func(tx *bolt.Tx) error {
		if !ok {
			// A value is valid only within its transaction.
			content, ok = proven(bytes.Clone(tx.Bucket(bodies).Get(slices.Concat([]byte(key), []byte(blob.ID)))))
		}
		return nil
	})
	if err == nil && (!ok || int64(len(content)) != blob.Size) {
		err = store.ErrDamaged
	}
	if err != nil {
		return nil, wrap("open body", err)
	}
	return body{bytes.NewReader(content)}, nil
}

// stagedBody returns a committed body that no entry names yet.
func (s *Store) stagedBody(id string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.staged[id]
	return b.body, ok && s.now().Sub(b.since) < stagedTime
}

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	if size > s.maxBody {
		return nil, wrap("create", store.ErrTooLarge)
	}
	return &draft{s: s}, wrap("create", s.db.View(func(*bolt.Tx) error { return nil }))
}

// draft is a body that is being written.
type draft struct {
	s *Store

	mu      sync.RWMutex
	content []byte
	err     error // of Write and Commit from now on
	closed  bool
}

func (d *draft) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil && int64(len(d.content)+len(p)) > d.s.maxBody {
		d.err = wrap("write", store.ErrTooLarge)
	}
	if d.err != nil {
		return 0, d.err
	}
	d.content = append(d.content, p...)
	return len(p), nil
}

func (d *draft) ReadAt(p []byte, offset int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.closed {
		return 0, wrap("read draft", fs.ErrClosed)
	}
	if offset < 0 {
		return 0, wrap("read draft", errors.New("negative offset"))
	}
	if offset >= int64(len(d.content)) {
		return 0, io.EOF
	}
	n := copy(p, d.content[offset:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Commit keeps the body in memory until an Update names it, or until nobody can be expected to.
func (d *draft) Commit() (store.Blob, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return store.Blob{}, d.err
	}
	d.err = wrap("write", fs.ErrClosed)
	id := rand.Text()
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, b := range s.staged {
		if s.now().Sub(b.since) >= stagedTime {
			delete(s.staged, id)
		}
	}
	s.staged[id] = staged{d.content, s.now()}
	return store.Blob{ID: id, Size: int64(len(d.content))}, nil
}

func (d *draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed, d.content = true, nil
	if d.err == nil {
		d.err = wrap("write", fs.ErrClosed)
	}
	return nil
}
