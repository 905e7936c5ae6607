package store

import (
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// noContext is for code that runs outside of a test.
var noContext = context.Background()

// pattern returns a body that can be checked: the first byte determines all
// others.
func pattern(seed byte, size int) []byte {
	b := make([]byte, size+32)
	var s [32]byte
	s[0], s[1], s[2], s[3] = seed, byte(size), byte(size>>8), byte(size>>16)
	rand.NewChaCha8(s).Read(b)
	b = b[:size]
	if size > 0 {
		b[0] = seed
	}
	return b
}

// readBody returns the whole body of an entry.
func readBody(s Store, e *Entry) ([]byte, error) {
	var out []byte
	for _, p := range e.Parts {
		body, err := s.Open(context.Background(), e.Key, p.Blob)
		if err != nil {
			return out, err
		}
		b, err := io.ReadAll(io.NewSectionReader(body, p.Skip, p.Length))
		body.Close()
		out = append(out, b...)
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

func mustEntries(tb testing.TB, s Store, key string) []*Entry {
	tb.Helper()
	es, err := s.Entries(context.Background(), key)
	if err != nil {
		tb.Fatalf("Entries: %v", err)
	}
	return es
}

// tree returns the paths of all files below dir with their modes.
func tree(tb testing.TB, dir string) map[string]fs.FileMode {
	tb.Helper()
	out := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		out[rel] = fi.Mode()
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// diskBytes returns what the cache's files take, as its bound counts them.
func diskBytes(tb testing.TB, dir string) (n int64) {
	tb.Helper()
	for _, sub := range []string{"data", "tmp"} {
		filepath.WalkDir(filepath.Join(dir, version, sub), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return nil // vanished meanwhile
			}
			if fi, err := e.Info(); err == nil {
				n += allocated(fi.Size())
			}
			return nil
		})
	}
	return n
}
