package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
	"github.com/cachetrip/cachetrip/store"
)

func TestRun(t *testing.T) {
	table := demotest.Run(t, "kubernetes", run)
	demotest.Want(t, table, map[string][2]int{
		"without a cache":                                 {4, 0},
		"cachetrip, first run":                            {4, 0},
		"cachetrip, second run":                           {3, 3},
		"cachetrip, third run, with a new token":          {3, 3},
		"client-go's own, first run":                      {4, 0},
		"client-go's own, second run, within its 6 hours": {1, 1},
		"client-go's own, third run, after them":          {3, 3},
	})
	if found := table[0].Data.(api); len(found.Resources) != 82 || !strings.Contains(found.Schema, "Type399") {
		t.Errorf("%d versions of groups, schema %.60q", len(found.Resources), found.Schema)
	}
}

// New resources in the cluster show at once. With client-go's own cache that
// takes hours.
func TestNewCRD(t *testing.T) {
	fake := newFake()
	origin, err := demo.Start(fake)
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	c := clients{t.TempDir(), origin.URL}
	for _, test := range []struct {
		name string
		run  func() (any, error)
		sees bool
	}{
		{"cachetrip", func() (any, error) { return c.cached("token-1") }, true},
		{"client-go's own", func() (any, error) { return c.own(6 * time.Hour) }, false},
	} {
		before, err := test.run()
		if err != nil {
			t.Fatal(err)
		}
		fake.addCRD()
		after, err := test.run()
		if err != nil {
			t.Fatal(err)
		}
		if sees := !cmp.Equal(before, after); sees != test.sees {
			t.Errorf("%s: a new group is seen: %v, want %v", test.name, sees, test.sees)
		}
	}
}

// Clients that ask in different ways share a directory: each gets its own
// answer, and if they have names of their own, a 304.
func TestTwoKindsOfClients(t *testing.T) {
	for _, names := range []map[bool]string{
		{false: "admin@cluster", true: "admin@cluster"},
		{false: "admin@cluster", true: "admin@cluster, no peers"},
	} {
		origin, err := demo.Start(newFake())
		if err != nil {
			t.Fatal(err)
		}
		defer origin.Close()
		c := clients{url: origin.URL}
		stored := store.NewMemory(0)
		for round := range 3 {
			for noPeer, want := range map[bool]int{false: 82, true: 80} {
				client, err := newDiscovery(c.config("token-1"), stored, names[noPeer])
				if err != nil {
					t.Fatal(err)
				}
				client.NoPeerDiscovery = noPeer
				_, lists, err := client.ServerGroupsAndResources()
				if err != nil || len(lists) != want {
					t.Errorf("%s: %d lists, %v, want %d", names[noPeer], len(lists), err, want)
				}
				cost := origin.Take()
				if cost.Requests != 2 || names[false] != names[true] && round > 0 && cost.NotModified != 2 {
					t.Errorf("%s: %+v, want two requests, and then two 304s", names[noPeer], cost)
				}
			}
		}
	}
}

// With users of other names nothing is shared.
func TestUsers(t *testing.T) {
	origin, err := demo.Start(newFake())
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	c := clients{t.TempDir(), origin.URL}
	stored := store.NewMemory(0)
	for _, user := range []string{"admin@cluster", "guest@cluster"} {
		client, err := newDiscovery(c.config("token-1"), stored, user)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := look(client); err != nil {
			t.Fatal(err)
		}
		if cost := origin.Take(); cost.NotModified != 0 || cost.Requests != 4 {
			t.Errorf("%s: %+v, want 4 requests and no 304", user, cost)
		}
	}
}

func TestInGMT(t *testing.T) {
	for value, want := range map[string]string{
		"Mon, 22 Nov 2027 18:00:00 UTC": "Mon, 22 Nov 2027 18:00:00 GMT",
		"Mon, 22 Nov 2027 18:00:00 GMT": "Mon, 22 Nov 2027 18:00:00 GMT",
		"0":                             "0",
		"":                              "",
	} {
		resp := &http.Response{Header: http.Header{"Expires": {value}}}
		if err := inGMT(resp); err != nil || resp.Header.Get("Expires") != want {
			t.Errorf("%q: %q, %v, want %q", value, resp.Header.Get("Expires"), err, want)
		}
	}
}
