package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/store"
)

// This file records what workers saw of each key, and checks that it is
// possible. A key is a register that changes under a lock. Every change must
// begin with the state that the previous change left. Every reading must find
// the state of a change that was not overwritten when the reading began.
//
// Some changes are loose: nobody knows whether they were made, or from which
// state. A store may try a change without the lock, on entries that have been
// replaced, and then find under the lock that there is nothing to change. So a
// change is loose unless its Update returned. It is loose as well if it was
// tried again, or if it only freshened what was stored, which needs no lock,
// and which any other change may undo.

// state identifies the entries of a key; 0 means no entries. Entries that
// differ in anything that matters have different states.
type state uint64

// stateOf returns the state of entries.
func stateOf(entries []*store.Entry) state {
	var sum uint64
	for i, e := range entries {
		if e == nil || slices.Contains(entries[:i], e) {
			continue
		}
		h := mix(uint64(e.RequestTime.UnixNano()))
		number := func(n int64) { h = mix(h ^ uint64(n)) }
		text := func(s string) {
			for i := range len(s) {
				h = (h ^ uint64(s[i])) * 0x100000001b3
			}
			number(int64(len(s)))
		}
		number(e.ResponseTime.UnixNano())
		if !e.InvalidatedAt.IsZero() {
			number(e.InvalidatedAt.UnixNano())
		}
		number(int64(e.Status))
		number(e.Length)
		text(e.Key)
		text(e.URL)
		text(e.Method)
		text(e.Header.Get(versionField))
		text(e.Header.Get("ETag"))
		text(e.Header.Get("Date"))
		text(e.Selecting[variantField])
		for _, p := range e.Parts {
			number(p.Offset)
			number(p.Length)
			number(p.Skip)
			text(p.Blob.ID)
		}
		sum += h // the order of entries does not matter
	}
	if sum == 0 && len(entries) > 0 {
		return 1
	}
	return state(sum)
}

// change is one Update of a key.
type change struct {
	key    string
	begun  int64 // under the lock, before the write
	done   int64 // after Update returned nil; 0 if it changed nothing, failed, or is not known to have returned
	before state
	after  state
	fresh  bool // it only freshened what was stored
	again  bool // it was tried again
	who    string
}

// loose reports whether the change may have been made or not.
func (c *change) loose() bool { return c.done == 0 || c.fresh || c.again }

// reading is one lookup of the entries of a key.
type reading struct {
	begun, ended int64
	found        state
	who          string
}

// history is the record of one key.
type history struct {
	changes  []change
	readings []reading
	possible map[state]bool // the possible states before all recorded changes; nil means no entries
	dropped  bool           // a process may have removed the entries without the lock
}

// check returns the contradictions in the history. If vanishing is set,
// eviction may remove the entries of the key at any time.
func (h *history) check(key string, vanishing bool) (wrong []string) {
	vanishing = vanishing || h.dropped
	slices.SortStableFunc(h.changes, func(a, b change) int {
		switch {
		case a.begun < b.begun:
			return -1
		case a.begun > b.begun:
			return 1
		}
		return 0
	})
	if h.possible == nil {
		h.possible = map[state]bool{0: true}
	}
	may := h.possible
	for i, c := range h.changes {
		if c.loose() {
			may = maps.Clone(may)
			may[c.after] = true
			continue
		}
		if !may[c.before] && !(vanishing && c.before == 0) {
			wrong = append(wrong, fmt.Sprintf("key %s: an update by %s began with %s, which was not what it held: an update was lost or undone\n%s",
				key, c.who, h.name(c.before), h.story(i)))
		}
		may = map[state]bool{c.after: true}
	}
	for _, r := range h.readings {
		if vanishing && r.found == 0 {
			continue
		}
		found, settled := false, -1
		for i := len(h.changes) - 1; i >= 0 && !found; i-- {
			c := &h.changes[i]
			found = c.after == r.found && c.begun <= r.ended
			if !found && !c.loose() && c.done <= r.begun {
				settled = i // certainly made when the reading began, so earlier changes do not count
				break
			}
		}
		if !found && (settled >= 0 || !h.possible[r.found]) {
			wrong = append(wrong, fmt.Sprintf("key %s: %s found %s, between %d and %d, which is not what it held\n%s",
				key, r.who, h.name(r.found), r.begun, r.ended, h.story(settled)))
		}
	}
	return wrong
}

// forget removes all records that the next check does not need. No worker may
// be running. now is the state that the key was found in.
func (h *history) forget(now state) {
	h.changes, h.readings, h.dropped = nil, nil, false
	h.possible = map[state]bool{now: true}
}

func (h *history) name(s state) string {
	if s == 0 {
		return "nothing"
	}
	return fmt.Sprintf("state %016x", uint64(s))
}

// story describes the changes around one.
func (h *history) story(i int) string {
	var b strings.Builder
	from, to := max(0, i-4), min(len(h.changes), i+4)
	for _, c := range h.changes[from:to] {
		done := "not known to be done"
		if c.done != 0 {
			done = fmt.Sprintf("done at %d", c.done)
		}
		fmt.Fprintf(&b, "\t%s, at %d: from %s to %s, %s\n", c.who, c.begun, h.name(c.before), h.name(c.after), done)
	}
	return b.String()
}
