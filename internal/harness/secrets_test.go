package harness_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/google/go-cmp/cmp"
)

func TestSearch(t *testing.T) {
	s := make(harness.Search)
	for _, text := range []string{"12345678", "123456789", "abcdefgh", "abcdefghij", "aaaaaaaab"} {
		s.Add(text, text)
	}
	for _, test := range []struct {
		large string
		want  []string
	}{
		{"", nil},
		{"1234567", nil},
		{"12345678", []string{"12345678"}},
		{"x123456789x", []string{"12345678", "123456789"}},
		{"abcdefghi abcdefghij", []string{"abcdefgh", "abcdefghij"}},
		{"aaaaaaaaaaaaaab", []string{"aaaaaaaab"}},
	} {
		if diff := cmp.Diff(test.want, s.In(test.large)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.large, diff)
		}
	}
}

func TestLeaksAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "token-in-the-name")
	if err := os.WriteFile(file, []byte("x token-in-the-file x"), 0o644); err != nil {
		t.Fatal(err)
	}
	harness.Check(t, "leaks", harness.Leaks(dir, []string{"token-in-the-file", "token-in-the-name", "token-nowhere"}), []string{
		dir + " has the mode drwxr-xr-x",
		file + " has the mode -rw-r--r--",
		`the credential "token-in-the-file" is in ` + file,
		`the credential "token-in-the-name" is in ` + file,
	})
}
