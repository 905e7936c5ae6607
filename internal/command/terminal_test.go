//go:build linux || darwin

package command

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// onTerminal runs a command whose output is a terminal, and returns the
// terminal's output.
func onTerminal(t *testing.T, args []string) (code int, seen string) {
	t.Helper()
	user, program, err := pty.Open()
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	defer user.Close()
	if err := pty.Setsize(program, &pty.Winsize{Rows: 40, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(user) // an error means that the program has closed its end
		shown <- string(text)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	code = run(ctx, args, program, program)
	program.Close()
	return code, <-shown
}

func terminalEnv(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	t.Setenv("COLUMNS", "")
}

// TestSessionOnTerminal plays the session on a terminal, with colours, bars and
// a width.
func TestSessionOnTerminal(t *testing.T) {
	terminalEnv(t)
	playSession(t, filepath.Join("testdata", "terminal.txt"), func(args []string) (int, string) { return onTerminal(t, args) })
}

// TestNoColour checks that NO_COLOR and the like turn colours off.
func TestNoColour(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "max-age=90000") })
	for _, env := range []string{"NO_COLOR=1", "TERM=dumb", ""} {
		t.Run(env, func(t *testing.T) {
			terminalEnv(t)
			if name, value, found := strings.Cut(env, "="); found {
				t.Setenv(name, value)
			}
			command(t, "get", url)
			for _, args := range [][]string{{"ls"}, {"show", url}, {"explain", url}, {"stats"}} {
				code, seen := onTerminal(t, append([]string{"cachetrip"}, args...))
				if coloured := strings.Contains(seen, "\x1b["); code != exitDone || coloured != (env == "") {
					t.Errorf("%q: exit code %d, colours: %v", args, code, coloured)
				}
			}
		})
	}
}

// TestProgress downloads a slow body to a file. A bar is shown, and removed in
// the end.
func TestProgress(t *testing.T) {
	terminalEnv(t)
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		for range 10 {
			w.Write(make([]byte, 10_000))
			w.(http.Flusher).Flush()
			time.Sleep(progressAfter / 4)
		}
	})
	for _, flags := range [][]string{{"-O", "--output-dir", t.TempDir()}, {"-q", "-o", filepath.Join(t.TempDir(), "x")}, {}} {
		args := append([]string{"cachetrip", "get"}, flags...)
		code, seen := onTerminal(t, append(args, url+"/slow"))
		shown := strings.Contains(seen, "% [=") && strings.Contains(seen, "100.0 kB") && strings.Contains(seen, "\x1b[1A\r\x1b[J")
		if wanted := len(flags) > 0 && flags[0] == "-O"; code != exitDone || shown != wanted {
			t.Errorf("%q: exit code %d, a bar: %v, want %v:\n%q", flags, code, shown, wanted, seen)
		}
	}
	_, _, stderr := command(t, "get", "-o", os.DevNull, url+"/slow")
	if strings.Contains(stderr, "[=") {
		t.Errorf("a bar where nobody looks: %q", stderr)
	}
}

// TestHelpFits reads the help of every command on a narrow terminal. It has the
// same words as in a pipe, and every line fits except commands to be copied.
func TestHelpFits(t *testing.T) {
	terminalEnv(t)
	t.Setenv("COLUMNS", "72")
	for _, name := range []string{"", "get", "ls", "show", "explain", "stats", "verify", "prune", "purge", "clear", "demo", "completion"} {
		args := append(strings.Fields(name), "--help")
		_, want, _ := command(t, args...)
		code, got := onTerminal(t, append([]string{"cachetrip"}, args...))
		if diff := cmp.Diff(strings.Fields(want), strings.Fields(got)); code != exitDone || diff != "" {
			t.Errorf("%s: exit code %d, other words than in a pipe (-want +got):\n%s", args, code, diff)
		}
		for line := range strings.SplitSeq(got, "\r\n") {
			if len(line) > 72 && !strings.HasPrefix(line, "   cachetrip completion fish") {
				t.Errorf("%s: %q does not fit", args, line)
			}
		}
		if strings.Contains(want, "[ -") {
			t.Errorf("%s: a flag is named twice:\n%s", args, want)
		}
	}
}
