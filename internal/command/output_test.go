package command

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestGetOutput fetches a page into an existing file, with several kinds of
// failures.
func TestGetOutput(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "not here\n")
		case "/cut":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "not all\n")
		default:
			io.WriteString(w, "new\n")
		}
	})
	for _, test := range []struct {
		name, path   string
		code         int
		file, stdout string
		stderr       string
	}{
		{"done", "/", exitDone, "new\n", "", "200 OK, 4 B; "},
		{"error status", "/missing", exitHTTP, "old\n", "", "404 Not Found, 9 B; "},
		{"broken transfer", "/cut", exitFailed, "old\n", "", "cachetrip: " + url + "/cut: after 8 B of the body: unexpected EOF; nothing is kept, because the response is not stored; run it again\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "file")
			if err := os.WriteFile(file, []byte("old\n"), 0o640); err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := command(t, "get", "-o", file, url+test.path)
			if code != test.code || stdout != test.stdout || !strings.HasPrefix(stderr, test.stderr) {
				t.Errorf("exit code %d, stdout %q, stderr %q, want %d, %q, %q", code, stdout, stderr, test.code, test.stdout, test.stderr)
			}
			checkFile(t, file, test.file)
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o640 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestGetNowhere(t *testing.T) {
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for _, args := range [][]string{{"-o", filepath.Join(nowhere, "x")}, {"-O", "--output-dir", nowhere}} {
		code, _, stderr := command(t, append(append([]string{"get"}, args...), url+"/x")...)
		if code != exitFailed || !strings.HasPrefix(stderr, "cachetrip: cannot write a file in "+nowhere+": ") || strings.Contains(stderr, ".part") {
			t.Errorf("%q: exit code %d, stderr %q", args, code, stderr)
		}
	}
	if *requests != 0 {
		t.Errorf("%d requests for what cannot be written", *requests)
	}
}

func TestGetErrorStatus(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "not here\n")
	})
	code, stdout, stderr := command(t, "get", "-o", "-", url)
	if code != exitHTTP || stdout != "not here\n" || !strings.HasPrefix(stderr, "404 Not Found, 9 B; ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestGetNoConnection(t *testing.T) {
	t.Setenv("CACHETRIP_DIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "file")
	code, stdout, stderr := command(t, "get", "-o", file, "http://127.0.0.1:1/")
	if code != exitFailed || stdout != "" || !strings.HasPrefix(stderr, "cachetrip: http://127.0.0.1:1/: ") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was made")
	}
}

// TestOutputThroughLink replaces the file that a link names, not the link.
func TestOutputThroughLink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", link); err != nil {
		t.Skip(err) // as on Windows without the privilege
	}
	out, err := createOutput(link, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer out.discard()
	io.WriteString(out, "new")
	checkFile(t, link, "old")
	if err := out.commit(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, file, "new")
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is now %v, %v", info, err)
	}
}

// TestOutputDevice writes to a device in place.
func TestOutputDevice(t *testing.T) {
	out, err := createOutput(os.DevNull, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(out, "gone"); err != nil {
		t.Error(err)
	}
	if err := out.commit(); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Errorf("%s is now %v, %v", os.DevNull, info, err)
	}
}

func checkFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v, want %q", filepath.Base(path), got, err, want)
	}
}

// TestOutputFails writes to a full device. Nothing is said about the cache,
// which stores the body all the same.
func TestOutputFails(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		io.WriteString(w, "hello\n")
	})
	if code, _, stderr := command(t, "get", "-o", "/dev/full", url); code != exitFailed || !strings.Contains(stderr, "no space left") || strings.Contains(stderr, "nothing is kept") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if code, stdout, stderr := command(t, "get", "--offline", url); code != exitDone || stdout != "hello\n" {
		t.Errorf("then: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// TestTwoOutputs has two runs write the same file at the same time. Neither
// loses its temporary file to the other, and nothing is left.
func TestTwoOutputs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	var all []*output
	for _, text := range []string{"first", "second"} {
		out, err := createOutput(file, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(out, text)
		all = append(all, out)
	}
	for i, want := range []string{"first", "second"} {
		if err := all[i].commit(); err != nil {
			t.Error(err)
		}
		checkFile(t, file, want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestManyOutputs has many goroutines write and discard the same file.
func TestManyOutputs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 50 {
				out, err := createOutput(file, io.Discard)
				if err != nil {
					t.Error(err)
					continue
				}
				io.WriteString(out, "whole")
				if (i+n)%2 == 0 {
					out.discard()
				} else if err := out.commit(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	checkFile(t, file, "whole")
	if out, err := createOutput(file, io.Discard); err == nil { // removes what nobody holds
		out.discard()
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
