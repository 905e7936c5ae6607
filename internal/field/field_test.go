package field

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func membersOf(lines ...string) (members []string) {
	Members(lines, func(member string) bool {
		members = append(members, member)
		return true
	})
	return members
}

func TestMembers(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  []string
	}{
		{"no line", nil, nil},
		{"an empty line", []string{""}, nil},
		{"empty members", []string{", ,\t,"}, nil},
		{"one", []string{"a"}, []string{"a"}},
		{"several", []string{"a,b , c\t,\t d"}, []string{"a", "b", "c", "d"}},
		{"several lines", []string{"a, b", "", "c"}, []string{"a", "b", "c"}},
		{"white space within", []string{"a b,c"}, []string{"a b", "c"}},
		{"only blanks and tabs are white space", []string{"\va\u00a0,b"}, []string{"\va\u00a0", "b"}},
		{"a comma in quotes", []string{`a="b,c",d`}, []string{`a="b,c"`, "d"}},
		{"an escaped quote", []string{`a="b\",c",d`}, []string{`a="b\",c"`, "d"}},
		{"an escaped backslash", []string{`a="b\\",c`}, []string{`a="b\\"`, "c"}},
		{"two quoted strings", []string{`"a,""b,",c`}, []string{`"a,""b,"`, "c"}},
		{"an open quote", []string{`a="b,c`}, []string{`a="b`, "c"}},
		{"an open quote after a closed one", []string{`"a,b",c="d,e`}, []string{`"a,b"`, `c="d`, "e"}},
		{"an open quote that ends in an escape", []string{`a="b,c\`}, []string{`a="b`, `c\`}},
		{"a quote that is open on its line", []string{`a="b`, `c",d`}, []string{`a="b`, `c"`, "d"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(membersOf(test.lines...), test.want); diff != "" {
				t.Errorf("Members (-got +want):\n%s", diff)
			}
		})
	}
	count := 0
	Members([]string{"a, b", "c"}, func(string) bool { count++; return count < 2 })
	if count != 2 {
		t.Errorf("Members went on after it was told to stop: %d members", count)
	}
}

func TestNames(t *testing.T) {
	var many []string
	for i := range 2 * maxNames {
		many = append(many, fmt.Sprintf("X-%d", i))
	}
	tests := []struct {
		name  string
		lines []string
		want  []string
	}{
		{"none", nil, nil},
		{"canonical, in order, each once", []string{"x-b, Accept", "ACCEPT,x-B", "a"}, []string{"X-B", "Accept", "A"}},
		{"*", []string{"*"}, []string{"*"}},
		{"* among others", []string{"a, *, b"}, []string{"A", "*", "B"}},
		{"what can't be a name", []string{`a b, "c", (, d`}, []string{"*", "D"}},
		{"the rest of too many", []string{strings.Join(many, ",")}, append(many[:maxNames:maxNames], "*")},
		{"just not too many", many[:maxNames], many[:maxNames]},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(Names(test.lines), test.want); diff != "" {
				t.Errorf("Names (-got +want):\n%s", diff)
			}
		})
	}
}

func TestIsValueAndIsToken(t *testing.T) {
	tests := []struct {
		s            string
		value, token bool
	}{
		{"", true, false}, {"a", true, true}, {"X-Forwarded_For~1", true, true}, {"a b", true, false}, {"\ta", true, false},
		{"a\n", false, false}, {"\x00", false, false}, {"\x7f", false, false}, {"\u00e4", true, false}, {"a:", true, false}, {"!#$%&'*+-.^_`|~", true, true},
	}
	for _, test := range tests {
		if got := IsValue(test.s); got != test.value {
			t.Errorf("IsValue(%q): got %t", test.s, got)
		}
		if got := IsToken(test.s); got != test.token {
			t.Errorf("IsToken(%q): got %t", test.s, got)
		}
	}
}

func TestSeconds(t *testing.T) {
	type result struct {
		Seconds int64
		OK      bool
	}
	tests := map[string]result{
		"0": {0, true}, "1": {1, true}, "0060": {60, true}, "2147483647": {MaxSeconds - 1, true}, "2147483648": {MaxSeconds, true},
		"2147483649": {MaxSeconds, true}, "18446744073709551617": {MaxSeconds, true}, strings.Repeat("9", 1000): {MaxSeconds, true},
		"": {}, "-1": {}, "+1": {}, "1.0": {}, "1e3": {}, " 1": {}, "1 ": {}, "0x1": {}, "١": {}, "1,": {},
	}
	for s, want := range tests {
		var got result
		if got.Seconds, got.OK = parseSeconds(s); !got.OK {
			got.Seconds = 0
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("parseSeconds(%q) (-got +want):\n%s", s, diff)
		}
	}
}

func TestAge(t *testing.T) {
	tests := []struct {
		lines []string
		want  int64 // -1 means none
	}{
		{nil, -1},
		{[]string{""}, -1},
		{[]string{"7"}, 7},
		{[]string{"7, 100"}, 7},
		{[]string{" 7 ,old"}, 7},
		{[]string{"7", "100"}, 7},
		{[]string{"old, 7"}, -1},
		{[]string{"old", "7"}, -1},
		{[]string{"-7"}, -1},
		{[]string{"7.0"}, -1},
		{[]string{`"7"`}, -1},
		{[]string{"7;a"}, -1},
		{[]string{"99999999999"}, MaxSeconds},
	}
	for _, test := range tests {
		got, ok := Age(test.lines)
		if !ok {
			got = -1
		}
		if got != test.want {
			t.Errorf("Age(%q): got %d, want %d", test.lines, got, test.want)
		}
	}
}

