package prefix_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/prefix"
)

// slow gives one byte at once, up to where it fails.
type slow struct {
	content string
	fails   int
}

func (s slow) ReadAt(p []byte, offset int64) (int, error) {
	if int(offset) >= s.fails {
		return 0, errors.New("input/output error")
	}
	if offset >= int64(len(s.content)) {
		return 0, nil
	}
	return copy(p[:1], s.content[offset:]), nil
}

func TestSame(t *testing.T) {
	long := strings.Repeat("0123456789", 10_000)
	for _, test := range []struct {
		name    string
		body    string
		content io.ReaderAt
		length  int64
		want    bool
		rest    string
	}{
		{"nothing", "abc", strings.NewReader(""), 0, true, "abc"},
		{"the beginning", "abcdef", strings.NewReader("abcdxx"), 4, true, "ef"},
		{"all", "abcdef", strings.NewReader("abcdef"), 6, true, ""},
		{"long", long, strings.NewReader(long), 99_990, true, "0123456789"},
		{"other content", "abcdef", strings.NewReader("abxdef"), 4, false, "ef"},
		{"other content, late", long + "a", strings.NewReader(long + "b"), 100_001, false, ""},
		{"a short body", "abc", strings.NewReader("abcdef"), 4, false, ""},
		{"short content", "abcdef", strings.NewReader("abc"), 4, false, "ef"},
		{"in small pieces", "abcdef", slow{"abcdef", 10}, 4, true, "ef"},
		{"that cannot be read", "abcdef", slow{"abcdef", 2}, 4, false, "ef"},
		{"that ends without an error", "abcdef", slow{"ab", 10}, 4, false, "ef"},
	} {
		t.Run(test.name, func(t *testing.T) {
			body := strings.NewReader(test.body)
			if got := prefix.Same(body, test.content, test.length); got != test.want {
				t.Errorf("Same = %t, want %t", got, test.want)
			}
			if rest, _ := io.ReadAll(body); string(rest) != test.rest {
				t.Errorf("the rest is %q, want %q", rest, test.rest)
			}
		})
	}
}
