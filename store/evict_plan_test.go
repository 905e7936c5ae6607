package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPlanEviction(t *testing.T) {
	request := evictLimits{target: 90, full: 100, near: 103}
	maintain := evictLimits{target: 50, keys: 32}
	unknown := evictLimits{bytes: 20}
	const listedAll = shardCount
	empty, some, enough := &pool{}, &pool{keys: 1}, &pool{keys: 1, seen: evictPart}
	for _, test := range []struct {
		name   string
		limits evictLimits
		done   evictProgress
		from   *pool
		want   evictAction
	}{
		{"at the target", request, evictProgress{size: 90}, enough, evictStop},
		{"over, enough keys listed", request, evictProgress{size: 110}, enough, evictRemove},
		{"no candidates", request, evictProgress{size: 110}, empty, evictList},
		{"too few keys listed", request, evictProgress{size: 110}, some, evictList},
		{"few candidates, all shards listed", request, evictProgress{size: 110, listed: listedAll}, some, evictRemove},
		{"no candidates where the pool had none", request, evictProgress{size: 110, listed: listedAll}, empty, evictList},
		{"no candidates in any shard", request, evictProgress{size: 110, listed: 2 * listedAll}, empty, evictStop},
		{"full, some work done", request, evictProgress{size: 100, keys: evictFew - 1, spent: evictSoft}, enough, evictRemove},
		{"full, enough keys", request, evictProgress{size: 100, keys: evictFew}, enough, evictStop},
		{"full, enough keys except on a full disk", evictLimits{target: 90, full: 100, few: evictMany}, evictProgress{size: 100, keys: evictMany - 1, spent: 4 * evictSoft}, enough, evictRemove},
		{"full, enough keys on a full disk", evictLimits{target: 90, full: 100, few: evictMany}, evictProgress{size: 100, keys: evictMany}, enough, evictStop},
		{"full, enough time", request, evictProgress{size: 100, spent: evictSoft + 1}, enough, evictStop},
		{"full, time spent listing", request, evictProgress{size: 100, spent: 2 * evictSoft, listing: evictSoft}, enough, evictRemove},
		{"full, a key removed after a listing", request, evictProgress{size: 100, keys: 1, spent: evictSoft + 1, listing: evictSoft}, enough, evictStop},
		{"over, a key removed after a listing", request, evictProgress{size: 101, keys: 1, spent: evictSoft + 1, listing: evictSoft}, enough, evictRemove},
		{"full, too much time", request, evictProgress{size: 100, spent: 4*evictHard + 1, listing: 4 * evictHard}, enough, evictStop},
		{"near, enough time for full", request, evictProgress{size: 103, spent: evictHard}, enough, evictRemove},
		{"near, enough time", request, evictProgress{size: 103, spent: evictHard + 1}, enough, evictStop},
		{"near, time spent listing", request, evictProgress{size: 103, spent: 2 * evictHard, listing: 2 * evictHard}, enough, evictRemove},
		{"near, enough keys and no time", request, evictProgress{size: 103, keys: 100}, enough, evictRemove},
		{"near, too much time", request, evictProgress{size: 103, spent: 4*evictHard + 1, listing: 4 * evictHard}, enough, evictStop},
		{"over, however long that takes", request, evictProgress{size: 104, keys: 1000, spent: time.Hour}, enough, evictRemove},
		{"maintenance, however long that takes", maintain, evictProgress{size: 51, spent: time.Hour}, enough, evictRemove},
		{"maintenance, enough keys for a turn", maintain, evictProgress{size: 51, keys: 32}, enough, evictStop},
		{"maintenance, at the target", maintain, evictProgress{size: 50}, enough, evictStop},
		{"maintenance to nothing", evictLimits{}, evictProgress{size: 1, spent: time.Hour}, enough, evictRemove},
		{"unknown size, too few bytes", unknown, evictProgress{size: 100, freed: 19}, enough, evictRemove},
		{"unknown size, enough bytes", unknown, evictProgress{size: 100, freed: 20}, enough, evictStop},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := planEviction(test.done, test.limits, test.from); got != test.want {
				t.Errorf("action %d, want %d", got, test.want)
			}
		})
	}
}

// keyNames returns the names of keys, with a space between.
func keyNames(keys []*keyFiles) string {
	var names []string
	for _, k := range keys {
		names = append(names, k.key)
	}
	return strings.Join(names, " ")
}

func TestSortByUse(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	at := func(name string, age time.Duration) *keyFiles {
		return &keyFiles{key: name, used: now.Add(-age).UnixNano()}
	}
	keys := []*keyFiles{
		at("new", 0), at("soon", -30*time.Second), at("old", time.Hour), at("future", -time.Hour),
		at("older, b", 2*time.Hour), at("older, a", 2*time.Hour), at("far future", -2*time.Hour),
	}
	sortByUse(keys, now)
	want := []string{"future", "far future", "older, a", "older, b", "old", "new", "soon"}
	var got []string
	for _, k := range keys {
		got = append(got, k.key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestEvictable(t *testing.T) {
	now := int64(time.Hour)
	old, fresh := now-int64(orphanAfter)-1, now-int64(orphanAfter)
	keys := []*keyFiles{
		{key: "entries", hasEntries: true, used: now},
		{key: "entries-bodies", hasEntries: true, used: now, blobs: []fileInfo{{mtime: now}, {mtime: old}}},
		{key: "old-body", blobs: []fileInfo{{mtime: old}}},
		{key: "fresh-body", blobs: []fileInfo{{mtime: fresh}}},
		{key: "both", blobs: []fileInfo{{mtime: old}, {mtime: fresh}}},
		{key: "future-body", blobs: []fileInfo{{mtime: now + int64(time.Hour)}}},
	}
	if got, want := keyNames(evictable(keys, now)), "entries entries-bodies old-body future-body"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
