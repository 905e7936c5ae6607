package digest_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/span"
)

func of256(content string) string {
	sum := sha256.Sum256([]byte(content))
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func of512(content string) string {
	sum := sha512.Sum512([]byte(content))
	return "sha-512=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

const content = "some content"

func TestOf(t *testing.T) {
	const ignored, right, wrong = "ignored", "right", "wrong"
	for _, test := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"right", []string{of256(content)}, right},
		{"right, with the longer algorithm", []string{of512(content)}, right},
		{"wrong", []string{of256("other")}, wrong},
		{"the stronger one counts", []string{of256(content) + ", " + of512("other")}, wrong},
		{"the weaker one does not", []string{of256("other") + "," + of512(content)}, right},
		{"in two lines", []string{of256("other"), of512(content)}, right},
		{"the last of two members counts", []string{of256("other"), of256(content)}, right},
		{"another algorithm", []string{"md5=:AAAA:"}, ignored},
		{"another algorithm beside", []string{"md5=:AAAA:, " + of256("other")}, wrong},
		{"with a parameter", []string{of256("other") + ";a=1"}, wrong},
		{"an example of the RFC", []string{"sha-256=:d435Qo+nKZ+gLcUHn7GQtQ72hiBVAgqoLsZnZPiTGPk=:"}, wrong},
		{"absent", nil, ignored},
		{"empty", []string{""}, ignored},
		{"text", []string{"all"}, ignored},
		{"a token", []string{"sha-256=abc"}, ignored},
		{"a list", []string{"sha-256=(:AAAA:)"}, ignored},
		{"too short", []string{"sha-256=:AAAA:"}, ignored},
		{"too short, beside another one", []string{"sha-512=:AAAA:", of256("other")}, wrong},
		{"no base64", []string{"sha-256=:!" + strings.Repeat("A", 42) + "=:"}, ignored},
		{"malformed behind", []string{of256("other") + ", ="}, ignored},
		{"the name in capitals", []string{strings.Replace(of256("other"), "sha", "SHA", 1)}, ignored},
		{"endless", []string{of256("other"), strings.Repeat("a=1, ", 100_000) + "a=1"}, ignored},
	} {
		got := ignored
		if d, ok := digest.Of(digest.ReprField, test.lines); ok {
			c := (*digest.Check)(nil).With(d, span.Of(0, -1))
			c.Take(0, []byte(content))
			got = right
			if c.Wrong(int64(len(content))) != nil {
				got = wrong
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func TestDiffer(t *testing.T) {
	a, b, bad := []string{of256("a")}, []string{of256("b")}, []string{"x="}
	for _, test := range []struct {
		a, b []string
		want bool
	}{
		{a, a, false},
		{a, b, true},
		{a, nil, false},
		{nil, b, false},
		{a, bad, false},
		{a, []string{of512("b")}, false},
		{[]string{of256("a"), of512("a")}, b, true},
		{[]string{of256("a"), of512("a")}, []string{of512("a")}, false},
		{a, []string{"md5=:AAAA:", of256("a")}, false},
	} {
		if got := digest.Differ(test.a, test.b); got != test.want {
			t.Errorf("%q and %q differ: %t, want %t", test.a, test.b, got, test.want)
		}
	}
}

// stated returns a digest of some content.
func stated(t *testing.T, field, line string) digest.Digest {
	t.Helper()
	d, ok := digest.Of(field, []string{line})
	if !ok {
		t.Fatalf("no digest in %s", line)
	}
	return d
}

func TestCheck(t *testing.T) {
	all := int64(len(content))
	type taken struct {
		at   int64
		text string
	}
	for _, test := range []struct {
		name   string
		taken  []taken
		lacks  int64
		wrong  string // the field
		before string // the same when the first half is there
	}{
		{"at once", []taken{{0, content}}, all, "", ""},
		{"in pieces", []taken{{0, content[:3]}, {3, content[3:7]}, {7, content[7:]}}, all, "", ""},
		{"again and overlapping", []taken{{0, content[:5]}, {0, content[:7]}, {2, content[2:]}, {4, content[4:6]}}, all, "", ""},
		{"too much", []taken{{0, content + "!"}}, all, "", ""},
		{"a gap", []taken{{0, content[:7]}, {8, content[8:]}}, 7, digest.ReprField, ""},
		{"too little", []taken{{0, content[:6]}}, 6, digest.ReprField, ""},
		{"another end", []taken{{0, content[:6]}, {6, "xxxxxx"}}, all, digest.ReprField, ""},
		{"another beginning", []taken{{0, "xxxxxx"}, {6, content[6:]}}, all, digest.ContentField, digest.ContentField},
	} {
		c := (*digest.Check)(nil).With(stated(t, digest.ContentField, of512(content[:6])), span.Of(0, 6)).
			With(stated(t, digest.ReprField, of256(content)), span.Of(0, all)).
			With(stated(t, "Other", of256(content)), span.Of(0, all))
		for _, piece := range test.taken {
			c.Take(piece.at, []byte(piece.text))
		}
		if got := c.Lacks(all); got != test.lacks {
			t.Errorf("%s: lacks content from %d on, want %d", test.name, got, test.lacks)
		}
		for _, at := range []struct {
			end  int64
			want string
		}{{6, test.before}, {all, test.wrong}, {all, test.wrong}} {
			got := ""
			if wrong, ok := errors.AsType[*digest.Mismatch](c.Wrong(at.end)); ok {
				got = wrong.Field
			}
			if got != at.want {
				t.Errorf("%s: up to %d %q is wrong, want %q", test.name, at.end, got, at.want)
			}
		}
	}
}

func TestNoCheck(t *testing.T) {
	var c *digest.Check
	c.Take(0, []byte(content))
	if c.Lacks(5) != 5 || c.Wrong(5) != nil {
		t.Error("a nil Check lacks something, or finds something wrong")
	}
	piece := make([]byte, 1000)
	if n := testing.AllocsPerRun(100, func() { c.Take(0, piece); c.Lacks(5); c.Wrong(5) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMismatch(t *testing.T) {
	c := (*digest.Check)(nil).With(stated(t, digest.ReprField, of256("")), span.Of(0, -1))
	if err := c.Wrong(0); err != nil {
		t.Errorf("nothing has the digest of nothing, but %v", err)
	}
	c.Take(0, []byte("x"))
	if err := c.Wrong(1); fmt.Sprint(err) != "the body does not match Repr-Digest (sha-256)" {
		t.Error(err)
	}
}

func FuzzOf(f *testing.F) {
	for _, seed := range []string{of256(content), of512(content), "md5=:AAAA:, " + of256(""), "sha-256=:AAAA:;a;b=?0", "a=(1 2);c, b"} {
		f.Add(seed, "")
	}
	f.Add(of256(content), of512(content))
	f.Add("sha-256=:KQ9JPET11j0Gs3TQpavSkvrji5LKsvrl7+/hsOk0f1Z=:", "a")
	f.Fuzz(func(t *testing.T, a, b string) {
		lines := []string{a, b}
		d, ok := digest.Of(digest.ContentField, lines)
		if digest.Differ(lines, []string{a, b}) {
			t.Error("the same field differs")
		}
		if !ok {
			return
		}
		c := (*digest.Check)(nil).With(d, span.Of(0, -1))
		c.Take(0, []byte(content))
		right := c.Wrong(int64(len(content))) == nil
		for _, sum := range []string{of256(content), of512(content)} {
			value := strings.TrimRight(strings.SplitN(sum, ":", 3)[1], "=")
			value = value[:len(value)-1] // the last digit has bits that mean nothing
			if right && bytes.Contains([]byte(a+b), []byte(value)) {
				return
			}
		}
		if right {
			t.Errorf("%q has the digest of %q", lines, content)
		}
	})
}
