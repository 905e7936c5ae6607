package validation_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// TestCostOfNotes counts the calls of the store by a program whose origins use
// neither groups nor No-Vary-Search. The store has leases, so that a miss looks
// up again.
func TestCostOfNotes(t *testing.T) {
	s := storefault.Wrap(store.NewMemory(1 << 20))
	w := harness.NewWorld(t, func(*testing.T) (store.Store, string) { return s, "" }, harness.ServeLoopback)
	var calls []string
	s.Inject(func(c storefault.Call) error {
		calls = append(calls, string(c.Op))
		return nil
	}, storefault.Entries, storefault.Update, storefault.Create, storefault.All)
	w.Handle(harness.Tagged(`"1"`, "page", "Cache-Control", "max-age=60"))
	want := func(name, want string) {
		t.Helper()
		harness.Check(w, name, strings.Join(calls, " "), want)
		calls = nil
	}
	w.Get("/first")
	want("the first miss", "Entries Entries Entries Create Update")
	w.Get("/")
	want("a miss", "Entries Entries Create Update")
	w.Get("/")
	want("a hit", "Entries")
	w.Do(w.Request("POST", "/other"))
	want("a POST", "All Entries")
}

// TestEqualsOfAnotherProcess has another process store the first response with
// No-Vary-Search. This one finds it a while later.
func TestEqualsOfAnotherProcess(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("utm")`))
		second := &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}
		defer second.Close()
		w.Transport.Explain(w.Request("GET", "/?utm=a")) // it looks, and finds nothing
		first := w.Client.Transport
		w.Client.Transport = second
		w.WantGet(newPage, "/?utm=a")
		w.Client.Transport = first
		time.Sleep(11 * time.Second)
		w.WantGet(equalPage, "/?utm=b")
		for i := range 3 {
			w.Do(w.Request("POST", fmt.Sprint("/?utm=c", i)))
			w.WantGet(invalidPage, "/?utm=a")
		}
	})
}
