package store

import (
	"context"
	"encoding/hex"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store/internal/fill"
)

var updateFormat = flag.Bool("update", false, "write testdata/v1 anew, which must only be done for a new version of the format")

// formatEntries returns what testdata/v1 holds: a key with two variants, of
// which one has a large body, and one with a record that was appended.
func formatEntries(d *Disk) error {
	small, large := testKey(1), testKey(2)
	for key, size := range map[string]int{small: 100, large: 20_000} {
		if err := putBody(d, key, pattern(7, size)); err != nil {
			return err
		}
		err := d.Update(context.Background(), key, func(es []*Entry) []*Entry {
			e := es[0].Clone()
			parts, length := e.Parts, e.Length
			fill.Fill(e)
			e.Key, e.Parts, e.Length = key, parts, length
			other := testHead(key)
			return []*Entry{e, other}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// TestReadsFilesOfV1: what earlier programs have written in this format can be
// read. The files in testdata were written once. They must not be written anew
// without a new version of the format.
func TestReadsFilesOfV1(t *testing.T) {
	const testdata = "testdata/v1"
	want := openTest(t, t.TempDir(), DiskOptions{})
	if err := formatEntries(want); err != nil {
		t.Fatal(err)
	}
	if *updateFormat {
		if err := os.RemoveAll(testdata); err != nil {
			t.Fatal(err)
		}
		err := filepath.WalkDir(want.data, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name := filepath.Join(testdata, filepath.Base(path)+".hex")
			if err := os.MkdirAll(testdata, 0o755); err != nil {
				return err
			}
			return os.WriteFile(name, []byte(hex.EncodeToString(b)), 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	names, err := filepath.Glob(testdata + "/*.hex")
	if err != nil || len(names) != 3 {
		t.Fatalf("got %d files, %v, want those of two keys and one body", len(names), err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(string(text))
		if err != nil {
			t.Fatal(err)
		}
		path := d.path(strings.TrimSuffix(filepath.Base(name), ".hex"))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for key, size := range map[string]int{testKey(1): 100, testKey(2): 20_000} {
		got, wanted := mustEntries(t, d, key), mustEntries(t, want, key)
		if len(got) != 2 {
			t.Errorf("%s: got %d entries, want 2", key, len(got))
			continue
		}
		for i := range got {
			if i == 0 {
				b, err := readBody(d, got[i])
				if diff := cmp.Diff(pattern(7, size), b); diff != "" || err != nil {
					t.Errorf("%s: another body, %v", key, err)
				}
			}
			for _, e := range []*Entry{got[i], wanted[i]} {
				for j := range e.Parts {
					e.Parts[j].Blob.ID = "" // random
				}
			}
			if diff := cmp.Diff(wanted[i], got[i]); diff != "" {
				t.Errorf("%s, variant %d (-want +got):\n%s", key, i, diff)
			}
		}
	}
}
