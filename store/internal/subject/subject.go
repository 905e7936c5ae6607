// Package subject makes stores that are tested with storetest.
//
// It is not part of internal/harness: the tests of package store would then
// compile the root package once more.
package subject

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// Disk returns a [store.Disk] for storetest.Run, with all that can be done to
// it. wrap returns the store that is tested.
func Disk(t *testing.T, dir string, opts store.DiskOptions, wrap func(*store.Disk) (store.Store, error)) storetest.Subject {
	var disk *store.Disk
	open := func() (*store.Disk, store.Store, error) {
		d, err := store.OpenDisk(dir, opts)
		if err != nil {
			return nil, nil, err
		}
		t.Cleanup(func() { d.Close() })
		s, err := wrap(d)
		return d, s, err
	}
	disk, s, err := open()
	if err != nil {
		t.Fatal(err)
	}
	// body returns the path of the file of a blob.
	body := func(key string, blob store.Blob) (string, error) {
		paths, err := filepath.Glob(filepath.Join(dir, "v*", "data", key[:2], key+"-*"))
		for _, path := range paths {
			// A store that wraps a Disk may have made the ID longer.
			if _, id, _ := strings.Cut(filepath.Base(path), "-"); err == nil && strings.HasPrefix(blob.ID, id) {
				return path, nil
			}
		}
		return "", fmt.Errorf("no file of blob %s among %q", blob.ID, paths)
	}
	return storetest.Subject{
		Store: s,
		Reopen: func() (store.Store, error) {
			if err := disk.Close(); err != nil {
				return nil, err
			}
			var s store.Store
			var err error
			disk, s, err = open()
			return s, err
		},
		Second: func() (store.Store, error) {
			_, s, err := open()
			return s, err
		},
		Damage: func(key string, blob store.Blob) error {
			path, err := body(key, blob)
			if err != nil {
				return err
			}
			return damageFile(t, path)
		},
		Lose: func(key string, blob store.Blob) error {
			path, err := body(key, blob)
			if err != nil {
				return err
			}
			return os.Remove(path)
		},
		DamageEntries: func(key string) error {
			paths, _ := filepath.Glob(filepath.Join(dir, "v*", "data", key[:2], key))
			if len(paths) != 1 {
				return fmt.Errorf("files of the key: %q", paths)
			}
			return damageFile(t, paths[0])
		},
		Collect: func() error { return collect(t.Context(), dir, s) },
	}
}

// damageFile changes one byte of a file.
func damageFile(t *testing.T, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := rand.IntN(len(content))
	t.Logf("damaging byte %d of %d of %s", at, len(content), filepath.Base(path))
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{content[at] ^ 1<<rand.IntN(8)}, int64(at))
	return err
}

// collect makes all files of a Disk two hours old, and has it list all of its
// directories.
func collect(ctx context.Context, dir string, s store.Store) error {
	old := time.Now().Add(-2 * time.Hour)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.Chtimes(path, old, old)
	})
	if err != nil {
		return err
	}
	usage, err := filepath.Glob(filepath.Join(dir, "v*", "usage"))
	if err != nil || len(usage) != 1 {
		return fmt.Errorf("usage files: %q, %v", usage, err)
	}
	if err := os.Truncate(usage[0], 64); err != nil { // it says no longer which of them were listed
		return err
	}
	key := storetest.Key(1<<20, 1)
	for range 2 * 256 { // each may list one
		if err := putAndRemove(ctx, s, key); err != nil {
			return err
		}
	}
	return nil
}

// putAndRemove stores a body and removes it.
func putAndRemove(ctx context.Context, s store.Store, key string) error {
	draft, err := s.Create(ctx, key, -1)
	if err != nil {
		return err
	}
	defer draft.Close()
	if _, err := draft.Write(make([]byte, 30_000)); err != nil {
		return err
	}
	blob, err := draft.Commit()
	if err != nil {
		return err
	}
	e := &store.Entry{Key: key, Method: "GET", Length: blob.Size, Parts: []store.Part{{Length: blob.Size, Blob: blob}}}
	err = s.Update(ctx, key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} })
	if err != nil {
		return err
	}
	return s.Update(ctx, key, func([]*store.Entry) []*store.Entry { return nil })
}
