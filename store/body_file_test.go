//go:build linux

package store

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// A program may lose a body without closing it.
func TestBodyFilesAreClosed(t *testing.T) {
	const size = 1 << 20
	for _, test := range []struct {
		name string
		use  func(t *testing.T, b *fileBody, to *os.File)
	}{
		{"closed", func(t *testing.T, b *fileBody, to *os.File) { b.Close() }},
		{"lost", func(*testing.T, *fileBody, *os.File) {}},
		{"copied and closed", func(t *testing.T, b *fileBody, to *os.File) {
			copyTwice(t, b, to)
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		}},
		{"copied and lost", copyTwice},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			d := openTest(t, dir, DiskOptions{})
			mustPut(t, d, testKeyOne, pattern(1, size))
			to, err := os.Create(filepath.Join(t.TempDir(), "copy"))
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			blob := mustEntries(t, d, testKeyOne)[0].Parts[0].Blob
			before := openFiles(blob.ID)
			time.Sleep(30 * time.Millisecond) // the file is old enough to be known
			func() {
				for range 2 {
					body, err := d.Open(t.Context(), testKeyOne, blob)
					if err != nil {
						t.Fatal(err)
					}
					test.use(t, body.(*fileBody), to)
				}
			}()
			if !eventually(func() bool { runtime.GC(); return openFiles(blob.ID) == before }) {
				t.Errorf("%d files of the body are open, want %d", openFiles(blob.ID), before)
			}
		})
	}
}

// copyTwice copies a body by reading it, and then by the kernel, and reads it
// again.
func copyTwice(t *testing.T, b *fileBody, to *os.File) {
	for range 2 {
		if n, err := b.WriteRangeTo(to, 0, b.size); n != b.size || err != nil {
			t.Errorf("%d bytes copied, %v", n, err)
		}
	}
	if n, err := b.ReadAt(make([]byte, b.size), 0); int64(n) != b.size || err != nil && err != io.EOF {
		t.Errorf("%d bytes read, %v", n, err)
	}
}
