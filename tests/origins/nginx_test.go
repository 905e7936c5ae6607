package origins_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// The commonest origin there is. The tests are skipped where it is not
// installed.

const nginxConf = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	gzip on;
	gzip_types *;
	gzip_min_length 1;
	gzip_vary on;
	add_header Cache-Control "max-age=3600";
	server {
		listen unix:%[1]s/socket;
		root %[1]s/www;
	}
}
`

// serveNginx serves the files of www in a directory of its own, which it
// returns, by a nginx on a socket there.
func serveNginx(t *testing.T) (dir string, serve func(*testing.T, http.Handler) (string, *http.Transport, func())) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed; 'apt-get install nginx-light' does that")
	}
	dir, err = os.MkdirTemp("", "nginx") // of a short name, as names of sockets have to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "www"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, func(t *testing.T, _ http.Handler) (string, *http.Transport, func()) {
		var said bytes.Buffer
		cmd := exec.Command(program, "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", conf)
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Skip("nginx can't be started: ", err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		down := func() {
			if ended != nil {
				cmd.Process.Kill()
				<-ended
				ended = nil
			}
		}
		t.Cleanup(down)
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "socket"))
		}
		for {
			conn, err := dial(t.Context(), "", "")
			if err == nil {
				conn.Close()
				return "http://nginx.test", &http.Transport{DialContext: dial}, down
			}
			select {
			case err := <-ended:
				ended = nil
				t.Skipf("nginx does not run: %v\n%s", err, said.String())
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// nginx weakens a file's entity tag when it compresses the file, and not in the
// 304 that confirms it. The stored response is freshened all the same, as the
// date in the 304 is a strong validator. RFC 9111, section 4.3.4.
func TestNginxWithGzip(t *testing.T) {
	page := strings.Repeat("A line of the page.\n", 500)
	for name, keep := range map[string]func(*testing.T) (store.Store, string){"disk": harness.OnDisk, "memory": harness.InMemory} {
		t.Run(name, func(t *testing.T) {
			for _, test := range []struct {
				name   string
				fields []string // of all requests
				tag    string   // what the tag begins with
			}{
				{"decoded by net/http", nil, `W/"`},
				{"gzip", []string{"Accept-Encoding", "gzip"}, `W/"`},
				{"no coding", []string{"Accept-Encoding", "identity"}, `"`},
			} {
				t.Run(test.name, func(t *testing.T) {
					dir, serve := serveNginx(t)
					w := harness.NewWorld(t, keep, serve)
					file := filepath.Join(dir, "www", "page.txt")
					write := func(content string, modified time.Time) {
						if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
							t.Fatal(err)
						}
						if err := os.Chtimes(file, modified, modified); err != nil {
							t.Fatal(err)
						}
					}
					about := func(fields ...string) string {
						r := w.Get("/page.txt", append(fields, test.fields...)...)
						if !strings.HasPrefix(r.Header.Get("ETag"), test.tag) {
							t.Errorf("the tag is %s, want %s…", r.Header.Get("ETag"), test.tag)
						}
						return strings.TrimPrefix(r.String(), fmt.Sprintf("%d %s | ", r.Code, r.Body))
					}
					write(page, time.Now().Add(-time.Hour))
					harness.Check(w, "the first", about(), "fwd=uri-miss; fwd-status=200; stored")
					body := w.Get("/page.txt", test.fields...).Body
					for range 3 {
						harness.Check(w, "a hit", about(), "hit")
						harness.Check(w, "a revalidation", about("Cache-Control", "no-cache"), "fwd=request; fwd-status=304; stored; detail=no-cache")
						harness.Check(w, "the body is the first", w.Get("/page.txt", test.fields...).Body == body, true)
					}
					if err := w.Transport.Invalidate(t.Context(), w.URL+"/page.txt"); err != nil {
						t.Error(err)
					}
					harness.Check(w, "after it was invalidated", about(), "fwd=stale; fwd-status=304; stored; detail=invalidated")
					harness.Check(w, "a hit", about(), "hit")

					write("changed\n"+page, time.Now().Add(-time.Minute))
					harness.Check(w, "a change", about("Cache-Control", "no-cache"), "fwd=request; fwd-status=200; stored; detail=no-cache")
					harness.Check(w, "a hit", about(), "hit")
				})
			}
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		dir, serve := serveNginx(t)
		w := harness.NewWorld(t, harness.InMemory, serve)
		file := filepath.Join(dir, "www", "page.txt")
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(-time.Hour)
		if err := os.Chtimes(file, before, before); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			harness.Check(w, "a GET", w.Get("/page.txt").Body, page)
			r := w.Do(w.Request("HEAD", "/page.txt"))
			harness.Check(w, "the length that a HEAD tells", r.Header.Get("Content-Length"), strconv.Itoa(len(page)))
			harness.Check(w, "as net/http has it", r.Response.ContentLength, int64(len(page)))
			harness.Check(w, "a hit after the HEAD", w.Get("/page.txt").Status.Hit, true)
		}
	})
}
