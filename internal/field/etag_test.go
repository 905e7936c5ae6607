package field

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestETags(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  []string
	}{
		{"no line", nil, nil},
		{"an empty line", []string{""}, nil},
		{"commas alone", []string{" ,\t, "}, nil},
		{"one", []string{`"xyzzy"`}, []string{`"xyzzy"`}},
		{"a weak one", []string{`W/"xyzzy"`}, []string{`W/"xyzzy"`}},
		{"an empty one", []string{`""`}, []string{`""`}},
		{"several", []string{`"xyzzy", W/"r2d2xxxx","c3piozzzz"`}, []string{`"xyzzy"`, `W/"r2d2xxxx"`, `"c3piozzzz"`}},
		{"on several lines", []string{`"a", "b"`, ``, `"c"`}, []string{`"a"`, `"b"`, `"c"`}},
		{"*", []string{"*"}, []string{"*"}},
		{"* among others", []string{`"a", *`}, []string{`"a"`, "*"}},
		{"commas within", []string{`"a,b", W/",", "c"`}, []string{`"a,b"`, `W/","`, `"c"`}},
		{"a backslash is no escape", []string{`"a\", "b"`}, []string{`"a\"`, `"b"`}},
		{"without quotes", []string{`a, W/b`}, []string{"a", "W/b"}},
		{"w is no W", []string{`w/"a,b"`}, []string{`w/"a`, `b"`}},
		{"an open quote", []string{`"a, "b`}, []string{`"a, "`, "b"}},
		{"the only quote is open", []string{`"a, b`}, []string{`"a`, "b"}},
		{"nothing between", []string{`"a""b"`}, []string{`"a"`, `"b"`}},
		{"W/ at the end", []string{`"a", W/`}, []string{`"a"`, "W/"}},
		{"W/ alone", []string{`W/, "a"`}, []string{"W/", `"a"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(ETags(test.lines), test.want); diff != "" {
				t.Errorf("ETags (-got +want):\n%s", diff)
			}
		})
	}
}

func TestETagMatch(t *testing.T) {
	tests := []struct {
		a, b         string
		strong, weak bool
	}{
		// The table of RFC 9110, section 8.8.3.2.
		{`W/"1"`, `W/"1"`, false, true},
		{`W/"1"`, `W/"2"`, false, false},
		{`W/"1"`, `"1"`, false, true},
		{`"1"`, `"1"`, true, true},

		{`"1"`, `"2"`, false, false},
		{`"a"`, `"A"`, false, false},
		{`""`, `""`, true, true},
		{`1`, `1`, false, true},
		{`1`, `"1"`, false, false},
		{`W/1`, `1`, false, true},
		{``, ``, false, false},
		{``, `"1"`, false, false},
		{`W/`, ``, false, false},
		{`W/`, `W/`, false, false},
		{`"`, `"`, false, true},
	}
	for _, test := range tests {
		for _, pair := range [][2]string{{test.a, test.b}, {test.b, test.a}} {
			if got := ETagStrongMatch(pair[0], pair[1]); got != test.strong {
				t.Errorf("ETagStrongMatch(%q, %q): got %t, want %t", pair[0], pair[1], got, test.strong)
			}
			if got := ETagWeakMatch(pair[0], pair[1]); got != test.weak {
				t.Errorf("ETagWeakMatch(%q, %q): got %t, want %t", pair[0], pair[1], got, test.weak)
			}
		}
	}
}

func TestIsStrongETag(t *testing.T) {
	want := map[string]bool{`"a"`: true, `""`: true, `"a,b\"`: true, `W/"a"`: false, `a`: false, `"`: false, ``: false, `"a`: false, `a"`: false, `"a"b"`: false, `"a" `: false, `*`: false}
	got := make(map[string]bool)
	for tag := range want {
		got[tag] = IsStrongETag(tag)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("IsStrongETag (-got +want):\n%s", diff)
	}
}

func FuzzETags(f *testing.F) {
	for _, line := range []string{"", `"a"`, `W/"a", "b,c"`, `*`, `a, "b`, `"a\", ""`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		tags := ETags([]string{line})
		for _, tag := range tags {
			if tag == "" || tag != trim(tag) || !strings.Contains(line, tag) {
				t.Errorf("%q: tag %q", line, tag)
			}
			if !ETagWeakMatch(tag, tag) && tag != "W/" || ETagStrongMatch(tag, tag) != IsStrongETag(tag) {
				t.Errorf("%q: tag %q does not match itself", line, tag)
			}
		}
		// Written as a list they are the same again.
		if again := ETags([]string{strings.Join(tags, ", ")}); !slices.Equal(again, tags) {
			t.Errorf("%q: tags %q, then %q", line, tags, again)
		}
	})
}
