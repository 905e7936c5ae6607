package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// mustTrust has d keep the entries of a key as they are now, and returns their
// item.
func mustTrust(t *testing.T, d *Disk, key string) *tierItem {
	t.Helper()
	if !mappable(d.root) {
		t.Skip("files cannot be mapped on this file system")
	}
	var it *tierItem
	if !eventually(func() bool { // the file's times are beyond doubt
		mustEntries(t, d, key)
		mustEntries(t, d, key)
		it = d.tier.get(key)
		return it != nil && it.count.Load() != 0 && it.count.Load() == d.counts.value(it.counter, time.Now().UnixNano())
	}) {
		t.Fatal("the counter of the key is not known")
	}
	return it
}

// freshen gives the entries of a key a status, as a 304 changes metadata.
func freshen(d *Disk, key string, status int) error {
	return d.Update(noContext, key, func(es []*Entry) []*Entry {
		for i, e := range es {
			es[i] = e.Clone()
			es[i].Status = status
		}
		return es
	})
}

// keyWriters are all ways in which a Disk changes the file of a key, which has
// one entry with status 200. They return the status that it has then, or how
// often it was freshened. 0 means that it is gone.
var keyWriters = map[string]func(t *testing.T, d *Disk, key string) int{
	"append under the lock": func(t *testing.T, d *Disk, key string) int {
		if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry {
			e := es[0].Clone()
			e.Status, e.InvalidatedAt = 203, time.Now()
			return []*Entry{e}
		}); err != nil {
			t.Fatal(err)
		}
		return 203
	},
	"append without the lock": func(t *testing.T, d *Disk, key string) int {
		l, err := d.lock(t.Context(), shardOf(key), lockWait)
		if err != nil {
			t.Fatal(err)
		}
		defer l.unlock()
		if err := d.Update(t.Context(), key, func(es []*Entry) []*Entry { return []*Entry{later(es[0], 9)} }); err != nil {
			t.Fatal(err)
		}
		return 9
	},
	"write anew": func(t *testing.T, d *Disk, key string) int {
		for i := range 40 { // more than fit into one file
			if err := freshen(d, key, 300+i); err != nil {
				t.Fatal(err)
			}
		}
		return 339
	},
	"a large body": func(t *testing.T, d *Disk, key string) int {
		mustPut(t, d, key, pattern(2, 100_000))
		if err := freshen(d, key, 204); err != nil {
			t.Fatal(err)
		}
		return 204
	},
	"remove and create": func(t *testing.T, d *Disk, key string) int {
		d.Update(t.Context(), key, func([]*Entry) []*Entry { return nil })
		mustPut(t, d, key, pattern(2, 100))
		freshen(d, key, 205)
		return 205
	},
	"remove": func(t *testing.T, d *Disk, key string) int {
		d.Update(t.Context(), key, func([]*Entry) []*Entry { return nil })
		return 0
	},
	"Purge": func(t *testing.T, d *Disk, key string) int {
		if n, err := d.Purge(t.Context(), key[:8], func(*Entry) bool { return true }); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		return 0
	},
	"evict": func(t *testing.T, d *Disk, _ string) int {
		if err := d.EvictTo(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		return 0
	},
	"Clear": func(t *testing.T, d *Disk, _ string) int {
		if err := d.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		return 0
	},
	"discard damage": func(t *testing.T, d *Disk, key string) int {
		os.Truncate(d.path(key), 100)
		d.tier.remove(key)
		mustEntries(t, d, key)
		return 0
	},
	"Verify damage": func(t *testing.T, d *Disk, key string) int {
		os.Truncate(d.path(key), 100)
		if r, err := d.Verify(t.Context()); r.Damaged != 1 || err != nil {
			t.Fatal(r, err)
		}
		return 0
	},
	"retract": func(t *testing.T, d *Disk, key string) int {
		d.retract(t.Context(), key, func([]*Entry) []*Entry { return nil })
		return 0
	},
	"retract without the lock": func(t *testing.T, d *Disk, key string) int {
		l, err := d.lock(t.Context(), shardOf(key), lockWait)
		if err != nil {
			t.Fatal(err)
		}
		defer l.unlock()
		d.retract(t.Context(), key, func([]*Entry) []*Entry { return nil })
		return 0
	},
}

