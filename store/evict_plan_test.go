package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// files returns keys for the planner, written as "name:size" with a space between.
func files(keys string) (files []*keyFiles) {
	for field := range strings.FieldsSeq(keys) {
		k := &keyFiles{hasEntries: true}
		if _, err := fmt.Sscanf(strings.Replace(field, ":", " ", 1), "%s %d", &k.key, &k.size); err != nil {
			panic(err)
		}
		files = append(files, k)
	}
	return files
}

// keyNames is the reverse of files, without the sizes.
func keyNames(keys []*keyFiles) string {
	var names []string
	for _, k := range keys {
		names = append(names, k.key)
	}
	return strings.Join(names, " ")
}

func TestPlanEviction(t *testing.T) {
	request := evictLimits{target: 90, full: 100, near: 103}
	maintain := evictLimits{target: 50, keys: 32}
	unknown := evictLimits{bytes: 20}
	const listedAll = shardCount
	for _, test := range []struct {
		name       string
		limits     evictLimits
		done       evictProgress
		candidates string
		want       evictAction
		remove     string
	}{
		{"at the target", request, evictProgress{size: 90}, "a:5", evictStop, ""},
		{"no candidates", request, evictProgress{size: 110}, "", evictList, ""},
		{"no candidates in any shard", request, evictProgress{size: 110, listed: listedAll}, "", evictStop, ""},
		{"candidates of the last shard", request, evictProgress{size: 110, listed: listedAll}, "a:5", evictRemove, "a"},
		{"in order until enough", request, evictProgress{size: 100}, "a:4 b:4 c:4 d:4", evictRemove, "a b c"},
		{"full, some work done", request, evictProgress{size: 100, keys: evictSoftMax - 1, spent: evictSoft}, "a:50", evictRemove, "a"},
		{"full, enough keys", request, evictProgress{size: 100, keys: evictSoftMax}, "a:5", evictStop, ""},
		{"full, enough time", request, evictProgress{size: 100, spent: evictSoft + 1}, "a:5", evictStop, ""},
		{"full, time spent listing", request, evictProgress{size: 100, spent: 2 * evictSoft, listing: evictSoft}, "a:50", evictRemove, "a"},
		{"full, too much time", request, evictProgress{size: 100, spent: 4*evictHard + 1, listing: 4 * evictHard}, "a:5", evictStop, ""},
		{"near, enough time for full", request, evictProgress{size: 103, spent: evictHard}, "a:50", evictRemove, "a"},
		{"near, enough time", request, evictProgress{size: 103, spent: evictHard + 1}, "a:5", evictStop, ""},
		{"near, time spent listing", request, evictProgress{size: 103, spent: 2 * evictHard, listing: 2 * evictHard}, "a:50", evictRemove, "a"},
		{"near, enough keys and no time", request, evictProgress{size: 103, keys: 100}, "a:50", evictRemove, "a"},
		{"near, too much time", request, evictProgress{size: 103, spent: 4*evictHard + 1, listing: 4 * evictHard}, "a:5", evictStop, ""},
		{"over, however long that takes", request, evictProgress{size: 104, keys: 1000, spent: time.Hour}, "a:50", evictRemove, "a"},
		{"maintenance, however long that takes", maintain, evictProgress{size: 51, spent: time.Hour}, "a:5", evictRemove, "a"},
		{"maintenance, enough keys for a turn", maintain, evictProgress{size: 51, keys: 32}, "a:5", evictStop, ""},
		{"maintenance, at the target", maintain, evictProgress{size: 50}, "a:5", evictStop, ""},
		{"maintenance to nothing", evictLimits{}, evictProgress{size: 1, spent: time.Hour}, "a:5", evictRemove, "a"},
		{"unknown size, too few bytes", unknown, evictProgress{size: 100, freed: 19}, "a:500", evictRemove, "a"},
		{"unknown size, enough bytes", unknown, evictProgress{size: 100, freed: 20}, "a:5", evictStop, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			candidates := files(test.candidates)
			step := planEviction(test.done, test.limits, candidates, 0)
			if step.action != test.want || keyNames(step.remove) != test.remove {
				t.Errorf("action %d, remove %q; want %d, %q", step.action, keyNames(step.remove), test.want, test.remove)
			}
			if keyNames(candidates) != keyNames(files(test.candidates)) {
				t.Errorf("the candidates were changed to %q", keyNames(candidates))
			}
			if step.action == evictRemove && len(step.remove)+len(step.keep) != len(candidates) {
				t.Errorf("%d victims and %d others of %d candidates", len(step.remove), len(step.keep), len(candidates))
			}
		})
	}
}

func TestChooseVictims(t *testing.T) {
	many := strings.Repeat("x:1 ", 2*evictBatch)
	for _, test := range []struct {
		name                   string
		candidates             string
		need, slack            int64
		wantVictims, wantOther string
	}{
		{"nothing needed", "a:1", 0, 10, "", "a"},
		{"none there", "", 10, 10, "", ""},
		{"oldest first", "a:1 b:1 c:1", 2, 0, "a b", "c"},
		{"a large body gives way to smaller ones", "a:9 b:1 c:1", 2, 0, "b c", "a"},
		{"a large body within the slack", "a:9 b:1 c:1", 2, 7, "a", "b c"},
		{"only large bodies: the oldest", "a:90 b:80", 2, 0, "a", "b"},
		{"all are not enough", "a:1 b:1", 9, 0, "a b", ""},
		{"one batch", many, 1 << 20, 0, keyNames(files(many)[:evictBatch]), keyNames(files(many)[:evictBatch])},
	} {
		t.Run(test.name, func(t *testing.T) {
			victims, rest := chooseVictims(files(test.candidates), test.need, test.slack)
			if keyNames(victims) != test.wantVictims || keyNames(rest) != test.wantOther {
				t.Errorf("victims %q of which remain %q; want %q, %q", keyNames(victims), keyNames(rest), test.wantVictims, test.wantOther)
			}
		})
	}
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
		{key: "entries-bodies", hasEntries: true, used: now, blobs: []fileInfo{{mtime: now}}},
		{key: "old-body", blobs: []fileInfo{{mtime: old}}},
		{key: "fresh-body", blobs: []fileInfo{{mtime: fresh}}},
		{key: "both", blobs: []fileInfo{{mtime: old}, {mtime: fresh}}},
		{key: "future-body", blobs: []fileInfo{{mtime: now + int64(time.Hour)}}},
	}
	if got, want := keyNames(evictable(keys, now)), "entries entries-bodies old-body future-body"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestEvictCandidates(t *testing.T) {
	greedy := &originShare{origin: "https://greedy.example"}
	sample := func(n int, own ...int) []*keyFiles {
		var keys []*keyFiles
		for i := range n {
			k := &keyFiles{key: fmt.Sprint(i)}
			if slices.Contains(own, i) {
				k.owner = greedy
			}
			keys = append(keys, k)
		}
		return keys
	}
	for _, test := range []struct {
		name   string
		sample []*keyFiles
		greedy *originShare
		want   string
	}{
		{"empty", nil, nil, ""},
		{"fewer than a part", sample(3), nil, "0"},
		{"a part", sample(16), nil, "0 1"},
		{"of a greedy origin", sample(16, 3, 7, 9), greedy, "3"},
		{"a part of a greedy origin's", sample(32, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26), greedy, "11 12"},
		{"a greedy origin without keys here", sample(16), greedy, "0 1"},
		{"nobody is greedy", sample(16, 3), nil, "0 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := keyNames(evictCandidates(test.sample, test.greedy)); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
