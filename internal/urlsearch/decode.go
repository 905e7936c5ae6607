package urlsearch

import (
	"strings"
	"unicode/utf8"
)

// Names and values of parameters, as the application/x-www-form-urlencoded
// parser of the URL standard reads them. url.ParseQuery reads them differently:
// it rejects semicolons and malformed percent signs, and keeps bytes that are
// no UTF-8.

// decode decodes a name or a value.
func decode(s string) string {
	if plain(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, c) // a lone percent sign, too
		}
	}
	return toUTF8(b)
}

// plain reports whether s decodes to itself.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '+' || c == '%' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// toUTF8 returns b with U+FFFD in place of what is not UTF-8. As the Encoding
// standard has it, one replaces the longest beginning of a character.
func toUTF8(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var s strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		if r == utf8.RuneError && size == 1 {
			size = brokenLength(b)
		}
		s.WriteRune(r)
		b = b[size:]
	}
	return s.String()
}

// brokenLength returns how many bytes of b, which begins with no character, one
// replacement character stands for.
func brokenLength(b []byte) int {
	low, high, more := byte(0x80), byte(0xBF), 0
	switch first := b[0]; {
	case first >= 0xC2 && first <= 0xDF:
		more = 1
	case first >= 0xE0 && first <= 0xEF:
		more = 2
		if first == 0xE0 {
			low = 0xA0
		} else if first == 0xED {
			high = 0x9F
		}
	case first >= 0xF0 && first <= 0xF4:
		more = 3
		if first == 0xF0 {
			low = 0x90
		} else if first == 0xF4 {
			high = 0x8F
		}
	}
	n := 1
	for ; n <= more && n < len(b) && b[n] >= low && b[n] <= high; n++ {
		low, high = 0x80, 0xBF
	}
	return n
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}