// Each change that one Disk makes to the file of a key is seen by the next
// look-up of another Disk, even if that one trusts the counters for long.
func TestCountersTellOfEveryWriter(t *testing.T) {
	for name, write := range keyWriters {
		for _, mapped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, mapped %v", name, mapped), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
				key := testKey(1)
				mustPut(t, other, key, pattern(1, 1000))
				it := mustTrust(t, d, key)
				if !mapped { // as if this process could not
					other.counts.mapping.Store(nil)
					other.counts.checked.Store(time.Now().UnixNano())
				}
				want := write(t, other, key)
				if it.count.Load() == d.counts.value(it.counter, time.Now().UnixNano()) {
					t.Error("the change was not counted")
				}
				checkStatus(t, d, key, want)
				checkStatus(t, other, key, want)
			})
		}
	}
}

// checkStatus checks that a key has one entry with a status, or freshened so
// often. 0 means none.
func checkStatus(t *testing.T, d *Disk, key string, want int) {
	t.Helper()
	es := mustEntries(t, d, key)
	switch {
	case want == 0 && len(es) != 0:
		t.Errorf("there are %d entries, want none", len(es))
	case want != 0 && (len(es) != 1 || es[0].Status != want && es[0].Header.Get("Freshened") != fmt.Sprint(want)):
		t.Errorf("%d entries, or not the last status, want one with %d", len(es), want)
	}
}

// A look-up asks the system only from time to time.
func TestCountersSaveTheStat(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 1000))
	it := mustTrust(t, d, key)
	now := it.looked.Load() + 1
	d.counts.checked.Store(now)
	if err := os.RemoveAll(d.dir); err != nil {
		t.Fatal(err)
	}
	if same, err := d.unchanged(it, now); !same || err != nil {
		t.Errorf("right after a look: unchanged %v, %v, want what was seen", same, err)
	}
	if same, _ := d.unchanged(it, now+int64(lookEvery)); same {
		t.Error("a key is not looked at any more")
	}
}

// An addition that another one interrupted says nothing about the file.
func TestCountersOfTwoWriters(t *testing.T) {
	dir := t.TempDir()
	d, other := openTest(t, dir, DiskOptions{}), openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 1000))
	mustTrust(t, d, key)
	if v := d.counts.begin(key).end(); v == 0 || v != d.counts.value(counterOf(key), time.Now().UnixNano()) {
		t.Errorf("a change alone ends with %d", v)
	}
	first, second := d.counts.begin(key), other.counts.begin(key)
	if a, b := first.end(), second.end(); a != 0 || b != 0 {
		t.Errorf("two changes at once end with %d and %d, want 0", a, b)
	}
	if v := d.counts.begin("not a key").end(); v != 0 {
		t.Errorf("a file that is not that of a key is counted: %d", v)
	}
}

func init() { children["freshen"] = childFreshen }

// childFreshen gives a key the status that each line of its input says, and
// repeats the line when that is done.
func childFreshen(dir string) error {
	d, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var status int
		fmt.Sscan(lines.Text(), &status)
		if err := freshen(d, testKey(1), status); err != nil {
			return err
		}
		fmt.Println(status)
	}
	return nil
}

// A look-up sees the change of another process as soon as that process says
// that the change is made.
func TestCountersBetweenProcesses(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	key := testKey(1)
	mustPut(t, d, key, pattern(1, 1000))
	c := child("freshen", dir)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	replies := bufio.NewReader(out)
	uncounted := 0
	for status := 201; status < 500; status++ {
		it := mustTrust(t, d, key)
		fmt.Fprintln(in, status)
		if line, err := replies.ReadString('\n'); err != nil || strings.TrimSpace(line) != fmt.Sprint(status) {
			t.Fatalf("process: %q, %v", line, err)
		}
		if it.count.Load() == d.counts.value(it.counter, time.Now().UnixNano()) {
			uncounted++
		}
		checkStatus(t, d, key, status)
	}
	if uncounted > 0 {
		t.Errorf("%d changes were not counted", uncounted)
	}
	in.Close()
	io.Copy(io.Discard, replies)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}