func FuzzMembers(f *testing.F) {
	for _, line := range []string{"", "a, b", `a="b,c\"",d`, `a="b,c`, `"\",\"`, ",,"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		members := membersOf(line)
		for _, member := range members {
			if member == "" || member != trim(member) || !strings.Contains(line, member) {
				t.Errorf("%q: member %q", line, member)
			}
		}
		if commas := strings.Count(line, ","); len(members) > commas+1 {
			t.Errorf("%q: %d members", line, len(members))
		}
		// Members on separate lines equal members of a list.
		if again := membersOf(members...); !slices.Equal(again, members) {
			t.Errorf("%q: members %q, then %q", line, members, again)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, line := range []string{"", "*", "Accept, accept-encoding", "a b, *", `"a", b`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		names := Names([]string{line})
		if len(names) > maxNames+1 {
			t.Errorf("%d names", len(names))
		}
		for i, name := range names {
			if !IsToken(name) || name != http.CanonicalHeaderKey(name) || slices.Contains(names[:i], name) {
				t.Errorf("%q: names %q", line, names)
			}
		}
		if again := Names(names); !slices.Equal(again, names) {
			t.Errorf("%q: names %q, then %q", line, names, again)
		}
		if (len(names) == 0) != (len(membersOf(line)) == 0) {
			t.Errorf("%q: names %q of %q", line, names, membersOf(line))
		}
	})
}

// The time for a list that an origin sends must be proportional to its length.
func TestLongLists(t *testing.T) {
	const size = 128 << 10
	for _, piece := range []string{`"`, `\"`, `\",`, `",`, `"\`, `a,`, ",", `W/"`, `W/",`} {
		line := `"` + strings.Repeat(piece, size/len(piece))
		membersOf(line)
		Names([]string{line})
		ETags([]string{line})
		ParseCacheControl([]string{"max-age=" + line})
	}
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "x%d,", i)
	}
	Names([]string{b.String()})
}

func TestCombined(t *testing.T) {
	for _, test := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{" a "}, "a"},
		{[]string{"a , b", "c"}, "a,b,c"},
		{[]string{"a b\t,\t c"}, "a b,c"},
		{[]string{",a,, b, "}, ",a,,b,"},
		{[]string{"", ""}, ","},
		{[]string{`"a , b" , c`}, `"a , b",c`},
		{[]string{`x="a\" , b" , c`}, `x="a\" , b",c`},
		{[]string{`"a , b`}, `"a,b`},
		{[]string{`"a`, `b"`}, `"a, b"`},
	} {
		if got := Combined(test.lines); got != test.want {
			t.Errorf("Combined(%q): got %q, want %q", test.lines, got, test.want)
		}
	}
}

func TestCanonical(t *testing.T) {
	type header = http.Header
	for _, test := range []struct {
		name                   string
		h, canonical, received header
	}{
		{"nothing", nil, nil, nil},
		{"all canonical", header{"A": {"1"}, "X-B": {""}}, header{"A": {"1"}, "X-B": {""}}, header{"A": {"1"}, "X-B": {""}}},
		{"one that is not", header{"A": {"1"}, "x-b": {"2", "3"}}, header{"A": {"1"}, "X-B": {"2", "3"}}, header{"A": {"1"}, "X-B": {"2", "3"}}},
		{"several spellings", header{"x-b": {"3"}, "X-B": {"1"}, "X-b": {"2"}}, header{"X-B": {"1", "2", "3"}}, header{"X-B": {"1", "2", "3"}}},
		{"without lines", header{"A": {"1"}, "X-B": nil, "X-C": {}}, header{"A": {"1"}, "X-B": nil, "X-C": {}}, header{"A": {"1"}}},
		{"without lines in one spelling", header{"x-b": {}, "X-B": {"1"}, "c": nil}, header{"X-B": {"1"}}, header{"X-B": {"1"}}},
		{"without lines in the right spelling", header{"ETAG": {"1"}, "Etag": {}}, header{"Etag": {"1"}}, header{"Etag": {"1"}}},
		{"what is no name", header{"x b": {"1"}}, header{"x b": {"1"}}, header{"x b": {"1"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.h.Clone()
			check := func(name string, got header, changed bool, want header) {
				if diff := cmp.Diff(got, want); diff != "" || changed == cmp.Equal(before, want) {
					t.Errorf("%s, changed %t (-got +want):\n%s", name, changed, diff)
				}
				if diff := cmp.Diff(test.h, before); diff != "" {
					t.Errorf("what %s was given (-got +want):\n%s", name, diff)
				}
			}
			got, changed := Canonical(test.h)
			check("Canonical", got, changed, test.canonical)
			got, changed = Received(test.h)
			check("Received", got, changed, test.received)
		})
	}
}

func TestIsCanonical(t *testing.T) {
	for _, name := range []string{
		"", "A", "a", "Content-Type", "content-type", "Content-type", "CONTENT-TYPE", "Etag", "ETag", "X-1a", "x-1A",
		"A--B", "A--b", "-a", "-A", "A-", "a b", "A b", "A B", "Ä", "aÄ", "A_b", "A_B", "A\x00b",
	} {
		if got, want := IsCanonical(name), http.CanonicalHeaderKey(name) == name; got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
}
