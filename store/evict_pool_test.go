package store

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

// listing returns keys of a shard, of which the first was used first.
func listing(shard, n int, firstUse int64) (keys []*keyFiles) {
	for i := range n {
		keys = append(keys, &keyFiles{key: fmt.Sprint(firstUse + int64(i)), shard: shard, hasEntries: true, used: firstUse + int64(i)})
	}
	return keys
}

// TestPool puts listings into a pool and takes keys from it.
func TestPool(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	future := now.Add(time.Hour).UnixNano()
	for _, test := range []struct {
		name     string
		listings [][]*keyFiles
		want     string // what is taken, a comma between the turns
		ready    int    // so many turns come before the next listing
	}{
		{"empty", nil, "", 0},
		{"no keys in a shard", [][]*keyFiles{nil}, "", 0},
		{"too few keys to tell", [][]*keyFiles{listing(1, 3, 10)}, "10,11,12", 0},
		{"an eighth at a time", [][]*keyFiles{listing(1, 16, 10)}, "10 11,12 13,14 15,16 17,18 19,20 21,22 23,24 25", 0},
		{"the oldest of all shards", [][]*keyFiles{listing(1, 2, 30), listing(2, 2, 10), listing(3, 2, 20)}, "10,11,20,21,30,31", 0},
		{"a use in the future comes first", [][]*keyFiles{listing(1, 1, 30), listing(2, 1, future)}, fmt.Sprint(future, ",30"), 0},
		{"a new listing replaces the old one", [][]*keyFiles{listing(1, 4, 10), listing(1, 2, 40)}, "40,41", 0},
		{"enough keys for two turns", [][]*keyFiles{listing(1, 32, 10), listing(2, 96, 50)}, "", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p pool
			for _, keys := range test.listings {
				shard := 0
				if len(keys) > 0 {
					shard = keys[0].shard
				}
				p.put(shard, keys, now)
			}
			var turns []string
			ready := 0
			for keys := p.take(now, math.MaxInt64, true); keys != nil; keys = p.take(now, math.MaxInt64, true) {
				turns = append(turns, keyNames(keys))
				if p.ready() {
					ready++
				}
			}
			if got := strings.Join(turns, ","); test.want != "" && got != test.want {
				t.Errorf("took %q, want %q", got, test.want)
			}
			if ready != max(test.ready-1, 0) || p.keys != 0 {
				t.Errorf("ready for %d more turns, want %d; %d keys are left", ready, test.ready-1, p.keys)
			}
		})
	}
}

// TestPoolIsBounded lists many keys. Only the oldest of each shard are
// remembered.
func TestPoolIsBounded(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var p pool
	for shard := range shardCount {
		p.put(shard, listing(shard, 10*poolKeys, int64(1000*shard)), now)
	}
	if p.keys != shardCount*poolKeys || len(p.lists[3].keys) != poolKeys || p.lists[3].keys[0].used != 3000 {
		t.Errorf("%d keys in all, %d of a shard, which begin with %d", p.keys, len(p.lists[3].keys), p.lists[3].keys[0].used)
	}
}

// TestPoolOfSamples: keys of one sample that are older than those of the next
// come before them.
func TestPoolOfSamples(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	sample := func(firstUse int64) []*keyFiles {
		keys := listing(1, 2*poolKeys, firstUse)
		for _, k := range keys {
			k.sampled = true
		}
		return keys
	}
	var p pool
	p.put(1, sample(1000), now)
	for p.keys > 0 {
		p.take(now, math.MaxInt64, true)
	}
	p.put(2, listing(2, 1, 5), now)
	p.put(1, sample(5000), now)
	if got := p.lists[1].keys; len(got) != poolKeys || got[0].used != 1000+poolKeys || got[poolKeys-1].used != 1000+2*poolKeys-1 {
		t.Errorf("%d keys, used from %d to %d", len(got), got[0].used, got[len(got)-1].used)
	}
}

// TestPoolLacks: a shard is listed again when its keys are gone, but not soon
// again if it had none.
func TestPoolLacks(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var p pool
	if !p.lacks(3) {
		t.Error("an empty pool lacks nothing")
	}
	p.put(1, listing(1, 1, 10), now)
	p.put(2, nil, now)
	if p.lacks(1) || p.lacks(2) || !p.lacks(3) {
		t.Errorf("lacks %t, %t, %t; want false, false, true", p.lacks(1), p.lacks(2), p.lacks(3))
	}
	keys := p.take(now, math.MaxInt64, true)
	if !p.lacks(1) {
		t.Error("lacks no keys of a shard whose keys were taken")
	}
	p.putBack(keys)
	if p.lacks(1) || p.keys != 1 {
		t.Errorf("after keys were put back, the pool has %d", p.keys)
	}
	for range shardCount {
		p.put(4, nil, now)
	}
	if !p.lacks(2) {
		t.Error("an empty shard is never listed again")
	}
}

// TestPoolPassesOverLargeKeys takes keys while not much needs to be freed.
func TestPoolPassesOverLargeKeys(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name  string
		most  int64
		must  bool
		sizes [][]int64 // of the keys of each shard, the oldest first
		want  string
	}{
		{"the oldest if it fits", 100, true, [][]int64{{100, 1}, {1, 1}}, "0"},
		{"a smaller one of another shard", 100, true, [][]int64{{101, 1}, {60, 1}}, "100,101"},
		{"no more than fits together", 100, true, [][]int64{{60, 50, 1}, {1}}, "0"},
		{"the oldest if none fits", 100, true, [][]int64{{500, 1}, {101}}, "0"},
		{"none if that is not needed", 100, false, [][]int64{{500, 1}, {101}}, ""},
		{"one that fits if that is not needed", 100, false, [][]int64{{500, 1}, {100}}, "100"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p pool
			for shard, sizes := range test.sizes {
				keys := listing(shard, len(sizes), int64(100*shard))
				for i, size := range sizes {
					keys[i].size = size
				}
				p.put(shard, keys, now)
				p.lists[shard].turn = len(keys)
			}
			before := p.keys
			taken := p.take(now, test.most, test.must)
			if got := strings.ReplaceAll(keyNames(taken), " ", ","); got != test.want || p.keys != before-len(taken) {
				t.Errorf("took %q, want %q; %d of %d keys are left", got, test.want, p.keys, before)
			}
		})
	}
}
