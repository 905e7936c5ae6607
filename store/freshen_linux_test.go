package store

import (
	"os"
	"runtime"
	"testing"
	"time"
	"weak"
)

// TestFreshen makes changes that need no lock, and changes that do.
func TestFreshen(t *testing.T) {
	later := func(e *Entry) { e.ResponseTime = e.ResponseTime.Add(time.Minute) }
	tests := []struct {
		name   string
		before func(*Disk)
		change func(*Entry)
		want   bool
	}{
		{name: "newer", change: later, want: true},
		{name: "a newer field", change: func(e *Entry) { later(e); e.Header["X-New"] = []string{"1"} }, want: true},
		{name: "another lifetime", change: func(e *Entry) { later(e); e.Header["Cache-Control"] = []string{"max-age=1"} }},
		{name: "invalidated", change: func(e *Entry) { later(e); e.InvalidatedAt = e.ResponseTime }},
		{name: "nothing", change: func(*Entry) {}},
		{name: "closed", before: func(d *Disk) { d.Close() }, change: later},
		{name: "changes are not counted", before: func(d *Disk) { d.counts.off.Store(true); d.counts.mapping.Store(nil) }, change: later},
		{name: "not in memory", before: func(d *Disk) { d.tier.remove(testKeyOne) }, change: later},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			d := openTest(t, dir, DiskOptions{})
			mustPut(t, d, testKeyOne, pattern(1, 100))
			before := mustEntries(t, d, testKeyOne)[0]
			if test.before != nil {
				test.before(d)
			}
			fresh := before.Clone()
			test.change(fresh)
			done := d.Freshen(testKeyOne, func(current []*Entry) []*Entry {
				if test.name == "nothing" {
					return current
				}
				return []*Entry{fresh}
			})
			if done != test.want {
				t.Errorf("got %t, want %t", done, test.want)
			}
			want := before.ResponseTime
			if done {
				want = fresh.ResponseTime
			}
			other := openTest(t, dir, DiskOptions{})
			if got := mustEntries(t, other, testKeyOne)[0].ResponseTime; !got.Equal(want) {
				t.Errorf("another process reads a response of %v, want %v", got, want)
			}
		})
	}
}

// TestFreshenReleases: an entry that was read from its file, and updated since,
// is not kept in memory.
func TestFreshenReleases(t *testing.T) {
	dir := t.TempDir()
	mustPut(t, openTest(t, dir, DiskOptions{}), testKeyOne, pattern(1, 100))
	d := openTest(t, dir, DiskOptions{})
	mustPut(t, d, sameShard(testKeyOne, 2), pattern(2, 100)) // opens the directory of the shard
	if mustEntries(t, d, testKeyOne); d.tier.get(testKeyOne) == nil {
		t.Fatal("the key is not in memory")
	}
	var before weak.Pointer[Entry]
	if !d.Freshen(testKeyOne, func(current []*Entry) []*Entry {
		before = weak.Make(current[0])
		fresh := *current[0]
		fresh.Header = fresh.Header.Clone()
		fresh.ResponseTime = fresh.ResponseTime.Add(time.Minute)
		return []*Entry{&fresh}
	}) {
		t.Fatal("not updated")
	}
	runtime.GC()
	runtime.GC()
	if before.Value() != nil {
		t.Error("the updated entry keeps the earlier one in memory")
	}
	if e := mustEntries(t, d, testKeyOne)[0]; len(e.Parts) != 1 || e.Parts[0].Length != 100 {
		t.Errorf("its parts are %v", e.Parts)
	}
}

// TestFreshenGrows: a file takes further blocks without the lock. They are
// counted, and the cache stays within its limit.
func TestFreshenGrows(t *testing.T) {
	clearSlot := func(d *Disk) {
		f, err := d.usageOpen()
		if err != nil {
			t.Fatal(err)
		}
		f.WriteAt(make([]byte, usageSlot), usageHeader)
	}
	for _, test := range []struct {
		name   string
		before func(*Disk)
		grows  bool
	}{
		{"there is room", func(*Disk) {}, true},
		{"there is none", func(d *Disk) {
			d.squeezed.bytes.Store(block)
			d.squeezed.until.Store(time.Now().Add(squeezeFor / 2).UnixNano())
		}, false},
		{"the size is not known", clearSlot, false},
		{"the growth is not known", func(d *Disk) {
			d.counts.current(time.Now().UnixNano()).growth[shardOf(testKeyOne)].Store(1)
		}, false},
		{"the file was removed", func(d *Disk) { os.Remove(d.path(testKeyOne)) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := openTest(t, t.TempDir(), DiskOptions{})
			mustPut(t, d, testKeyOne, pattern(1, 100))
			mustEntries(t, d, testKeyOne)
			it := d.tier.get(testKeyOne)
			if it == nil {
				t.Skip("nothing is in the memory tier")
			}
			if l, err := d.lock(t.Context(), shardOf(testKeyOne), lockWait); err != nil {
				t.Fatal(err)
			} else {
				defer l.unlock()
			}
			sizes := func() (counted, size int64) {
				var page usagePage
				if err := d.readUsage(&page); err != nil {
					t.Fatal(err)
				}
				var st fileStat
				statFile(d.path(testKeyOne), &st)
				return page.sum(), allocated(st.size)
			}
			freshen := func() bool {
				return d.Freshen(testKeyOne, func(current []*Entry) []*Entry {
					return []*Entry{later(current[0], 1)}
				})
			}
			for _, before := sizes(); ; {
				now := d.tier.get(testKeyOne)
				if allocated(now.size+400) > before {
					break
				}
				if !freshen() {
					t.Fatal("not updated within a block")
				}
			}
			test.before(d)
			before, _ := sizes()
			done := false
			for range 4 {
				done = freshen()
			}
			counted, size := sizes()
			if done != test.grows || size > block != test.grows {
				t.Errorf("updated: %t, with a file of %d bytes; want %t", done, size, test.grows)
			}
			if test.grows && counted != size || !test.grows && counted != before {
				t.Errorf("%d bytes are counted, %d before; the file has %d", counted, before, size)
			}
		})
	}
}
