package users_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// No secret rests: not in a file or its name, a log, a Cache-Status field or a
// listing.

// spellings returns how a secret could be written.
func spellings(secret string) []string {
	all := []string{
		secret,
		hex.EncodeToString([]byte(secret)),
		url.QueryEscape(secret),
		url.PathEscape(secret),
		strings.TrimPrefix(url.UserPassword("", secret).String(), ":"),
	}
	// If a text that contains a secret is encoded in Base 64, the middle of the
	// secret shows in one of three forms.
	for skip := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", skip) + secret))
		all = append(all, coded[4:len(coded)-4])
	}
	return all
}

// spelt returns a search for secrets in any spelling.
func spelt(secrets []string) harness.Search {
	s := make(harness.Search)
	for _, secret := range secrets {
		for _, spelling := range spellings(secret) {
			s.Add(spelling, secret)
		}
	}
	return s
}

// contains reports whether a text has a secret in any spelling.
func contains(text, secret string) bool { return spelt([]string{secret}).In(text) != nil }

func TestSpellings(t *testing.T) {
	const secret = "a secret/that+is:spelt"
	for _, text := range []string{
		secret, base64.StdEncoding.EncodeToString([]byte("user:" + secret)), base64.StdEncoding.EncodeToString([]byte("me:" + secret)),
		base64.StdEncoding.EncodeToString([]byte("someone:" + secret + ":x")), "https://" + url.UserPassword("u", secret).String() + "@h/", fmt.Sprintf("%x", secret),
		"/?q=" + url.QueryEscape(secret),
	} {
		if !contains("before "+text+" after", secret) {
			t.Errorf("not found in %s", text)
		}
	}
	if contains("a secret/that-is:spelt otherwise", secret) {
		t.Error("found what is not there")
	}
}

// secretSession uses a secret in every place that can hold one, and returns all
// secrets. Secrets in queries are separate, because a URL is stored with its
// query.
func secretSession(w *harness.World) (secrets, queries []string) {
	made := 0
	secret := func(what string) string {
		made++
		s := fmt.Sprintf("%s-secret-%04d+/=", what, made)
		secrets = append(secrets, s)
		return s
	}
	for i, vary := range []string{
		"", "Authorization", "Cookie", "Proxy-Authorization, X-Api-Key", "X-Auth-Token, Private-Token, X-Session", "Referer, X-Jwt, Dpop, X-Otp, X-Passwd, X-Sid, X-Original-Url, X-Shopify-Hmac-Sha256", "authorization,COOKIE , x-amz-security-token", "*",
	} {
		for j, size := range []int{10, 100_000} {
			for _, control := range []string{"max-age=60", []string{"no-cache", "max-age=0, stale-while-revalidate=60", "no-store"}[(i+j)%3]} {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if vary != "" {
						rw.Header().Set("Vary", vary)
					}
					rw.Header().Set("Cache-Control", control)
					harness.Tagged(`"1"`, strings.Repeat("x", size))(rw, r)
				})
				query := fmt.Sprintf("token-in-a-query-%04d", made)
				queries = append(queries, query)
				path := fmt.Sprintf("/%d?access_token=%s", made, query)
				for _, fields := range [][]string{
					{"Authorization", "Bearer " + secret("bearer")},
					{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+secret("password")))},
					{"Cookie", "session=" + strings.Trim(secret("cookie"), "+/=")},
					{"Proxy-Authorization", "Bearer " + secret("proxy")},
					{"Referer", secret("referer"), "X-Jwt", secret("jwt"), "Dpop", secret("dpop"), "X-Otp", secret("otp"), "X-Passwd", secret("passwd"), "X-Sid", secret("sid"), "X-Original-Url", secret("original"), "X-Shopify-Hmac-Sha256", secret("hmac")},
					{"X-Api-Key", secret("key"), "X-Auth-Token", secret("token"), "Private-Token", secret("private"), "X-Session", secret("session"), "X-Amz-Security-Token", secret("amz")},
				} {
					for range 2 {
						w.Get(path, fields...)
					}
				}
				req := w.Request("GET", path)
				req.URL.User = url.UserPassword("user", secret("userinfo"))
				w.Do(req)
				opaque := w.Request("GET", path)
				opaque.URL.Opaque = "//" + url.UserPassword("user", secret("opaque")).String() + "@" + opaque.URL.Host + "/opaque"
				w.Do(opaque)
				w.Do(w.Request("POST", path, "Authorization", "Bearer "+secret("post")))
				w.Do(w.Request("HEAD", path, "Authorization", "Bearer "+secret("head")))
				// Failures are logged, too.
				broken := w.Request("GET", path, "Authorization", "Bearer "+secret("cancelled"))
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if _, err := w.Try(broken.WithContext(ctx)); err == nil {
					w.Error("no error for what was cancelled")
				}
			}
		}
	}
	return secrets, queries
}

