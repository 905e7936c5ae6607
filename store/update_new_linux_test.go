package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// vouched returns a Disk that does not ask for the properties of the next new
// file of a key in the shard of key.
func vouched(t *testing.T, dir, key string) *Disk {
	t.Helper()
	d := openTest(t, dir, DiskOptions{})
	mustPut(t, d, sameShard(key, 7), pattern(1, 1000))
	if !mappable(d.root) {
		t.Skip("changes are not counted here")
	}
	return d
}

// putAbsent stores a key that was looked up before.
func putAbsent(t *testing.T, d *Disk, key string) {
	t.Helper()
	if es := mustEntries(t, d, key); len(es) != 0 {
		t.Fatalf("%d entries to begin with", len(es))
	}
	d.modeChecked.Store(time.Now().UnixNano())
	mustPut(t, d, key, pattern(2, 1000))
}

// putVouched stores a key in a new cache. The properties of its file were not
// asked for. A busy machine may take so long that they are, or that they look
// like those of another file: then it uses another cache.
func putVouched(t *testing.T, key string) (*Disk, *tierItem) {
	t.Helper()
	var d *Disk
	var it *tierItem
	if !eventually(func() bool {
		d = vouched(t, t.TempDir(), key)
		putAbsent(t, d, key)
		it = d.tier.get(key)
		var st fileStat
		err := statFile(d.path(key), &st)
		return err == nil && it != nil && it.unstamped() && time.Duration(st.mtime-it.seen).Abs() < lookEvery/2
	}) {
		t.Fatal("the file was looked at, or is not in memory")
	}
	return d, it
}

// A store that has made a file, and has not asked the system for its
// properties, sees each change that is made to the file afterwards.
func TestNewFileIsVouchedFor(t *testing.T) {
	key := testKey(1)
	backup := func(t *testing.T, d *Disk) { // of the same size, and damaged
		b, err := os.ReadFile(d.path(key))
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1
		at := time.Now().Add(-time.Minute)
		temp := filepath.Join(t.TempDir(), "backup")
		if err := errors.Join(os.WriteFile(temp, b, 0o600), os.Chtimes(temp, at, at), os.Rename(temp, d.path(key))); err != nil {
			t.Fatal(err)
		}
	}
	// freshenAtOnce freshens the key before its file is looked at again. A busy
	// machine may need several attempts.
	freshenAtOnce := func(d *Disk) bool {
		return eventually(func() bool {
			d.tier.get(key).looked.Store(time.Now().UnixNano())
			return d.Freshen(key, func(es []*Entry) []*Entry { return []*Entry{later(es[0], 9)} })
		})
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, d *Disk)
		want   int // status afterwards
		same   bool
	}{
		"nothing":     {func(*testing.T, *Disk) {}, 200, true},
		"time passes": {func(*testing.T, *Disk) { time.Sleep(2 * lookEvery) }, 200, true},
		"another store freshens it": {func(t *testing.T, d *Disk) {
			if err := freshen(openTest(t, d.dir, DiskOptions{}), key, 203); err != nil {
				t.Error(err)
			}
		}, 203, false},
		"it is freshened without the lock": {func(t *testing.T, d *Disk) {
			if !d.Freshen(key, func(es []*Entry) []*Entry { return []*Entry{later(es[0], 9)} }) {
				t.Error("it is not freshened without the lock")
			}
			time.Sleep(2 * lookEvery)
		}, 9, false},
		"it is freshened": {func(t *testing.T, d *Disk) {
			if err := freshen(d, key, 203); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * lookEvery)
		}, 203, false},
		"another store removes it": {func(t *testing.T, d *Disk) {
			other := openTest(t, d.dir, DiskOptions{})
			if err := other.Update(t.Context(), key, func([]*Entry) []*Entry { return nil }); err != nil {
				t.Error(err)
			}
		}, 0, false},
		"a backup": {func(t *testing.T, d *Disk) {
			backup(t, d)
			time.Sleep(2 * lookEvery)
		}, 0, false},
		"a backup that is freshened": {func(t *testing.T, d *Disk) {
			backup(t, d)
			if !freshenAtOnce(d) {
				t.Error("it is not freshened without the lock")
			}
			time.Sleep(2 * lookEvery)
		}, 0, false},
		"it is truncated": {func(t *testing.T, d *Disk) {
			if err := os.Truncate(d.path(key), 100); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * lookEvery)
		}, 0, false},
		"the counters are lost": {func(t *testing.T, d *Disk) {
			if err := os.Remove(d.counts.path()); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * lookEvery)
		}, 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, it := putVouched(t, key)
			tt.change(t, d)
			if same, _ := d.unchanged(it, time.Now().UnixNano()); same != tt.same {
				t.Errorf("unchanged: %t, want %t", same, tt.same)
			}
			for _, d := range []*Disk{d, openTest(t, d.dir, DiskOptions{})} {
				checkStatus(t, d, key, tt.want)
				if got, want := d.Bytes(), diskBytes(t, d.dir); got != want && name != "the counters are lost" {
					t.Errorf("the files are said to take %d bytes, and take %d", got, want)
				}
			}
		})
	}
}

// A new key is stored even if the directory of its shard, which is not looked
// at for that, is gone.
func TestNewKeyInLostDirectory(t *testing.T) {
	key := testKey(1)
	for name, tt := range map[string]struct {
		lose func(d *Disk) error
		gone bool // what is stored next is not found again
	}{
		"its directory removed": {func(d *Disk) error { return os.RemoveAll(d.shardDir(shardOf(key))) }, false},
		"all removed":           {func(d *Disk) error { return os.RemoveAll(d.dir) }, false},
		"its directory moved": {func(d *Disk) error {
			dir := d.shardDir(shardOf(key))
			return os.Rename(dir, dir+".old")
		}, true},
	} {
		for _, wait := range []time.Duration{0, 2 * lookEvery} {
			t.Run(fmt.Sprintf("%s, %v ago", name, wait), func(t *testing.T) {
				t.Parallel()
				d := vouched(t, t.TempDir(), key)
				if es := mustEntries(t, d, key); len(es) != 0 {
					t.Fatalf("%d entries to begin with", len(es))
				}
				if err := tt.lose(d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(wait)
				mustPut(t, d, key, pattern(2, 1000))
				time.Sleep(lookEvery)
				_, err := os.Lstat(d.path(key))
				if gone := errors.Is(err, fs.ErrNotExist); gone != tt.gone {
					t.Errorf("the file: %v", err)
				}
				want := 200
				if tt.gone {
					want = 0
				}
				checkStatus(t, d, key, want)
				mustPut(t, d, key, pattern(3, 1000))
				for _, d := range []*Disk{d, openTest(t, d.dir, DiskOptions{})} {
					checkStatus(t, d, key, 200)
				}
			})
		}
	}
}
