package main

import (
	"testing"

	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
	"github.com/cachetrip/cachetrip/examples/clients/internal/site"
)

func TestRun(t *testing.T) {
	table := demotest.Run(t, "colly", run)
	all := site.Pages + site.Images
	demotest.Want(t, table, map[string][2]int{
		"without a cache":                              {all, 0},
		"cachetrip, first run":                         {all, 0},
		"cachetrip, second run":                        {0, 0},
		"colly's own cache, first run":                 {all, 0},
		"colly's own cache, second run":                {0, 0},
		"cachetrip, third run, asking for what is new": {all, all},
	})
	if n := len(table[0].Data.(map[string]string)); n != site.Pages {
		t.Errorf("%d titles, want %d", n, site.Pages)
	}
}
