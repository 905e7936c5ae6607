package command

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestModes follows a redirect in each mode. The mode holds for its target,
// too.
func TestModes(t *testing.T) {
	for _, test := range []struct {
		flag string
		want string // the requests to the origin, if everything is stored and stale
		code int    // if nothing is stored
	}{
		{"", "/a If-None-Match, /b If-None-Match", exitDone},
		{"--offline", "", exitNotCached},
		{"--force-cache", "", exitDone},
		{"--no-cache", "/a If-None-Match max-age=0, /b If-None-Match max-age=0", exitDone},
		{"--refresh", "/a If-None-Match max-age=0, /b If-None-Match max-age=0", exitDone},
		{"--reload", "/a no-cache, /b no-cache", exitDone},
		{"--no-store", "/a no-cache, /b no-cache", exitDone},
	} {
		t.Run(test.flag, func(t *testing.T) {
			var asked []string
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				line := r.URL.Path
				if r.Header.Get("If-None-Match") != "" {
					line += " If-None-Match"
				}
				if cc := r.Header.Get("Cache-Control"); cc != "" {
					line += " " + cc
				}
				asked = append(asked, line)
				w.Header().Set("Cache-Control", "max-age=0, must-revalidate")
				w.Header().Set("ETag", `"1"`)
				switch {
				case r.Header.Get("If-None-Match") != "":
					w.WriteHeader(http.StatusNotModified)
				case r.URL.Path == "/a":
					http.Redirect(w, r, "/b", http.StatusFound)
				default:
					io.WriteString(w, "hello\n")
				}
			})
			args := strings.Fields("get " + test.flag + " " + url + "/a")
			if code, _, stderr := command(t, args...); code != test.code {
				t.Errorf("nothing stored: exit code %d, stderr %q", code, stderr)
			}
			stored, _, _ := command(t, "show", url+"/b")
			if want := test.code == exitDone && test.flag != "--no-store"; (stored == exitDone) != want {
				t.Errorf("nothing stored: exit code of show %d, want it stored: %v", stored, want)
			}
			command(t, "get", url+"/a")
			asked = nil
			if code, stdout, stderr := command(t, args...); code != exitDone || stdout != "hello\n" {
				t.Errorf("stored: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
			if got := strings.Join(asked, ", "); got != test.want {
				t.Errorf("the origin was asked %q, want %q", got, test.want)
			}
		})
	}
}

// TestModeWords: a mode is named by its flag, in the command's words.
func TestModeWords(t *testing.T) {
	for _, m := range modes {
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=3600, no-cache")
		})
		command(t, "get", url)
		_, _, stderr := command(t, "get", "--"+m.flag, url)
		if strings.Contains(stderr, "mode-") || strings.Contains(stderr, m.mode.String()+")") && m.flag != m.mode.String() {
			t.Errorf("--%s: %s", m.flag, stderr)
		}
	}
}
