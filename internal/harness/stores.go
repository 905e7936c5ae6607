package harness

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
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

// NewFullStore returns kept without room for more than so many bytes of each
// body.
func NewFullStore(kept store.Store, room int64) store.Store {
	s := storefault.Wrap(kept)
	s.Inject(storefault.Room(room), storefault.Write)
	return s
}
