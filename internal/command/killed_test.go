//go:build unix

package command

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestKilled kills the program in the middle of a long download, in a way that
// it cannot notice. The next run fetches only the last few MiB again, and the
// rest.
func TestKilled(t *testing.T) {
	const (
		size  = 32 << 20
		first = 11 << 20
		next  = 8 << 20 // a checkpoint is made after so much, and once a second at most
		kept  = 7 << 20 // by each at least: it leaves out what is still in buffers
		drip  = 4 << 10
	)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Repeat("0123456789abcdef", size/16)
	var ranges atomic.Pointer[string]
	var stats summary
	readStats := func() bool {
		code, stdout, _ := command(t, "stats", "--json")
		return code == exitDone && json.Unmarshal([]byte(stdout), &stats) == nil
	}
	checked := make(chan struct{}) // two checkpoints were made
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Accept-Ranges", "bytes")
		if asked := r.Header.Get("Range"); asked != "" {
			ranges.Store(&asked)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(page))
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		rest := page
		send := func(n int) {
			io.WriteString(w, rest[:n])
			w.(http.Flusher).Flush()
			rest = rest[n:]
		}
		for i, n := range []int{first, next} {
			send(n)
			soon(t, "a checkpoint is made", func() bool {
				time.Sleep(100 * time.Millisecond)
				send(drip)
				return readStats() && stats.Bytes >= int64(i+1)*kept
			})
		}
		close(checked)
		<-r.Context().Done()
	})
	file := filepath.Join(t.TempDir(), "file")
	cmd := exec.CommandContext(t.Context(), self, "get", "-o", file, url)
	cmd.Env = append(os.Environ(), "CACHETRIP_TEST_COMMAND=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-checked
	cmd.Process.Kill()
	cmd.Wait()

	// The room for the rest is not on disk, and is counted apart.
	if !readStats() {
		t.Error("stats --json fails")
	}
	if stats.Bytes < 2*kept || stats.DiskBytes < stats.Bytes || stats.DiskBytes > stats.Bytes+1<<20 || stats.Bytes+stats.Reserved != size {
		t.Errorf("stats: %+v", stats)
	}
	if _, stdout, _ := command(t, "stats"); !strings.Contains(stdout, "reserved for the rest of bodies\n") {
		t.Errorf("stats: %s", stdout)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("a killed run leaves %v, %v, want one temporary file", left, err)
	}
	if code, stdout, _ := command(t, "verify"); code != exitDone || !strings.HasPrefix(stdout, "1 response checked") {
		t.Errorf("verify: exit code %d, %s", code, stdout)
	}
	if code, _, stderr := command(t, "get", "-o", file, url); code != exitDone || !strings.Contains(stderr, "only a part in the cache: the rest fetched") {
		t.Errorf("again: exit code %d, %s", code, stderr)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != page {
		t.Errorf("%d bytes, %v, want the page of %d", len(got), err, size)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("in the directory there are %v, %v, want the file alone", left, err)
	}
	asked := ranges.Load()
	if asked == nil {
		t.Fatal("the whole was requested again")
	}
	from := regexp.MustCompile(`^bytes=(\d+)-`).FindStringSubmatch(*asked)
	if n, err := strconv.Atoi(from[1]); err != nil || int64(n) < stats.Bytes {
		t.Errorf("it asked for %s; %d bytes were stored", *asked, stats.Bytes)
	}
	// The parts are one file now: the first one had room for the rest.
	if code, stdout, _ := command(t, "get", "--offline", url); code != exitDone || stdout != page {
		t.Errorf("from the cache: exit code %d, %d bytes", code, len(stdout))
	}
	if bodies, err := filepath.Glob(filepath.Join(os.Getenv("CACHETRIP_DIR"), "v1", "data", "*", "*-*")); err != nil || len(bodies) != 1 {
		t.Errorf("body files: %q, %v", bodies, err)
	}
}

// TestHangup closes the terminal in the middle of a download: the temporary
// file is removed. Under nohup, the download goes on.
func TestHangup(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The tests may run under nohup. A process inherits that a signal is ignored,
	// but not that it is caught.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP)
	defer signal.Stop(caught)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, ignored := range []bool{false, true} {
		sent, proceed := make(chan struct{}), make(chan struct{})
		url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "first ")
			w.(http.Flusher).Flush()
			close(sent)
			select {
			case <-proceed:
				io.WriteString(w, "second")
			case <-r.Context().Done():
			}
		})
		dir := t.TempDir()
		script, want, files := `exec "$@"`, exitInterrupted, 0
		if ignored {
			script, want, files = `trap '' HUP; exec "$@"`, exitDone, 1
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", script, "sh", self, "get", "-o", filepath.Join(dir, "file"), url)
		cmd.Env = append(os.Environ(), "CACHETRIP_TEST_COMMAND=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-sent:
		case <-ctx.Done():
			t.Fatal("the command does not ask")
		}
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		if ignored {
			close(proceed)
		}
		cmd.Wait()
		left, err := os.ReadDir(dir)
		if code := cmd.ProcessState.ExitCode(); err != nil || code != want || len(left) != files {
			t.Errorf("ignored: %v: exit code %d, want %d, files %v, %v", ignored, code, want, left, err)
		}
	}
}
