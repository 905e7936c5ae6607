package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

func dirFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "dir", TakesFile: true, Sources: cli.EnvVars("CACHETRIP_DIR"),
		Usage:       "use the cache in `DIR`, which may be that of any program",
		DefaultText: "cachetrip/http in the user's cache directory",
	}
}

// cache is an open cache directory.
type cache struct {
	*cachetrip.Transport
	disk *store.Disk
	dir  string // as an absolute path
}

// cacheDir returns the absolute path of dir or, if that is empty, of the directory called name in the
// user's cache directory.
func cacheDir(dir, name string) (string, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no cache directory for this user: %w; name one with --dir", err)
		}
		dir = filepath.Join(base, "cachetrip", name)
	}
	return filepath.Abs(dir)
}

// openCache opens the cache in the given directory, see cacheDir, with a bound in bytes, 0 for the default.
func openCache(dir, name string, maxBytes int64) (*cache, error) {
	dir, err := cacheDir(dir, name)
	if err != nil {
		return nil, err
	}
	disk, err := store.OpenDisk(dir, store.DiskOptions{MaxBytes: maxBytes})
	if err != nil {
		return nil, fmt.Errorf("%w; name another directory with --dir", err)
	}
	return &cache{&cachetrip.Transport{Store: disk}, disk, dir}, nil
}

// openExisting opens a cache to look at, or to remove from: it makes none, and evicts nothing, whatever the
// bound of those who use it is.
func openExisting(c *cli.Command) (*cache, error) {
	dir, err := cacheDir(c.String("dir"), "http")
	if err != nil {
		return nil, err
	}
	// Every version of the format has this file.
	if _, err := os.Stat(filepath.Join(dir, "CACHEDIR.TAG")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no cache in %s; fetch something with 'cachetrip get URL', or name another directory with --dir", dir)
	}
	return openCache(dir, "", math.MaxInt64/4) // with room to calculate with
}

// Close ends what the cache does and releases it.
func (c *cache) Close() error { return errors.Join(c.Transport.Close(), c.disk.Close()) }
