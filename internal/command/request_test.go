package command

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestHeaderFields adds and removes fields of requests, as curl does.
func TestHeaderFields(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"User-Agent", "Accept", "X"} {
			fmt.Fprintf(w, "%s %q\n", name, r.Header[name])
		}
		io.WriteString(w, r.Host)
	})
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, `User-Agent ["cachetrip/`},
		{[]string{"-H", "X: 1", "-H", "x:2"}, `X ["1" "2"]`},
		{[]string{"-H", "X;"}, `X [""]`},
		{[]string{"-H", "X; "}, `X [""]`},
		{[]string{"-H", "X: ;"}, `X [";"]`},
		{[]string{"-H", "Accept:"}, `Accept []`},
		{[]string{"-H", "X: 1", "-H", "X:"}, `X []`},
		{[]string{"-H", "User-Agent:"}, `User-Agent []`},
		{[]string{"-A", ""}, `User-Agent []`},
		{[]string{"-A", "me"}, `User-Agent ["me"]`},
		{[]string{"-H", "Host: example.com"}, "example.com"},
	} {
		code, stdout, stderr := command(t, append(append([]string{"get", "--no-store"}, test.args...), url)...)
		if code != exitDone || !strings.Contains(stdout, test.want) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
	for field, want := range map[string]string{
		"sesame": "the first -H is not a header field of the form 'Name: value', 'Name;' or 'Name:'",
		"Host:":  "the first -H would send no Host, which every request needs",
		"Host;":  "the first -H would send no Host, which every request needs",
		"":       "the first -H is not",
		":":      "the first -H is not",
		"a b: c": "the first -H is not",
		"X: a\n": "the first -H is not",
		"X: 1;2": "",
	} {
		code, _, stderr := command(t, "get", "--no-store", "-H", field, url)
		if want != "" && (code != exitUsage || !strings.Contains(stderr, want) || strings.Contains(stderr, "sesame")) || want == "" && code != exitDone {
			t.Errorf("-H %q: exit code %d, stderr %q, want %q", field, code, stderr, want)
		}
	}
}
