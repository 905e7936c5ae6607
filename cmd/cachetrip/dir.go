package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cachetrip/cachetrip"
)

// openCache opens the cache in dir or, if dir is empty, in the directory called name of the user's
// cache directory, and returns its path too.
func openCache(dir, name string) (*cachetrip.Transport, string, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, "", fmt.Errorf("no cache directory for this user: %w; name one with --dir", err)
		}
		dir = filepath.Join(base, "cachetrip", name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, "", err
	}
	cache, err := cachetrip.Open(dir)
	if err != nil {
		return nil, "", fmt.Errorf("%w; name another directory with --dir", err)
	}
	return cache, dir, nil
}
