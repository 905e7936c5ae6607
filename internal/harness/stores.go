package harness

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/cachetrip/cachetrip/store"
)

func OnDisk(t *testing.T) (store.Store, string) {
	dir := filepath.Join(t.TempDir(), "cache")
	return OpenDisk(t, dir, store.DiskOptions{}), dir
}

func OpenDisk(t testing.TB, dir string, opts store.DiskOptions) *store.Disk {
	t.Helper()
	disk, err := store.OpenDisk(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	return disk
}

func InMemory(t *testing.T) (store.Store, string) {
	s := newMemory(64 << 20)
	if closer, ok := s.(io.Closer); ok {
		t.Cleanup(func() { closer.Close() })
	}
	return s, ""
}

// newMemory makes the stores in memory. A module with another store replaces
// it, so that all tests of stores also test that one; see store/redisstore.
var newMemory = func(maxBytes int64) store.Store { return store.NewMemory(maxBytes) }

// fullStore has no room for more than a number of bytes of a body.
type fullStore struct {
	store.Store
	room int
}

type fullDraft struct {
	store.Draft
	room int
}

// NewFullStore returns kept without room for more than so many bytes of each body.
func NewFullStore(kept store.Store, room int) store.Store { return fullStore{kept, room} }

func (s fullStore) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	draft, err := s.Store.Create(ctx, key, size)
	if err != nil {
		return nil, err
	}
	return &fullDraft{draft, s.room}, nil
}

func (d *fullDraft) Write(p []byte) (int, error) {
	if len(p) > d.room {
		return 0, errors.New("no space left on device")
	}
	d.room -= len(p)
	return d.Draft.Write(p)
}

// BrokenStore is a store whose operations fail on demand.
type BrokenStore struct {
	store.Store
	LookUpErr, CreateErr, UpdateErr error
}

func (s *BrokenStore) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	if s.LookUpErr != nil {
		return nil, s.LookUpErr
	}
	return s.Store.Entries(ctx, key)
}

func (s *BrokenStore) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	if s.CreateErr != nil {
		return nil, s.CreateErr
	}
	return s.Store.Create(ctx, key, size)
}

func (s *BrokenStore) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if s.UpdateErr != nil {
		return s.UpdateErr
	}
	return s.Store.Update(ctx, key, change)
}
