package store

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// later returns a copy of e that a 304 has freshened, n seconds later.
func later(e *Entry, n int) *Entry {
	c := e.Clone()
	c.RequestTime, c.ResponseTime = e.RequestTime.Add(time.Duration(n)*time.Second), e.ResponseTime.Add(time.Duration(n)*time.Second)
	c.Header.Set("Freshened", fmt.Sprint(n))
	return c
}

// TestFreshenings says which changes may be made without a lock.
func TestFreshenings(t *testing.T) {
	key := testKey(1)
	entry := func(id string) *Entry {
		e := testHead(key)
		e.Length, e.Parts = 5, []Part{{Length: 5, Blob: Blob{ID: id, Size: 5}}}
		return e
	}
	a, b, c := entry("a"), entry("b"), entry("c")
	bodyless := testHead(key)
	hidden := entry("h")
	hidden.Header.Del("Date")
	note := entry("n")
	note.Method = NoteMethod
	changed := func(e *Entry, change func(*Entry)) *Entry {
		e = later(e, 1)
		change(e)
		return e
	}
	at := time.Unix(1900000100, 0)
	marked := changed(a, func(e *Entry) { e.InvalidatedAt = at })
	for _, test := range []struct {
		name       string
		from, next []*Entry
		want       []int // the indexes that are replaced
	}{
		{"one of one", []*Entry{a}, []*Entry{later(a, 1)}, []int{0}},
		{"the second of three", []*Entry{a, b, c}, []*Entry{a, later(b, 1), c}, []int{1}},
		{"two of three", []*Entry{a, b, c}, []*Entry{later(a, 1), b, later(c, 1)}, []int{0, 2}},
		{"all, turned round", []*Entry{a, b}, []*Entry{later(b, 1), later(a, 1)}, []int{1, 0}},
		{"still marked as invalid", []*Entry{marked}, []*Entry{later(marked, 1)}, []int{0}},
		{"valid again", []*Entry{marked}, []*Entry{changed(marked, func(e *Entry) { e.InvalidatedAt = time.Time{} })}, []int{0}},
		{"nothing", []*Entry{a}, []*Entry{a}, nil},
		{"marked as invalid", []*Entry{a}, []*Entry{marked}, nil},
		{"marked as invalid since", []*Entry{marked}, []*Entry{changed(marked, func(e *Entry) { e.InvalidatedAt = at.Add(1) })}, nil},
		{"not newer", []*Entry{a}, []*Entry{later(a, 0)}, nil},
		{"requested earlier", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.RequestTime = a.RequestTime.Add(-1) })}, nil},
		{"no-cache", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.Header.Set("Cache-Control", "no-cache") })}, nil},
		{"expires earlier", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.Header.Set("Expires", "0") })}, nil},
		{"varies", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.Header.Set("Vary", "Cookie") })}, nil},
		{"for another request", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.Selecting = map[string]string{"Accept": "x"} })}, nil},
		{"foreign credentials", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.ForeignCredentials = true })}, nil},
		{"hidden fields", []*Entry{hidden}, []*Entry{later(hidden, 1)}, nil},
		{"other status", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.Status = 203 })}, nil},
		{"other length", []*Entry{a}, []*Entry{changed(a, func(e *Entry) { e.Length = 6 })}, nil},
		{"other body", []*Entry{a}, []*Entry{later(b, 1)}, nil},
		{"one more", []*Entry{a}, []*Entry{later(a, 1), b}, nil},
		{"one less", []*Entry{a, b}, []*Entry{later(a, 1)}, nil},
		{"one in place of another", []*Entry{a, b}, []*Entry{later(a, 1), c}, nil},
		{"others turned round", []*Entry{a, b, c}, []*Entry{later(a, 1), c, b}, nil},
		{"twice", []*Entry{a, b}, []*Entry{later(a, 1), later(a, 2)}, nil},
		{"no body", []*Entry{bodyless}, []*Entry{later(bodyless, 1)}, nil},
		{"a note", []*Entry{note}, []*Entry{later(note, 1)}, nil},
		{"new", nil, []*Entry{a}, nil},
	} {
		next, err := Arrange(key, test.from, test.next)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range freshenings(test.from, next) {
			got = append(got, r.index)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: replaces %v, want %v", test.name, got, test.want)
		}
	}
}

