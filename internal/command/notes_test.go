package command

import (
	"net/http"
	"strings"
	"testing"
)

// TestNotesAreNoResponses: no command lists, counts or removes the notes that a
// cache keeps about groups and equivalent URLs, except with all else.
func TestNotesAreNoResponses(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // in the output
	}{
		{[]string{"ls"}, "http"},
		{[]string{"stats"}, "1 response for 1 URL:"},
		{[]string{"verify"}, "1 response checked"},
		{[]string{"purge", "*"}, "1 response removed."},
		{[]string{"prune", "--max-size", "0"}, "1 URL removed:"},
		{[]string{"clear"}, "1 URL removed,"},
	} {
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=86400")
			w.Header().Set("Cache-Groups", `"a"`)
			w.Header().Set("No-Vary-Search", `params=("b")`)
		})
		command(t, "get", url)
		code, stdout, stderr := command(t, test.args...)
		if code != exitDone || !strings.Contains(stdout, test.want) || strings.Count(stdout, "http") > 1 {
			t.Errorf("%q: exit code %d, %s%s, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}