func TestNoSecretRests(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		var log harness.LockedBuffer
		w.Transport.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 8, AddSource: true}))
		var statuses strings.Builder
		base := w.Client.Transport
		w.Client.Transport = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				fmt.Fprintln(&statuses, resp.Header["Cache-Status"], resp.Header["X-From-Cache"], resp.Header["Age"])
			}
			return resp, err
		})
		secrets, queries := secretSession(w)
		if err := w.Transport.Close(); err != nil {
			t.Error(err)
		}
		var stored strings.Builder
		entries := 0
		for e, err := range w.Store.All(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			entries++
			listed := *e
			listed.Parts = nil
			fmt.Fprintf(&stored, "%+v\n", listed)
		}
		if entries < 50 || log.Len() == 0 || statuses.Len() == 0 {
			t.Fatalf("%d entries, %d bytes of log, %d of statuses: nothing to search", entries, log.Len(), statuses.Len())
		}
		for what, text := range map[string]string{"log": log.String(), "status": statuses.String(), "listing": stored.String()} {
			for _, secret := range spelt(secrets).In(text) {
				t.Errorf("%q is in the %s", secret, what)
			}
			if what == "listing" {
				continue
			}
			for _, query := range spelt(queries).In(text) {
				t.Errorf("%q, a query, is in the %s", query, what)
			}
		}
		if w.Dir != "" {
			searchDirectory(t, w.Dir, secrets)
		}
	})
}

// searchDirectory searches all files of a directory, and their names, for
// secrets.
func searchDirectory(t *testing.T, dir string, secrets []string) {
	t.Helper()
	var all bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s\n%s\n", path, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range spelt(secrets).In(all.String()) {
		t.Errorf("%q is in the directory", secret)
	}
}

// The digests of secrets are keyed. The same secret has another digest in
// another directory, and only its owner can read the file with the key.
func TestDigestsAreKeyed(t *testing.T) {
	keys := make(map[string]bool)
	for range 2 {
		w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
		w.URL = "http://example.test"
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Request: req, Header: http.Header{"Cache-Control": {"max-age=60"}, "Vary": {"Cookie"}}, Body: http.NoBody}, nil
		})
		w.Get("/", "Authorization", "Bearer the-very-same-token", "Cookie", "a=the-very-same-cookie")
		for e, err := range w.Store.All(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			for _, digest := range []string{e.Key[:32], e.Key[32:], e.Selecting["Cookie"]} {
				if len(digest) != 32 || keys[digest] {
					t.Errorf("the digest %q is not another one", digest)
				}
				keys[digest] = true
			}
		}
		found := false
		err := filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "secret" {
				return err
			}
			found = true
			info, err := d.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
				t.Errorf("%s has the mode %v", path, info.Mode())
			}
			return err
		})
		if err != nil || !found {
			t.Errorf("no secret in %s: %v", w.Dir, err)
		}
	}
	if len(keys) != 6 {
		t.Errorf("%d digests, want 6", len(keys))
	}
}

// Only the caller whose request reached the origin gets Set-Cookie, unless
// KeepSetCookie is set. The cookies are not on disk then.
func TestKeepSetCookie(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep ", keep), func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.KeepSetCookie = keep
				n := 0
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					n++
					harness.Tagged(`"1"`, strings.Repeat("x", 200), "Cache-Control", "max-age=60", "Set-Cookie", fmt.Sprintf("session=cookie-number-%04d", n), "Accept-Ranges", "bytes")(rw, r)
				})
				cookies := func(fields ...string) string {
					return strings.Join(w.Get("/", fields...).Header["Set-Cookie"], "; ")
				}
				again := func(n int) string {
					if !keep {
						return ""
					}
					return fmt.Sprintf("session=cookie-number-%04d", n)
				}
				harness.Check(w, "a miss", cookies(), "session=cookie-number-0001")
				harness.Check(w, "a hit", cookies(), again(1))
				harness.Check(w, "a part", cookies("Range", "bytes=0-1"), again(1))
				harness.Check(w, "a revalidation", cookies("Cache-Control", "no-cache"), "session=cookie-number-0002")
				harness.Check(w, "a hit after that", cookies(), again(2))
				w.Do(w.Request("HEAD", "/", "Cache-Control", "no-cache"))
				harness.Check(w, "a hit after a HEAD", cookies(), again(3))
				if err := w.Transport.Purge(t.Context(), w.URL+"/"); err != nil {
					t.Error(err)
				}
				harness.Check(w, "a part only", cookies("Range", "bytes=0-9"), "session=cookie-number-0004")
				harness.Check(w, "the rest of it", cookies(), "session=cookie-number-0005")
				harness.Check(w, "a hit after both", cookies(), again(5))

				// A Set-Cookie that was stored with the option, or by an older
				// version, is not served without the option.
				other := &http.Client{Transport: &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}}
				resp, err := other.Get(w.URL + "/")
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				harness.Check(w, "with the option not set any more", resp.Header["Set-Cookie"], []string(nil))

				var secrets []string
				w.TakeDown() // what the cache has is all there is
				for range 2 {
					harness.Check(w, "with the origin down", cookies(), again(5))
				}
				for i := range 6 {
					secrets = append(secrets, fmt.Sprintf("cookie-number-%04d", i))
				}
				if w.Dir != "" && !keep {
					searchDirectory(t, w.Dir, secrets)
				}
			})
		})
	}
}
