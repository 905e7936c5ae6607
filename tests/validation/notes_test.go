package validation_test

import (
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

var storeOptions store.DiskOptions

// notes returns the notes in the store.
func notes(w *harness.World) (found []*store.Entry) {
	w.Helper()
	for e, err := range w.Store.All(w.Context(), "") {
		if err != nil {
			w.Fatal(err)
		}
		if e.IsNote() {
			found = append(found, e)
		}
	}
	return found
}

// removeNotes removes the notes from the store, as eviction may.
func removeNotes(w *harness.World) {
	w.Helper()
	list := notes(w)
	if len(list) == 0 {
		w.Fatal("there are no notes")
	}
	for _, e := range list {
		if err := w.Store.Update(w.Context(), e.Key, func([]*store.Entry) []*store.Entry { return nil }); err != nil {
			w.Fatal(err)
		}
	}
}
