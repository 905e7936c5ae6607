package cachetrip

import (
	"strconv"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
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
