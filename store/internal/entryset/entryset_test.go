package entryset

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type entry struct {
	name string
	at   time.Time
}

func stored(e *entry) time.Time { return e.at }

func names(entries []*entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.name)
	}
	return names
}

func TestArrange(t *testing.T) {
	a, b, c, d := &entry{name: "a"}, &entry{name: "b"}, &entry{name: "c"}, &entry{name: "d"}
	for _, test := range []struct {
		name          string
		current, next []*entry
		want          []string
	}{
		{"nothing", nil, nil, nil},
		{"new ones first", []*entry{a, b}, []*entry{a, c, b, d}, []string{"c", "d", "a", "b"}},
		{"without duplicates and nil", []*entry{a}, []*entry{a, nil, b, a, b}, []string{"b", "a"}},
		{"in the order that was asked for", []*entry{a, b}, []*entry{b, a}, []string{"b", "a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, names(Arrange(test.current, test.next, stored))); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArrangeKeepsNoMoreThanMaxVariants(t *testing.T) {
	now := time.Now()
	var current []*entry
	for i := range MaxVariants {
		current = append(current, &entry{name: "kept", at: now.Add(time.Duration(i-MaxVariants) * time.Second)})
	}
	oldest := current[0]
	added := &entry{name: "added", at: now.Add(-time.Hour)} // older than all, but new
	got := Arrange(current, append([]*entry{added}, current...), stored)
	if len(got) != MaxVariants || got[0] != added {
		t.Fatalf("%d entries of which the first is %q; want %d and the added one", len(got), got[0].name, MaxVariants)
	}
	for _, e := range got {
		if e == oldest {
			t.Error("the oldest entry is still there")
		}
	}
}

func TestDropOldest(t *testing.T) {
	now := time.Now()
	at := func(name string, age time.Duration) *entry { return &entry{name, now.Add(-age)} }
	old, older, fresh := at("old", time.Hour), at("older", 2*time.Hour), at("fresh", 0)
	future, later, soon := at("future", -time.Hour), at("later", -2*time.Hour), at("soon", -30*time.Second)
	for _, test := range []struct {
		name             string
		current, entries []*entry
		want             []string
	}{
		{"the oldest", []*entry{old, older, fresh}, []*entry{old, older, fresh}, []string{"old", "fresh"}},
		{"no new one while there are others", []*entry{fresh}, []*entry{older, fresh}, []string{"older"}},
		{"the oldest new one", nil, []*entry{old, older}, []string{"old"}},
		{"one from the future", []*entry{future, older}, []*entry{future, older}, []string{"older"}},
		{"the oldest, if all are from the future", []*entry{future, later}, []*entry{later, future}, []string{"later"}},
		{"none that another clock explains", []*entry{soon, old}, []*entry{soon, old}, []string{"soon"}},
		{"the last of equals", []*entry{at("x", 0), at("y", 0)}, []*entry{at("a", 0), at("b", 0)}, []string{"a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, names(DropOldest(test.current, test.entries, stored))); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestChecks(t *testing.T) {
	key := strings.Repeat("0123456789abcdef", 4)
	for _, test := range []struct {
		name string
		err  error
		ok   bool
	}{
		{"a key", CheckKey(key), true},
		{"a short key", CheckKey(key[1:]), false},
		{"a long key", CheckKey(key + "0"), false},
		{"an upper-case key", CheckKey(strings.ToUpper(key)), false},
		{"a path as a key", CheckKey("../" + key[3:]), false},
		{"no prefix", CheckPrefix(""), true},
		{"a prefix", CheckPrefix(key[:7]), true},
		{"a whole key as a prefix", CheckPrefix(key), true},
		{"a long prefix", CheckPrefix(key + "0"), false},
		{"a prefix of other letters", CheckPrefix("g"), false},
		{"its own key", CheckOwner(key, key), true},
		{"another key", CheckOwner(key, key[1:]), false},
		{"a whole blob", CheckPart(5, 10, 0, 10, nil), true},
		{"the end of a blob", CheckPart(0, 3, 7, 10, make([]byte, 10)), true},
		{"an empty blob", CheckPart(0, 0, 0, 0, []byte{}), true},
		{"more than a blob has", CheckPart(0, 11, 0, 10, nil), false},
		{"past the end of a blob", CheckPart(0, 4, 7, 10, nil), false},
		{"past a blob", CheckPart(0, 0, 11, 10, nil), false},
		{"a negative offset", CheckPart(-1, 1, 0, 10, nil), false},
		{"a negative length", CheckPart(0, -1, 0, 10, nil), false},
		{"a negative skip", CheckPart(0, 1, -1, 10, nil), false},
		{"a negative size", CheckPart(0, 0, 0, -1, nil), false},
		{"a sum that overflows", CheckPart(0, 1<<62, 1<<62, 1<<62, nil), false},
		{"other bytes than the blob has", CheckPart(0, 1, 0, 10, make([]byte, 9)), false},
	} {
		if (test.err == nil) != test.ok {
			t.Errorf("%s: error %v", test.name, test.err)
		}
	}
}
