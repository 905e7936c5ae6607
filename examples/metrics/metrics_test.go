package metrics

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// TestScrape reads the counters as Prometheus does.
func TestScrape(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", map[string]string{"/a": "max-age=60", "/b": "no-cache"}[r.URL.Path])
		w.Header().Set("Etag", `"1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, "hello")
	}))
	defer origin.Close()
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	defer cache.Close()
	registry := prometheus.NewRegistry()
	Register(registry, cache)
	metrics := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer metrics.Close()

	check := func(want map[string]string) {
		t.Helper()
		got := map[string]string{}
		for line := range strings.Lines(get(t, http.DefaultClient, metrics.URL)) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "cachetrip_") {
				got[name] = value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("scraped (-want +got):\n%s", diff)
		}
	}
	check(map[string]string{
		"cachetrip_requests_total": "0", "cachetrip_hits_total": "0", "cachetrip_revalidations_total": "0",
		"cachetrip_misses_total": "0", "cachetrip_store_errors_total": "0",
	})
	for _, path := range []string{"/a", "/a", "/a", "/b", "/b"} {
		get(t, cache.Client(), origin.URL+path)
	}
	check(map[string]string{
		"cachetrip_requests_total": "5", "cachetrip_hits_total": "2", "cachetrip_revalidations_total": "1",
		"cachetrip_misses_total": "2", "cachetrip_store_errors_total": "0",
	})
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestPage tests that the code in the documentation is that of Register.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/seeing-inside.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(flush(string(source)), "*cachetrip.Transport) {\n")
	body = strings.TrimSuffix(body, "}\n")
	if !strings.Contains(flush(string(page)), "```go\n"+body+"```\n") {
		t.Error("docs/seeing-inside.md has other code than Register")
	}
}

// flush removes the indentation of all lines.
func flush(code string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(code, "\r\n", "\n")) {
		b.WriteString(strings.TrimLeft(line, " \t"))
	}
	return b.String()
}
