package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestHitsDoNotWait: a look-up finds what is stored while all locks that guard
// the memory of a store are held. With many goroutines on few cores, one that
// waits for such a lock gets its turn only after milliseconds.
func TestHitsDoNotWait(t *testing.T) {
	m, d := NewMemory(0), openTest(t, t.TempDir(), DiskOptions{})
	kept, read := testKey(1), testKey(2) // read is not in memory any more
	mustPut(t, m, kept, pattern(1, 1000))
	for i := range 16 {
		mustPut(t, m, testKey(10+i), pattern(1, 1000)) // so that a use of kept moves it
	}
	for _, key := range []string{kept, read} {
		mustPut(t, d, key, pattern(1, 1000))
		mustEntries(t, d, key)
	}
	d.tier.remove(read)
	d.counts.suspect()

	m.mu.Lock()
	d.counts.mu.Lock()
	for i := range d.tier.parts {
		d.tier.parts[i].mu.Lock()
	}
	d.tier.large.mu.Lock()
	for _, test := range []struct {
		name string
		s    Store
		key  string
	}{{"memory", m, kept}, {"disk", d, kept}, {"disk, read again", d, read}} {
		found := make(chan int, 1)
		go func() {
			entries, err := test.s.Entries(t.Context(), test.key)
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			found <- len(entries)
		}()
		select {
		case n := <-found:
			if n != 1 {
				t.Errorf("%s: %d entries, want 1", test.name, n)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: a hit waits for a lock", test.name)
		}
	}
	m.mu.Unlock()
	d.counts.mu.Unlock()
	for i := range d.tier.parts {
		d.tier.parts[i].mu.Unlock()
	}
	d.tier.large.mu.Unlock()
	mustEntries(t, d, read)
	if d.tier.get(read) == nil {
		t.Error("what a reader had to read again is not kept once nobody holds the lock")
	}
}

// TestAppendEntries: a look-up appends the entries that it finds to the slice,
// without an allocation if there is room. With an error, the slice stays as it
// was.
func TestAppendEntries(t *testing.T) {
	type appender interface {
		Store
		AppendEntries(ctx context.Context, dst []*Entry, key string) ([]*Entry, error)
	}
	for name, s := range map[string]appender{"memory": NewMemory(0), "disk": openTest(t, t.TempDir(), DiskOptions{})} {
		t.Run(name, func(t *testing.T) {
			ctx, key, before := t.Context(), testKey(1), &Entry{}
			mustPut(t, s, key, pattern(1, 1000))
			want := append([]*Entry{before}, mustEntries(t, s, key)...)
			room := append(make([]*Entry, 0, 2), before)
			got, err := s.AppendEntries(ctx, room, key)
			if diff := cmp.Diff(want, got); err != nil || diff != "" || &got[0] != &room[0] {
				t.Errorf("%v, (-want +got):\n%s", err, diff)
			}
			d, _ := s.(*Disk)
			mapped := d == nil || d.counts.mapping.Load() != nil // otherwise the system is asked each time
			if n := testing.AllocsPerRun(100, func() { s.AppendEntries(ctx, room, key) }); n != 0 && mapped {
				t.Errorf("a look-up allocates %v times", n)
			}
			for key, fails := range map[string]bool{testKey(2): false, key[1:]: true} {
				if got, err := s.AppendEntries(ctx, room, key); (err != nil) != fails || len(got) != 1 || got[0] != before {
					t.Errorf("%s: got %v, %v", key, got, err)
				}
			}
		})
	}
}
