package command

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestRetry has an origin that fails a few times in several ways.
func TestRetry(t *testing.T) {
	defer func(pause time.Duration) { retryPause = pause }(retryPause)
	retryPause = time.Millisecond
	for name, test := range map[string]struct {
		fail  func(w http.ResponseWriter)
		flags string
		code  int
		calls int64
		tells string
	}{
		"status":          {func(w http.ResponseWriter) { w.WriteHeader(503) }, "--retry 3", exitDone, 3, "503 Service Unavailable; trying again at once (2 of 3)\n"},
		"Retry-After":     {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) }, "--retry 3", exitDone, 3, "429 Too Many Requests; trying again"},
		"much later":      {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "7200"); w.WriteHeader(503) }, "--retry 3", exitHTTP, 1, "the server asks to wait 2h, which is too long"},
		"too few tries":   {func(w http.ResponseWriter) { w.WriteHeader(502) }, "--retry 1", exitHTTP, 2, "502 Bad Gateway"},
		"a lasting error": {func(w http.ResponseWriter) { w.WriteHeader(404) }, "--retry 3", exitHTTP, 1, "404 Not Found"},
		"no flag":         {func(w http.ResponseWriter) { w.WriteHeader(503) }, "", exitHTTP, 1, "503"},
		"quiet":           {func(w http.ResponseWriter) { w.WriteHeader(503) }, "-q --retry 3", exitDone, 3, ""},
		"silence":         {nil, "--timeout 200ms --retry 1000", exitDone, 3, "the server sent nothing for 200ms; trying again"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case calls.Add(1) > 2:
				case test.fail == nil:
					<-r.Context().Done()
					return
				default:
					test.fail(w)
					return
				}
				io.WriteString(w, "hello\n")
			})
			code, stdout, stderr := command(t, strings.Fields("get "+test.flags+" "+url+"/?a=b")...)
			if test.fail == nil { // a busy machine is silent more often
				test.calls = max(test.calls, calls.Load())
			}
			if code != test.code || calls.Load() != test.calls || !strings.Contains(stderr, test.tells) || (code == exitDone) != (stdout == "hello\n") {
				t.Errorf("exit code %d, %d requests, stdout %q, stderr %q; want %d, %d, %q", code, calls.Load(), stdout, stderr, test.code, test.calls, test.tells)
			}
			if test.tells == "" && stderr != "" {
				t.Errorf("it is not quiet: %q", stderr)
			}
		})
	}
}

// TestRetryOfBody breaks a body that cannot be continued. A file gets the whole
// of the next attempt. Standard output cannot take back what was written.
func TestRetryOfBody(t *testing.T) {
	defer func(pause time.Duration) { retryPause = pause }(retryPause)
	retryPause = time.Millisecond
	for _, toFile := range []bool{true, false} {
		var calls atomic.Int64
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			if calls.Add(1) == 1 {
				io.WriteString(w, "01234")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			io.WriteString(w, "abcdefghij")
		})
		args, want, wantCalls := []string{"get", "--retry", "2", url}, exitFailed, int64(1)
		file := filepath.Join(t.TempDir(), "file")
		if toFile {
			args, want, wantCalls = append(args, "-o", file), exitDone, 2
		}
		code, stdout, stderr := command(t, args...)
		if code != want || calls.Load() != wantCalls {
			t.Errorf("to a file: %v: exit code %d, %d requests, stdout %q, stderr %q", toFile, code, calls.Load(), stdout, stderr)
		}
		if toFile {
			checkFile(t, file, "abcdefghij")
		}
	}
}

func TestPauseBefore(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		failed int
		after  string
		want   time.Duration
		ok     bool
	}{
		{1, "", time.Second, true},
		{2, "", 2 * time.Second, true},
		{4, "", 8 * time.Second, true},
		{100, "", time.Minute, true},
		{3, "soon", 4 * time.Second, true},
		{3, "0", 0, true},
		{1, "120", 2 * time.Minute, true},
		{1, "600", 10 * time.Minute, true},
		{1, "601", 601 * time.Second, false},
		{1, "99999999999999999999", time.Second, true},
		{1, "-5", time.Second, true},
		{1, now.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second, true},
		{1, now.Add(-time.Hour).Format(http.TimeFormat), 0, true},
		{1, now.Add(48 * time.Hour).Format(http.TimeFormat), 48 * time.Hour, false},
	} {
		if got, ok := pauseBefore(test.failed, test.after, now); got != test.want || ok != test.ok {
			t.Errorf("after %d failures, Retry-After %q: %v, %v, want %v, %v", test.failed, test.after, got, ok, test.want, test.ok)
		}
	}
}

// TestTimeout has an origin that stops sending: before its response, or in the
// middle of a body.
func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var silent atomic.Bool
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/stale" && !silent.Load():
			w.Header().Set("Cache-Control", "max-age=1, stale-if-error=3600")
			w.Header().Set("Age", "100")
			io.WriteString(w, "old\n")
			return
		case r.URL.Path == "/stalls":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "01234")
			w.(http.Flusher).Flush()
		}
		<-release
	})
	command(t, "get", url+"/stale")
	silent.Store(true)
	for path, want := range map[string]struct {
		code   int
		stdout string
		says   string
	}{
		"/silent": {exitFailed, "", "the server sent nothing for "},
		"/stalls": {exitFailed, "01234", "after 5 B of the body: "},
		"/stale":  {exitDone, "old\n", "the origin could not be reached, served from the cache"},
	} {
		for timeout := 300 * time.Millisecond; ; timeout *= 2 {
			code, stdout, stderr := command(t, "get", "--timeout", timeout.String(), url+path)
			if path == "/stalls" && stdout == "" && timeout < time.Minute {
				continue // on a busy machine, the header came too late
			}
			if code != want.code || stdout != want.stdout || !strings.Contains(stderr, want.says) {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q; want %+v", path, code, stdout, stderr, want)
			}
			break
		}
	}
}
