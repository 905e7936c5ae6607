package store

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestOpenedTogether has several users make the same cache at the same moment.
func TestOpenedTogether(t *testing.T) {
	t.Parallel()
	scratch := scratchDir(t)
	for range 60 {
		dir, err := os.MkdirTemp(scratch, "")
		if err != nil {
			t.Fatal(err)
		}
		const users = 6
		together := func(do func(i int)) {
			var ready, wg sync.WaitGroup
			ready.Add(users)
			for i := range users {
				wg.Go(func() {
					ready.Done()
					ready.Wait()
					do(i)
				})
			}
			wg.Wait()
		}
		var stores [users]*Disk
		together(func(i int) {
			var err error
			if stores[i], err = OpenDisk(dir, DiskOptions{}); err == nil {
				err = patiently(func() error { return putBody(stores[i], testKey(i), pattern(1, 20_000)) })
			}
			if err != nil {
				t.Error(err)
			}
		})
		var page usagePage
		if err := stores[0].readUsage(&page); err != nil {
			t.Fatal(err)
		}
		if got, want := page.sum(), diskBytes(t, dir); got != want {
			t.Fatalf("usage says %d bytes, the files take %d", got, want)
		}
		for shard := range shardCount {
			if !page.slot(shard).known {
				t.Fatalf("what shard %d takes is not known", shard)
			}
		}
		secrets := func(when string) {
			t.Helper()
			var all [users][]byte
			together(func(i int) {
				d, err := OpenDisk(dir, DiskOptions{})
				if err == nil {
					err = patiently(func() (err error) {
						all[i], err = d.Secret(t.Context())
						return err
					})
				}
				if err != nil {
					t.Error(err)
				}
				d.Close()
			})
			for i := range all {
				if !bytes.Equal(all[i], all[0]) {
					t.Fatalf("%s: secrets %x and %x", when, all[0], all[i])
				}
			}
		}
		secrets("new")
		if err := os.WriteFile(filepath.Join(dir, version, "secret"), []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		secrets("after damage")
		for _, d := range stores {
			d.Close()
		}
	}
}
