package validation_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
)

// hidden returns a text in a form that shows nothing of it, and back.
func hidden(text string) string {
	b := []byte(text)
	for i := range b {
		b[i] ^= 0x15
	}
	return string(b)
}

// heapWith reports whether the live heap of this process contains a text that
// is given hidden.
func heapWith(t *testing.T, hide string) bool {
	t.Helper()
	runtime.GC()
	runtime.GC() // what the first has found dead has no finalizer any more
	f, err := os.Create(filepath.Join(t.TempDir(), "heap"))
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name()) // the search may take many of them
	defer f.Close()
	debug.WriteHeapDump(f.Fd())
	dump, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	// The dump is hidden rather than the text shown, because the text would stay
	// on the stack, and the next dump would have it.
	for i := range dump {
		dump[i] ^= 0x15
	}
	return bytes.Contains(dump, []byte(hide))
}

// TestNoSecretStaysInMemory makes requests with credentials and with names of
// identities, drops them, and searches the heap for both.
func TestNoSecretStaysInMemory(t *testing.T) {
	secret := strings.Repeat("\x46\x70\x76\x67\x70\x61\x38", 4) // "Secret-", hidden
	name := strings.Repeat("\x5b\x74\x78\x70\x38", 5)           // "Name-", hidden
	const urls = 50
	harness.EachWorld(t, func(w *harness.World) {
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) { // keeps no buffers
			control := "max-age=60"
			switch req.URL.Query().Get("kind") {
			case "stale":
				control = "max-age=0, stale-while-revalidate=60"
			case "private":
				control = "no-store"
			}
			h := http.Header{"Cache-Control": {control}, "Vary": {"Cookie, X-Api-Key"}, "Etag": {`"1"`}}
			return &http.Response{StatusCode: 200, Header: h, ContentLength: 4, Body: io.NopCloser(strings.NewReader("body")), Request: req}, nil
		})
		for _, named := range []bool{false, true} {
			w.Transport.Identity = nil
			if named {
				w.Transport.Identity = func(*http.Request) string { return hidden(name) }
			}
			done := make(chan error)
			go func() { // whose stack ends with it
				done <- func() error {
					for i := range urls {
						for _, kind := range []string{"fresh", "stale", "private"} {
							for range 2 {
								req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("%s/%d?kind=%s&named=%t", w.URL, i, kind, named), nil)
								if err != nil {
									return err
								}
								for _, field := range []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key"} {
									req.Header.Set(field, hidden(secret)+field)
								}
								resp, err := w.Transport.RoundTrip(req)
								if err != nil {
									return err
								}
								if _, err := io.Copy(io.Discard, resp.Body); err != nil {
									return err
								}
								resp.Body.Close()
							}
						}
						if err := w.Transport.Invalidate(t.Context(), fmt.Sprintf("%s/%d?kind=fresh&named=%t", w.URL, i, named)); err != nil {
							return err
						}
					}
					return nil
				}()
			}()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			for what, text := range map[string]string{"credentials": secret, "the name of an identity": name} {
				// Revalidations in the background may not have ended.
				for end := time.Now().Add(time.Minute); heapWith(t, text); time.Sleep(20 * time.Millisecond) {
					if time.Now().After(end) {
						t.Errorf("named %t: %s are still in memory", named, what)
						break
					}
				}
			}
		}
		kept := hidden(secret) // what stays is found
		if !heapWith(t, secret) {
			t.Error("the search does not find what is there")
		}
		runtime.KeepAlive(kept)
	})
}
