package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestArrange: package entryset tests the order; here are the errors, and that
// nothing is changed.
func TestArrange(t *testing.T) {
	key := testKey(1)
	entry := func(age int) *Entry {
		return &Entry{Key: key, ResponseTime: time.Unix(1_700_000_000-int64(age), 0)}
	}
	with := func(change func(*Entry)) *Entry {
		e := entry(0)
		change(e)
		return e
	}
	for _, test := range []struct {
		name string
		e    *Entry
		ok   bool
	}{
		{"an entry", entry(0), true},
		{"of another key", with(func(e *Entry) { e.Key = testKey(2) }), false},
		{"a part", with(func(e *Entry) { e.Parts = []Part{{Length: 3, Skip: 7, Blob: Blob{ID: "a", Size: 10}}} }), true},
		{"outside its blob", with(func(e *Entry) { e.Parts = []Part{{Length: 4, Skip: 7, Blob: Blob{ID: "a", Size: 10}}} }), false},
		{"the second part", with(func(e *Entry) { e.Parts = []Part{{}, {Length: -1}} }), false},
	} {
		got, err := Arrange(key, nil, []*Entry{test.e})
		if (err == nil) != test.ok || len(got) == 1 != test.ok {
			t.Errorf("%s: %d entries, %v", test.name, len(got), err)
		}
	}
	var current []*Entry
	for i := range maxVariants {
		current = append(current, entry(i))
	}
	newer := entry(1000)
	next := append(append([]*Entry{nil}, current...), newer, newer)
	before := cmp.Diff(nil, next)
	got, err := Arrange(key, current, next)
	if err != nil || len(got) != maxVariants || got[0] != newer || got[maxVariants-1] != current[maxVariants-2] {
		t.Errorf("%d entries, %v; want the new one, and %d of the others", len(got), err, maxVariants-1)
	}
	if cmp.Diff(nil, next) != before {
		t.Error("Arrange has changed what it was given")
	}
}

func TestCheckKey(t *testing.T) {
	for _, test := range []struct {
		err error
		ok  bool
	}{
		{CheckKey(testKey(1)), true},
		{CheckKey(testKey(1)[1:]), false},
		{CheckKey(strings.ToUpper(testKey(1))), false},
		{CheckPrefix(""), true},
		{CheckPrefix(testKey(1)), true},
		{CheckPrefix(testKey(1) + "0"), false},
		{CheckPrefix("../"), false},
	} {
		if (test.err == nil) != test.ok {
			t.Errorf("%v", test.err)
		}
	}
}
