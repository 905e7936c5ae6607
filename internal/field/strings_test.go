package field

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStrings(t *testing.T) {
	groups := make([]string, 32) // as many as every cache must support (RFC 9875, section 2)
	for i := range groups {
		groups[i] = fmt.Sprintf("%032d", i)
	}
	for _, test := range []struct {
		name  string
		lines []string
		want  []string
		long  bool
	}{
		{"no field", nil, nil, false},
		{"an empty field", []string{""}, nil, false},
		{"one string", []string{`"scripts"`}, []string{"scripts"}, false},
		{"several lines", []string{`"a", "B"`, `"a"`}, []string{"a", "B", "a"}, false},
		{"parameters", []string{`"a";x=1;y, "b"`}, []string{"a", "b"}, false},
		{"escapes", []string{`"a\"\\, b"`}, []string{`a"\, b`}, false},
		{"an empty string", []string{`""`}, []string{""}, false},
		{"32 members of 32 characters", []string{`"` + strings.Join(groups, `", "`) + `"`}, groups, false},
		{"a token", []string{`"a", b`}, nil, false},
		{"an inner list", []string{`("a" "b")`}, nil, false},
		{"a number", []string{`"a", 1`}, nil, false},
		{"no comma", []string{`"a" "b"`}, nil, false},
		{"an open string", []string{`"a`}, nil, false},
		{"a letter that is not ASCII", []string{`"ä"`}, nil, false},
		{"too many bytes", []string{`"` + strings.Repeat("a", 2000) + `"`}, nil, true},
		{"too many members", []string{strings.TrimSuffix(strings.Repeat(`"",`, 41), ",")}, nil, true},
	} {
		got, ok := Strings(test.lines, 2000, 40)
		if diff := cmp.Diff(test.want, got); diff != "" || ok == test.long {
			t.Errorf("%s: ok is %t (-want +got):\n%s", test.name, ok, diff)
		}
	}
}

// FuzzStrings checks that strings survive being written and read.
func FuzzStrings(f *testing.F) {
	f.Add(`"a";x, "b\""`, `,"c"`)
	f.Add(`("a")`, "")
	f.Fuzz(func(t *testing.T, first, second string) {
		members, ok := Strings([]string{first, second}, 1000, 10)
		if !ok && len(first)+len(second) <= 1000 && strings.Count(first+second, ",") < 9 {
			t.Error("a short list counts as long")
		}
		var quoted []string
		for _, m := range members {
			quoted = append(quoted, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(m)+`"`)
		}
		if again, _ := Strings(quoted, 4000, 10); !slices.Equal(again, members) {
			t.Errorf("got %q, then %q", members, again)
		}
	})
}
