package main

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
)

func TestRun(t *testing.T) {
	table := demotest.Run(t, "oauth2", run)
	demotest.Want(t, table, map[string][2]int{
		// One request is for the token.
		"without a cache":                           {11, 0},
		"cache below the credentials, first run":    {11, 0},
		"cache below the credentials, second run":   {1, 0},
		"cache above the credentials, first run":    {11, 0},
		"cache above the credentials, second run":   {0, 0},
		"cache below, without Identity, first run":  {11, 0},
		"cache below, without Identity, second run": {11, 0},
		"cache above, without Identity, first run":  {11, 0},
		"cache above, without Identity, second run": {21, 10}, // a 304 to another token proves nothing
	})
}

// Two users of one directory each get their own documents, in either order, and
// no token is stored.
func TestUsers(t *testing.T) {
	for name, plug := range map[string]func(*cachetrip.Transport, oauth2.TokenSource, string) *http.Client{
		"below": below, "above": above, "below, unnamed": belowUnnamed, "above, unnamed": aboveUnnamed,
	} {
		t.Run(name, func(t *testing.T) {
			origin, err := demo.Start(&fake{})
			if err != nil {
				t.Fatal(err)
			}
			defer origin.Close()
			dir := t.TempDir()
			for _, user := range []string{"alice", "bob", "alice", "bob"} {
				cache, err := cachetrip.Open(dir)
				if err != nil {
					t.Fatal(err)
				}
				documents, err := read(plug(cache, tokensOf(user, origin.URL), user), origin.URL)
				if err != nil {
					t.Fatal(err)
				}
				for i, d := range documents.([]string) {
					if !strings.HasSuffix(d, " of "+user+".\n") {
						t.Fatalf("%s got document %d: %.60q…", user, i, d)
					}
				}
				if err := cache.Close(); err != nil {
					t.Error(err)
				}
			}
			files := 0
			err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				files++
				b, err := os.ReadFile(path)
				if bytes.Contains(b, []byte("alice-0")) || bytes.Contains(b, []byte("bob-0")) {
					t.Errorf("a token is in %s", path)
				}
				return err
			})
			if err != nil || files == 0 {
				t.Errorf("searched %d files, %v", files, err)
			}
		})
	}
}
