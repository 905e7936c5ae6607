package span_test

import (
	"testing"

	"github.com/cachetrip/cachetrip/internal/span"
)

func TestLength(t *testing.T) {
	if got := span.Of(3, 10).Length(); got != 7 {
		t.Errorf("Length = %d, want 7", got)
	}
}

func TestContains(t *testing.T) {
	s := span.Of(3, 10)
	for _, test := range []struct {
		other span.Span
		want  bool
	}{
		{span.Of(3, 10), true},
		{span.Of(4, 9), true},
		{span.Of(5, 5), true},
		{span.Of(2, 9), false},
		{span.Of(4, 11), false},
		{span.Of(10, 12), false},
	} {
		if got := s.Contains(test.other); got != test.want {
			t.Errorf("%v contains %v: %t, want %t", s, test.other, got, test.want)
		}
	}
}

func TestContentRange(t *testing.T) {
	for _, test := range []struct {
		length int64
		want   string
	}{
		{1234, "bytes 42-1233/1234"},
		{-1, "bytes 42-1233/*"},
	} {
		if got := span.Of(42, 1234).ContentRange(test.length); got != test.want {
			t.Errorf("of %d: %q, want %q", test.length, got, test.want)
		}
	}
}
