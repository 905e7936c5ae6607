package cachetrip

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/store"
)

func TestAudiencesAreRemembered(t *testing.T) {
	key, other := inflight.Key{Subject: "a"}, inflight.Key{Subject: "a", Variant: "b"}
	start := time.Now()
	for _, test := range []struct {
		name  string
		noted []audience
		key   inflight.Key
		after time.Duration
		want  audience
	}{
		{"nothing", nil, key, 0, anyone},
		{"nobody", []audience{nobody}, key, 0, nobody},
		{"only alike requests", []audience{alikesOnly}, key, 0, alikesOnly},
		{"the last one", []audience{nobody, alikesOnly}, key, 0, alikesOnly},
		{"anyone again", []audience{nobody, anyone}, key, 0, anyone},
		{"another key", []audience{nobody}, other, 0, anyone},
		{"for a while", []audience{nobody}, key, audienceTime - 1, nobody},
		{"no longer", []audience{nobody}, key, audienceTime, anyone},
	} {
		t.Run(test.name, func(t *testing.T) {
			var as audiences
			for _, who := range test.noted {
				as.note(key, who, start)
			}
			if got := as.of(test.key, start.Add(test.after)); got != test.want {
				t.Errorf("audience %v, want %v", got, test.want)
			}
			if as.of(key, start.Add(audienceTime)); len(as.byKey) != 0 {
				t.Error("an audience that is over is still remembered")
			}
		})
	}
}

func TestAudiencesAreLimited(t *testing.T) {
	var as audiences
	now := time.Now()
	for i := range 3 * maxAudiences {
		key := inflight.Key{Subject: strconv.Itoa(i)}
		if as.note(key, nobody, now); as.of(key, now) != nobody {
			t.Fatal("the last one is not remembered")
		}
		if len(as.byKey) > maxAudiences {
			t.Fatalf("%d are remembered", len(as.byKey))
		}
	}
}

// TestLongVariants: what is remembered of requests takes little memory, however
// long their fields are.
func TestLongVariants(t *testing.T) {
	cache := &Transport{Store: store.NewMemory(1 << 20)}
	defer cache.Close()
	long := strings.Repeat("bytes=0-0,", 1<<10)
	stored := []response{newResponse(&store.Entry{Header: http.Header{"Vary": {"Accept"}}})}
	seen := make(map[string]bool)
	for _, header := range []http.Header{
		{},
		{"Accept": {long + "1"}}, {"Accept": {long + "2"}},
		{"Range": {long + "1"}}, {"Range": {long + "2"}}, {"Range": {long + "2"}, "If-Range": {long}},
		{"Accept": {long + "1"}, "Range": {long + "1"}},
	} {
		req, _ := http.NewRequest(http.MethodGet, "https://example.com/", nil)
		req.Header = header
		x, _ := cache.begin(req, new(wishes))
		variant := x.sharingKey(stored).Variant
		if seen[variant] {
			t.Error("two requests that differ may wait for each other")
		}
		seen[variant] = true
		if n := max(len(variant), len(x.variant(stored))); n > maxVariant {
			t.Errorf("%d bytes, want at most %d", n, maxVariant)
		}
	}
}
