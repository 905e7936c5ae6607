package urlsearch

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVectors compares queries as web-platform-tests and the tables of the
// draft do.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/no-vary-search.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Source, Field, Stored, Presented string
		Expect                           bool
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) != 57 {
		t.Errorf("%d cases, want 57", len(cases))
	}
	for _, c := range cases {
		rule, _ := Parse([]string{c.Field})
		stored, presented := "?"+c.Stored, "?"+c.Presented
		if c.Stored == "" {
			stored = ""
		}
		if c.Presented == "" && !strings.HasPrefix(c.Source, "draft") { // the draft has a lone question mark
			presented = ""
		}
		if got := rule.Equivalent(stored, presented); got != c.Expect {
			t.Errorf("No-Vary-Search: %s\n%q and %q: equivalent is %t, want %t", c.Field, stored, presented, got, c.Expect)
		}
	}
}

func TestParse(t *testing.T) {
	for field, want := range map[string]string{
		`key-order`:                              "key-order",
		`params`:                                 "except=()",
		`params=?1, except=("b" "a")`:            `except=("a" "b")`,
		`except=("b" "a" "b")`:                   `except=("a" "b")`,
		`params=("a"), key-order`:                `key-order, params=("a")`,
		`key-order, params=?0`:                   "key-order",
		`key-order, params=()`:                   "key-order",
		`params=("%C3%A9+%E6%B0%97"), unknown=1`: `params=("%C3%A9+%E6%B0%97")`,
		`key-order;x=1, params=("a";y "b");z`:    `key-order, params=("a" "b")`,
		`params=("a"), params=("b")`:             `params=("b")`,
		`params=?0`:                              "",
		`params=()`:                              "",
		`params=?0, except=("a")`:                "",
		`params=("a"), except=("b")`:             "",
		`params=(a)`:                             "",
		`params=1`:                               "",
		`key-order=1, params=("a")`:              "",
		`key-order, except=?1`:                   "",
		`key-order,`:                             "",
		``:                                       "",
		`params=("` + strings.Repeat("a", maxField) + `")`: "",
	} {
		rule, ok := Parse([]string{field})
		if diff := cmp.Diff(want, rule.String()); diff != "" || ok != (want != "") {
			t.Errorf("%s: ok is %t, want rule and got rule:\n%s", field, ok, diff)
		}
	}
	lines, ok := Parse([]string{"key-order", `params=("a")`})
	if got := lines.String(); !ok || got != `key-order, params=("a")` {
		t.Errorf("two lines are read as %q", got)
	}
}

// TestDecode decodes as the URL standard does, which is not as package url
// does.
func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		"a+b%20c":            "a b c",
		"%":                  "%",
		"%4":                 "%4",
		"%zz%41":             "%zzA",
		"a;b":                "a;b",
		"%f6":                "\ufffd",
		"%e2%82":             "\ufffd",
		"%e2%82%ac":          "€",
		"%e2%41":             "\ufffdA",
		"%f0%9f%98":          "\ufffd",
		"%f0%80%80":          "\ufffd\ufffd\ufffd",
		"%ed%a0%80":          "\ufffd\ufffd\ufffd",
		"%c0%af":             "\ufffd\ufffd",
		"%f4%90":             "\ufffd\ufffd",
		"%ef%bb%bfa":         "\ufeffa",
		"\xe2\x82\xac%E2%82": "€\ufffd",
	} {
		if got := decode(text); got != want {
			t.Errorf("%s: got %+q, want %+q", text, got, want)
		}
	}
}

func TestLongQueries(t *testing.T) {
	rule, _ := Parse([]string{"params"})
	long := "?" + strings.Repeat("a", maxQuery)
	if rule.Equivalent(long, "") || !rule.Equivalent(long, long) {
		t.Error("a query that is too long is not equivalent to itself only")
	}
}

// FuzzRule checks what holds for all fields and queries.
func FuzzRule(f *testing.F) {
	f.Add(`key-order, params=("a" "%e9")`, "b=1&a=2", "a=3&b=1")
	f.Add(`params, except=("c")`, "c=%f6&x", "c=%EF%BF%BD")
	f.Add(`except=("c")`, "c==&&", "=c")
	f.Fuzz(func(t *testing.T, field, a, b string) {
		rule, ok := Parse([]string{field})
		if again, same := Parse([]string{rule.String()}); len(rule.String()) <= maxField && (same != ok || again.String() != rule.String()) {
			t.Errorf("%q is written as %q, which is read as %q", field, rule, again)
		}
		if rule.Equivalent(a, b) != rule.Equivalent(b, a) {
			t.Error("the order of comparing matters")
		}
		form, short := rule.Canonical(a)
		if twice, _ := rule.Canonical("?" + form); short && len(form) < maxQuery && twice != form {
			t.Errorf("the form of %q is %q, whose form is %q", a, form, twice)
		}
		if !ok && a != b && rule.Equivalent(a, b) {
			t.Error("without a rule two URLs are equivalent")
		}
	})
}
