//go:build linux || darwin

package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
)

// onTerminal runs a command whose output is a terminal, and returns the
// terminal's output.
func onTerminal(t *testing.T, args []string) (code int, seen string) {
	t.Helper()
	return openTerminal(t, 100).run(t.Context(), args)
}

// onTerminals runs commands at the same time, because they mostly wait, each
// on its own of the terminals. It calls check for each.
func onTerminals(t *testing.T, terminals []*terminal, commands [][]string, check func(i, code int, seen string)) {
	t.Helper()
	var running sync.WaitGroup
	defer running.Wait()
	for i, args := range commands {
		running.Go(func() {
			code, seen := terminals[i].run(t.Context(), args)
			check(i, code, seen)
		})
	}
}

// terminal is a terminal for one command.
type terminal struct {
	user, program *os.File
	reading       sync.WaitGroup

	mu   sync.Mutex
	seen strings.Builder
}

// Write adds to what the user has seen.
func (term *terminal) Write(b []byte) (int, error) {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.seen.Write(b)
}

// shows waits until the user has seen what a regular expression matches.
func (term *terminal) shows(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	soon(t, "the terminal shows "+pattern, func() bool {
		term.mu.Lock()
		defer term.mu.Unlock()
		return re.MatchString(term.seen.String())
	})
}

// openTerminals opens n terminals.
func openTerminals(t *testing.T, n int, columns uint16) (all []*terminal) {
	t.Helper()
	for range n {
		all = append(all, openTerminal(t, columns))
	}
	return all
}

func openTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	user, program, err := pty.Open()
	if err != nil {
		t.Skip("no terminals here:", err)
	}
	if err := pty.Setsize(program, &pty.Winsize{Rows: 40, Cols: columns}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{user: user, program: program}
	term.reading.Go(func() { io.Copy(term, user) }) // an error means that the program has closed its end
	t.Cleanup(func() {
		program.Close()
		term.reading.Wait()
		user.Close()
	})
	return term
}

func (term *terminal) run(ctx context.Context, args []string) (code int, seen string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	code = run(ctx, args, term.program, term.program)
	term.program.Close()
	term.reading.Wait()
	return code, term.seen.String()
}

func terminalEnv(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	t.Setenv("COLUMNS", "")
}

// TestSessionOnTerminal plays the session on a terminal, with colours, bars and
// a width.
func TestSessionOnTerminal(t *testing.T) {
	for _, columns := range []uint16{80, 120} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			terminalEnv(t)
			// They are read outside of the session's bubble. In a bubble, no time
			// would pass while a terminal is read.
			terminals := openTerminals(t, len(session), columns)
			playSession(t, filepath.Join("testdata", fmt.Sprintf("terminal%d.txt", columns)), func(ctx context.Context, args []string) (int, string) {
				terminal := terminals[0]
				terminals = terminals[1:]
				return terminal.run(ctx, args)
			})
		})
	}
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
	terminals := openTerminals(t, 3, 100)
	shown := make(chan struct{})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		for i := range 10 {
			w.Write(bytes.Repeat([]byte("text"), 2_500))
			w.(http.Flusher).Flush()
			time.Sleep(progressAfter / 4)
			switch {
			case i < 8:
			case i == 8 && r.URL.Path == "/a":
				terminals[0].shows(t, `% \[=`)
				close(shown)
			default:
				<-shown // a bar would be shown by now
			}
		}
	})
	commands := [][]string{
		{"cachetrip", "get", "-O", "--output-dir", t.TempDir(), url + "/a"},
		{"cachetrip", "get", "-q", "-o", filepath.Join(t.TempDir(), "x"), url + "/b"},
		{"cachetrip", "get", url + "/c"},
	}
	onTerminals(t, terminals, commands, func(i, code int, seen string) {
		shown := strings.Contains(seen, "% [=") && strings.Contains(seen, "100.0 kB") && strings.Contains(seen, "\x1b[1A\r\x1b[J")
		if wanted := i == 0; code != exitDone || shown != wanted {
			t.Errorf("%q: exit code %d, a bar: %v, want %v:\n%q", commands[i], code, shown, wanted, seen)
		}
	})
	_, _, stderr := command(t, "get", "-o", os.DevNull, url+"/slow")
	if strings.Contains(stderr, "[=") {
		t.Errorf("a bar where nobody looks: %q", stderr)
	}
}

// TestWaitingIsShown has a server that is silent for a while. The user is told
// after a second, also if the body goes to the same terminal.
func TestWaitingIsShown(t *testing.T) {
	terminalEnv(t)
	terminals := openTerminals(t, 3, 100)
	var shown sync.WaitGroup
	shown.Add(2)
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if i := strings.Index("/a/b", r.URL.Path); i >= 0 {
			terminals[i/2].shows(t, `waiting for `+regexp.QuoteMeta(r.Host)+` \([1-9]\d*s\)`)
			shown.Done()
		}
		shown.Wait() // it would be shown by now
		io.WriteString(w, "hello\n")
	})
	commands := [][]string{
		{"cachetrip", "get", url + "/a"},
		{"cachetrip", "get", "-o", os.DevNull, url + "/b"},
		{"cachetrip", "get", "-q", url + "/c"},
	}
	onTerminals(t, terminals, commands, func(i, code int, seen string) {
		shown := strings.Contains(seen, "waiting for ") && strings.Contains(seen, "\x1b[1A\r\x1b[J")
		if wanted := i < 2; code != exitDone || shown != wanted {
			t.Errorf("%q: exit code %d, waiting is shown: %v, want %v: %q", commands[i], code, shown, wanted, seen)
		}
	})
}

