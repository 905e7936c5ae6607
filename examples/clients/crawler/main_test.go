package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
	"github.com/cachetrip/cachetrip/examples/clients/internal/site"
)

func TestRun(t *testing.T) {
	table := demotest.Run(t, "crawler", run)
	all := 1 + site.Pages - 1 + site.Images // page 0 is found as / only
	demotest.Want(t, table, map[string][2]int{
		"without a cache": {all, 0},
		"first run":       {all, 0},
		"second run":      {site.Pages, site.Pages},
	})
	lengths := table[0].Data.(map[string]int64)
	if len(lengths) != all {
		t.Errorf("%d paths, want %d", len(lengths), all)
	}
	for path, n := range lengths {
		if n == 0 {
			t.Errorf("%s is empty", path)
		}
	}
}

// However many requests are made at a time, they cost the same and find the
// same.
func TestParallel(t *testing.T) {
	defer func(j int) { *parallel = j }(*parallel)
	for _, j := range []int{1, 32} {
		*parallel = j
		table, err := run(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range table {
			if diff := cmp.Diff(table[0].Data, row.Data); diff != "" {
				t.Errorf("%d at a time, %s (-want +got):\n%s", j, row.Name, diff)
			}
		}
		if second := table[2]; second.Requests != site.Pages || second.NotModified != site.Pages {
			t.Errorf("%d at a time: %+v", j, second.Cost)
		}
	}
}
