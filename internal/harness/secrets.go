package harness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// credentials collects, over the tests' whole run, what must not be found in
// any cache.
var credentials struct {
	mu   sync.Mutex
	seen map[string]bool
}

// searchFor returns a search for secrets as they are.
func searchFor(secrets []string) Search {
	s := make(Search)
	for _, secret := range secrets {
		s.Add(secret, secret)
	}
	return s
}

// Leaks lists violations of secrecy in a directory: secrets in names and files,
// and modes that let others read.
func Leaks(dir string, secrets []string) (found []string) {
	wanted := searchFor(secrets)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		var b []byte
		if d.IsDir() {
			want = 0o700
		} else if b, err = os.ReadFile(path); err != nil {
			return err
		}
		if info.Mode().Perm() != want && runtime.GOOS != "windows" {
			found = append(found, fmt.Sprintf("%s has the mode %v", path, info.Mode()))
		}
		for _, secret := range wanted.In(path + "\n" + string(b)) {
			found = append(found, fmt.Sprintf("the credential %q is in %s", secret, path))
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		found = append(found, err.Error())
	}
	return found
}

// SizeOf returns how many bytes the files in a directory have.
func SizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// Search finds many texts at once in a large one. A search of the large text
// for each secret alone would take most of the time of the tests.
type Search map[uint64][]wanted

// wanted is a text to be found, and the name to report it by.
type wanted struct{ text, name string }

// searchWidth is how long a text must be at least.
const searchWidth = 8

func (s Search) Add(text, name string) {
	if len(text) < searchWidth {
		panic("too short to be searched for: " + text)
	}
	start := binary.LittleEndian.Uint64([]byte(text[:searchWidth]))
	s[start] = append(s[start], wanted{text, name})
}

// In returns the names of the texts that a large one contains, in alphabetical
// order.
func (s Search) In(large string) (names []string) {
	found := make(map[string]bool)
	var window uint64
	for i := range len(large) {
		window = window>>8 | uint64(large[i])<<56
		if i < searchWidth-1 {
			continue
		}
		for _, w := range s[window] {
			if !found[w.name] && strings.HasPrefix(large[i-searchWidth+1:], w.text) {
				found[w.name] = true
				names = append(names, w.name)
			}
		}
	}
	slices.Sort(names)
	return names
}