// states are what a key holds, in words: for each entry its body, whether it is
// valid, and how often it was freshened.
func states(es []*Entry) string {
	var words []string
	for _, e := range es {
		word := fmt.Sprintf("%d", e.Parts[0].Blob.Inline[0])
		if !e.InvalidatedAt.IsZero() {
			word += " invalid"
		}
		words = append(words, word+" "+e.Header.Get("Freshened"))
	}
	return strings.Join(words, ", ")
}

// TestFreshenedLoses: a freshened record that is appended after another change,
// or before it, never undoes that change.
func TestFreshenedLoses(t *testing.T) {
	key := testKey(1)
	update := func(d *Disk, change func([]*Entry) []*Entry) {
		t.Helper()
		if err := d.Update(t.Context(), key, change); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []struct {
		name   string
		change func(d *Disk)
		before string // what the key holds if the change comes before the record
		late   string // and if the record is appended nevertheless
		after  string // and if the change is appended after the record, but does not know it; | means or
	}{
		{"nothing", func(*Disk) {}, "1 9", "1 9", "1 9"},
		{"invalidation", func(d *Disk) {
			update(d, func(es []*Entry) []*Entry {
				e := es[0].Clone()
				e.InvalidatedAt = time.Now()
				return []*Entry{e}
			})
		}, "1 invalid ", "1 invalid ", "1 invalid "},
		{"new response", func(d *Disk) { mustPut(t, d, key, pattern(2, 100)) }, "2 ", "2 ", "2 "},
		{"new variant", func(d *Disk) {
			update(d, func(es []*Entry) []*Entry {
				e := es[0].Clone()
				e.Selecting = map[string]string{"Accept": "text/html"}
				return []*Entry{e, es[0]}
			})
		}, "1 , 1 ", "1 , 1 ", "1 , 1 "},
		{"purge", func(d *Disk) { update(d, func([]*Entry) []*Entry { return nil }) }, "", "", ""},
		{"purge and new response", func(d *Disk) {
			update(d, func([]*Entry) []*Entry { return nil })
			mustPut(t, d, key, pattern(3, 100))
		}, "3 ", "3 ", "3 "},
		{"rewriting", func(d *Disk) {
			l, err := d.lock(t.Context(), shardOf(key), lockWait)
			if err != nil {
				t.Fatal(err)
			}
			defer l.unlock()
			st, _, err := l.load(key)
			if err != nil {
				t.Fatal(err)
			}
			st.damaged = true // forces it
			if _, err := l.write(key, st, st.entries, new(usagePage), anyRoom); err != nil {
				t.Fatal(err)
			}
		}, "1 ", "1 |1 9", "1 |1 9"}, // the record counts if the entries were encoded in the same order
		{"eviction", func(d *Disk) {
			if err := d.EvictTo(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}, "", "", ""},
		{"freshening", func(d *Disk) {
			update(d, func(es []*Entry) []*Entry { return []*Entry{later(es[0], 5)} })
		}, "1 5", "1 5", "1 5"},
	} {
		for _, order := range []string{"before", "late", "after"} {
			dir := t.TempDir()
			a, b := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
			mustPut(t, a, key, pattern(1, 100))
			mustEntries(t, a, key)
			it := a.tier.get(key)
			if it == nil {
				t.Skip("nothing is in the memory tier")
			}
			if order == "before" && a.dirs.get(shardOf(key)) == nil {
				continue // no directory is kept open here: each 304 takes the lock
			}
			next := []*Entry{later(it.entries[0], 9)}
			fresh := freshenings(it.entries, next)
			payload, err := new(encodeBuffers).encodeFresh(it.tip, fresh)
			if err != nil {
				t.Fatal(err)
			}
			record := appendRecord(nil, recordFresh, payload)
			whole, err := os.ReadFile(a.path(key))
			if err != nil {
				t.Fatal(err)
			}
			other.change(b)
			changed, err := os.ReadFile(a.path(key))
			want := other.before
			switch {
			case order == "before": // the change is noticed
				if won := a.freshen(it, next, fresh); won != (other.name == "nothing") {
					t.Errorf("%s %s: freshened: %v", other.name, order, won)
				}
			case err != nil: // there is no file to append to
			case order == "late": // it came after the last look at the file
				want = other.late
				os.WriteFile(a.path(key), append(changed, record...), 0o600)
			case strings.HasPrefix(string(changed), string(whole)): // the record comes between
				want = other.after
				os.WriteFile(a.path(key), slices.Concat(whole, record, changed[len(whole):]), 0o600)
			}
			a.counts.begin(key).end() // as if the store had written it
			time.Sleep(lookEvery)     // until what was written by hand is seen
			for _, d := range []*Disk{openTest(t, dir, DiskOptions{}), a, b} {
				if got := states(mustEntries(t, d, key)); !slices.Contains(strings.Split(want, "|"), got) {
					t.Errorf("%s %s: the key holds %q, want %q", other.name, order, got, want)
				}
			}
		}
	}
}

// TestFreshenUnlocked: a 304 needs no lock. It is stored while another process,
// which may be stopped, holds the lock of the shard.
func TestFreshenUnlocked(t *testing.T) {
	dir := t.TempDir()
	a, b := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, a, key, pattern(1, 100))
	mustEntries(t, a, key)
	if a.tier.get(key) == nil || a.dirs.get(shardOf(key)) == nil {
		t.Skip("no directory is kept open here")
	}
	l, err := b.lock(t.Context(), shardOf(key), lockWait)
	if err != nil {
		t.Fatal(err)
	}
	defer l.unlock()
	for i := range 3 {
		if err := a.Update(t.Context(), key, func(es []*Entry) []*Entry { return []*Entry{later(es[0], i+1)} }); err != nil {
			t.Fatal(err)
		}
		if got, want := states(mustEntries(t, b, key)), fmt.Sprint("1 ", i+1); got != want {
			t.Errorf("the key holds %q, want %q", got, want)
		}
	}
}

// TestFreshenedFormat: records are applied one after the other to any entries
// of a key, and what was made from another record is ignored.
func TestFreshenedFormat(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	key := testKey(1)
	for i := range 3 {
		mustAdd(t, d, key, pattern(byte(i+1), 100))
	}
	change := func(want string, freshen ...int) {
		t.Helper()
		var made []*Entry
		size := func() int64 { var st fileStat; statFile(d.path(key), &st); return st.size }
		before := size()
		if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
			current := slices.Clone(es)
			for i, n := range freshen {
				if n > 0 {
					es[i] = later(es[i], n)
				}
			}
			made, _ = Arrange(key, current, es)
			return es
		}); err != nil {
			t.Fatal(err)
		}
		if grown := size() - before; grown <= 0 || grown > 1500 {
			t.Errorf("%d bytes appended", grown)
		}
		st, _, err := d.load(key)
		if got := states(st.entries); got != want || err != nil || st.damaged {
			t.Errorf("the file holds %q, %v, want %q", got, err, want)
		}
		if diff := cmp.Diff(made, st.entries); diff != "" {
			t.Errorf("what was stored (-) is not what is read (+):\n%s", diff)
		}
		if it := d.tier.get(key); it != nil && (it.tip != st.tip || it.live != st.live || it.size != st.size) {
			t.Errorf("the memory tier has %+v, the file %+v", it.keyState, st)
		}
	}
	change("2 1, 3 , 1 ", 0, 1, 0)
	change("1 1, 2 1, 3 ", 0, 0, 1)
	change("1 3, 3 2, 2 1", 3, 0, 2)
	change("1 4, 3 4, 2 4", 4, 4, 4)
}

// mustAdd adds an entry with a small body to a key.
func mustAdd(t *testing.T, d *Disk, key string, body []byte) {
	t.Helper()
	draft, err := d.Create(t.Context(), key, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	if _, err := draft.Write(body); err != nil {
		t.Fatal(err)
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatal(err)
	}
	e := testHead(key)
	e.Length, e.Parts = blob.Size, []Part{{Length: blob.Size, Blob: blob}}
	if err := d.Update(context.Background(), key, func(es []*Entry) []*Entry { return append(es, e) }); err != nil {
		t.Fatal(err)
	}
}