// TestBinaryOnTerminal: get and show refuse to write a binary body to a
// terminal, as curl does. The cache keeps the body that get refused to write.
func TestBinaryOnTerminal(t *testing.T) {
	terminalEnv(t)
	binary := append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 1000)...)
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		if r.URL.Path == "/text" {
			io.WriteString(w, "größe\n")
			return
		}
		w.Write(binary)
	})
	code, seen := onTerminal(t, []string{"cachetrip", "get", url + "/x"})
	if code != exitFailed || !strings.Contains(seen, "-o FILE") || !strings.Contains(seen, "-o -") || strings.Contains(seen, "PNG") {
		t.Errorf("exit code %d, %q", code, seen)
	}
	if code, seen := onTerminal(t, []string{"cachetrip", "get", "-o", "-", url + "/x"}); code != exitDone || !strings.Contains(seen, "PNG") {
		t.Errorf("-o -: exit code %d, %q", code, seen)
	}
	if code, seen := onTerminal(t, []string{"cachetrip", "show", "--body", url + "/x"}); code != exitFailed || !strings.Contains(seen, "redirect it to a file\r\n") || strings.Contains(seen, "PNG") {
		t.Errorf("show --body: exit code %d, %q", code, seen)
	}
	if code, seen := onTerminal(t, []string{"cachetrip", "get", "-I", url + "/x"}); code != exitDone || !strings.Contains(seen, "200 OK") {
		t.Errorf("-I: exit code %d, %q", code, seen)
	}
	if code, seen := onTerminal(t, []string{"cachetrip", "get", url + "/text"}); code != exitDone || !strings.Contains(seen, "größe") {
		t.Errorf("text: exit code %d, %q", code, seen)
	}
	if code, stdout, _ := command(t, "get", url+"/x"); code != exitDone || stdout != string(binary) {
		t.Errorf("to a pipe: exit code %d, %q", code, stdout)
	}
	if *requests != 2 {
		t.Errorf("%d requests, want 2: what was refused is stored", *requests)
	}
}

// TestProgressOfResumed: the rate is that of the network, and not of what the
// cache already had.
func TestProgressOfResumed(t *testing.T) {
	terminalEnv(t)
	const half = 10_000_000
	terminal := openTerminal(t, 100)
	var resumes atomic.Bool
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Accept-Ranges", "bytes")
		if !resumes.Load() {
			w.Header().Set("Content-Length", strconv.Itoa(2*half))
			if r.Header.Get("Range") == "" {
				w.Write(make([]byte, half))
			}
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", half, 2*half-1, 2*half))
		w.Header().Set("Content-Length", strconv.Itoa(half))
		w.WriteHeader(http.StatusPartialContent)
		for range 10 {
			w.Write(make([]byte, 10_000)) // slowly at first
			w.(http.Flusher).Flush()
			time.Sleep(progressAfter / 3)
		}
		terminal.shows(t, ` 50% .* 10\.\d MB`)
		w.Write(make([]byte, half-100_000))
	})
	if code, _, stderr := command(t, "get", "-o", os.DevNull, url); code != exitFailed {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	resumes.Store(true)
	code, seen := terminal.run(t.Context(), []string{"cachetrip", "get", "-o", os.DevNull, url})
	rates := regexp.MustCompile(` 50% .* 10\.\d MB +([\d.]+ .?B)/s`).FindAllStringSubmatch(seen, -1)
	if code != exitDone || len(rates) == 0 {
		t.Fatalf("exit code %d, rates %q:\n%q", code, rates, seen)
	}
	for _, rate := range rates {
		if strings.Contains(rate[1], "MB") {
			t.Errorf("a rate of %s, of at most some 100 kB/s", rate[1])
		}
	}
}

// TestHelpFits reads the help of every command on a narrow terminal. It has the
// same words as in a pipe, and every line fits except commands to be copied.
func TestHelpFits(t *testing.T) {
	terminalEnv(t)
	t.Setenv("COLUMNS", "72")
	for _, name := range []string{"", "get", "ls", "show", "explain", "stats", "verify", "prune", "purge", "clear", "demo", "completion", "man", "version"} {
		args := append(strings.Fields(name), "--help")
		_, want, _ := command(t, args...)
		code, got := onTerminal(t, append([]string{"cachetrip"}, args...))
		if diff := cmp.Diff(strings.Fields(want), strings.Fields(got)); code != exitDone || diff != "" {
			t.Errorf("%s: exit code %d, other words than in a pipe (-want +got):\n%s", args, code, diff)
		}
		for line := range strings.SplitSeq(got, "\r\n") {
			if len(line) > 72 && !strings.HasPrefix(line, "   cachetrip completion fish") && !strings.HasPrefix(line, "   cachetrip man >") {
				t.Errorf("%s: %q does not fit", args, line)
			}
		}
		if strings.Contains(want, "[ -") {
			t.Errorf("%s: a flag is named twice:\n%s", args, want)
		}
	}
}
