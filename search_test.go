package cachetrip_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// search finds many texts at once in a large one. Going through the large text once for each of them would be most of
// what the tests of secrecy take.
type search map[uint64][]wanted

// wanted is a text to be found, and the name to report it by.
type wanted struct{ text, name string }

// searchWidth is how long a text must be at least.
const searchWidth = 8

func (s search) add(text, name string) {
	if len(text) < searchWidth {
		panic("too short to be searched for: " + text)
	}
	start := binary.LittleEndian.Uint64([]byte(text[:searchWidth]))
	s[start] = append(s[start], wanted{text, name})
}

// in returns the names of the texts that a large one contains, in alphabetical order.
func (s search) in(large string) (names []string) {
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

func TestSearch(t *testing.T) {
	s := make(search)
	for _, text := range []string{"12345678", "123456789", "abcdefgh", "abcdefghij", "aaaaaaaab"} {
		s.add(text, text)
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
		if diff := cmp.Diff(test.want, s.in(test.large)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.large, diff)
		}
	}
}
