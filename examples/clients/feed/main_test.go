package main

import (
	"testing"

	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
)

func TestRun(t *testing.T) {
	table := demotest.Run(t, "feed", run)
	demotest.Want(t, table, map[string][2]int{
		"without a cache":           {2 + 2*posts, 0},
		"first run":                 {2 + posts, 0},
		"second run":                {2, 2},
		"without Policy, first run": {2 + 2*posts, 0},
	})
	if n := len(table[0].Data.(map[string]uint32)); n != 2*posts {
		t.Errorf("%d links, want %d", n, 2*posts)
	}
}
