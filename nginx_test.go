package cachetrip_test

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

	"github.com/cachetrip/cachetrip/store"
)

// The commonest origin there is. The tests are skipped where it is not installed.

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

// serveNginx serves the files of www in a directory of its own, which it returns, by a nginx on a socket there.
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

// nginx weakens a file's entity tag when it compresses the file, and not in the 304 that confirms it. The
// stored response is freshened all the same, as the date in the 304 is a strong validator. RFC 9111, section 4.3.4.
func TestNginxWithGzip(t *testing.T) {
	page := strings.Repeat("A line of the page.\n", 500)
	for name, keep := range map[string]func(*testing.T) (store.Store, string){"disk": onDisk, "memory": inMemory} {
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
					w := newWorld(t, keep, serve)
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
						r := w.get("/page.txt", append(fields, test.fields...)...)
						if !strings.HasPrefix(r.Header.Get("ETag"), test.tag) {
							t.Errorf("the tag is %s, want %s…", r.Header.Get("ETag"), test.tag)
						}
						return strings.TrimPrefix(r.String(), fmt.Sprintf("%d %s | ", r.Code, r.Body))
					}
					write(page, time.Now().Add(-time.Hour))
					check(w, "the first", about(), "fwd=uri-miss; fwd-status=200; stored")
					body := w.get("/page.txt", test.fields...).Body
					for range 3 {
						check(w, "a hit", about(), "hit")
						check(w, "a revalidation", about("Cache-Control", "no-cache"), "fwd=request; fwd-status=304; stored; detail=no-cache")
						check(w, "the body is the first", w.get("/page.txt", test.fields...).Body == body, true)
					}
					if err := w.cache.Invalidate(t.Context(), w.url+"/page.txt"); err != nil {
						t.Error(err)
					}
					check(w, "after it was invalidated", about(), "fwd=stale; fwd-status=304; stored; detail=invalidated")
					check(w, "a hit", about(), "hit")

					write("changed\n"+page, time.Now().Add(-time.Minute))
					check(w, "a change", about("Cache-Control", "no-cache"), "fwd=request; fwd-status=200; stored; detail=no-cache")
					check(w, "a hit", about(), "hit")
				})
			}
		})
	}
	t.Run("HEAD", func(t *testing.T) {
		dir, serve := serveNginx(t)
		w := newWorld(t, inMemory, serve)
		file := filepath.Join(dir, "www", "page.txt")
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(-time.Hour)
		if err := os.Chtimes(file, before, before); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			check(w, "a GET", w.get("/page.txt").Body, page)
			r := w.do(w.request("HEAD", "/page.txt"))
			check(w, "the length that a HEAD tells", r.Header.Get("Content-Length"), strconv.Itoa(len(page)))
			check(w, "as net/http has it", r.resp.ContentLength, int64(len(page)))
			check(w, "a hit after the HEAD", w.get("/page.txt").Status.Hit, true)
		}
	})
}
