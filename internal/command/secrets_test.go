package command

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// checkSecret fails the test if a secret is in the output, or in the name or
// content of a file in the cache directory.
func checkSecret(t *testing.T, secret string, seen ...string) {
	t.Helper()
	for _, text := range seen {
		if strings.Contains(text, secret) {
			t.Errorf("%s is shown:\n%s", secret, text)
		}
	}
	files := 0
	err := filepath.WalkDir(os.Getenv("CACHETRIP_DIR"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if strings.Contains(path, secret) || bytes.Contains(content, []byte(secret)) {
			t.Errorf("%s is in %s", secret, path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files in the cache, %v", files, err)
	}
}

// TestSecretsAreNotShown puts secrets into all places of requests and
// responses, and runs every command.
func TestSecretsAreNotShown(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=86400")
		h.Set("Vary", "X-Api-Key, Accept-Language")
		h.Set("ETag", `"1"`)
		h.Set("Link", "<https://h/next?access_token=RESPSECRET-1>; rel=next")
		h.Set("Refresh", "60; url=/again?token=RESPSECRET-2")
		h.Set("X-Auth-Token", "RESPSECRET-3")
		h.Set("Set-Cookie", "a=RESPSECRET-4")
		h.Set("Content-Location", "http://u:pa%zzRESPSECRET-5@h/#RESPSECRET-6")
		switch r.URL.Path {
		case "/moved":
			h.Set("Location", "/page?token=RESPSECRET-7")
			w.WriteHeader(http.StatusMovedPermanently)
		case "/misled":
			h.Set("Location", "http://u:RESPSECRET-8/x@h/")
			w.WriteHeader(http.StatusFound)
		case "/nowhere":
			h.Set("Location", "http://127.0.0.1:1/?token=RESPSECRET-9")
			w.WriteHeader(http.StatusFound)
		case "/broken":
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "hello\n")
	})
	host := strings.TrimPrefix(url, "http://")
	query := "?access_token=QUERYSECRET"
	fields := []string{
		"-H", "Authorization: REQSECRET-1", "-H", "X-Api-Key: REQSECRET-2", "-H", "Private-Token: REQSECRET-3", "-H", "Cookie: a=REQSECRET-4",
		"-H", "Proxy-Authorization: Basic REQSECRET-5",
	}
	var all strings.Builder
	see := func(want int, args ...string) {
		t.Helper()
		code, stdout, stderr := command(t, args...)
		if code != want {
			t.Errorf("%q: exit code %d, want %d: %s", args, code, want, stderr)
		}
		all.WriteString("$ " + args[0] + "\n" + stdout + stderr)
		for _, secret := range []string{"RESPSECRET", "QUERYSECRET", "REQSECRET"} {
			typed := strings.Contains(strings.Join(args, " "), "?access_token=QUERYSECRET")
			if strings.Contains(stdout+stderr, secret) && !(typed && secret == "QUERYSECRET") {
				t.Errorf("%q shows %s:\n%s", args, secret, stdout+stderr)
			}
		}
	}
	with := func(args ...string) []string { return append(args, fields...) }
	page, moved := url+"/page"+query, url+"/moved"+query
	withUser := "http://me:REQSECRET-6@" + host + "/page" + query
	for range 2 {
		see(exitDone, with("get", "-v", page)...)
		see(exitDone, with("get", "-v", moved)...)
		see(exitDone, with("get", page, moved)...)
		see(exitDone, "get", "-v", page)
		see(exitDone, "get", "-v", withUser)
		see(exitFailed, with("get", "-v", url+"/misled"+query)...)
		see(exitFailed, with("get", "-v", url+"/broken"+query)...)
		see(exitFailed, "get", url+"/nowhere"+query)
		see(exitFailed, with("get", url+"/broken"+query, url+"/misled"+query)...)
	}
	see(exitNotCached, "get", "--offline", url+"/nothing"+query)
	see(exitUsage, "get", "http://u:REQSECRET-7/x@h/"+query)
	see(exitUsage, "get", "ftp://u:REQSECRET-8@h/"+query)
	see(exitUsage, "get", "-H", "REQSECRET-9", page)
	see(exitUsage, "get", "-O", page, page+"2")
	see(exitDone, with("explain", page)...)
	see(exitDone, with("explain", moved)...)
	see(exitDone, with("explain", "--fetch", page)...)
	see(exitFailed, with("explain", "--fetch", url+"/broken"+query)...)
	see(exitDone, "explain", withUser)
	see(exitDone, with("show", page)...)
	see(exitDone, "show", withUser)
	see(exitNotCached, with("show", url+"/nothing"+query)...)
	see(exitDone, "ls")
	see(exitDone, "ls", "--json")
	see(exitDone, "stats")
	see(exitDone, "stats", "--json")
	see(exitDone, "purge", "--dry-run", page)
	see(exitDone, "verify")

	for _, want := range []string{
		"> Authorization: (not shown)\n", "> Proxy-Authorization: Basic (not shown)\n", "> X-Api-Key: (not shown)\n",
		"> GET " + page + "\n", "/page?access_token=xxxxx\n", "< Link: <https://h/next?access_token=xxxxx>; rel=next\n",
		"X-Auth-Token: (not shown)\n", "= Location: /page?token=xxxxx\n", "Content-Location: http://h/#xxxxx\n",
	} {
		if !strings.Contains(all.String(), want) {
			t.Errorf("never shown: %q", want)
		}
	}
	if !regexp.MustCompile(`selected by .*X-Api-Key: [0-9a-f]{32}`).MatchString(all.String()) {
		t.Errorf("variants are not told apart:\n%s", all.String())
	}
	// The URL and the origin's fields are stored, because they must be served
	// again. The client's secrets are not stored.
	checkSecret(t, "REQSECRET")

	// With --show-query, queries are shown, and no other secret.
	for _, args := range [][]string{with("get", "-v", "--refresh", "--show-query", page), with("explain", "--show-query", page), with("show", "--show-query", page)} {
		_, stdout, stderr := command(t, args...)
		if seen := stdout + stderr; !strings.Contains(seen, query) || strings.Contains(seen, "RESPSECRET-3") || strings.Contains(seen, "REQSECRET") {
			t.Errorf("%q: %s", args, seen)
		}
	}
}
