package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

func dirFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "dir", TakesFile: true, Sources: cli.EnvVars("CACHETRIP_DIR"),
		Usage:       "use the cache in `DIR`, which may belong to any program",
		DefaultText: "cachetrip/http in the user's cache directory",
	}
}

// storeFlag is the flag of commands that work with any store.
func storeFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "store", Sources: cli.EnvVars("CACHETRIP_STORE"), Hidden: openStore == nil,
		Usage: "use the cache in the store at `URL` instead, such as redis://localhost:6379",
	}
}

// cache is an open cache: a directory, or another store.
type cache struct {
	*cachetrip.Transport
	kept Store
	disk *store.Disk // nil for another store
	dir  string      // absolute path of the directory, or the name of another store
}

// cacheDir returns the absolute path of dir or, if that is empty, of the
// directory called name in the user's cache directory.
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

// openCache opens the cache in dir, or the one called name if dir is empty; see
// cacheDir. maxBytes is its size limit; 0 means the default.
func openCache(dir, name string, maxBytes int64) (*cache, error) {
	dir, err := cacheDir(dir, name)
	if err != nil {
		return nil, err
	}
	disk, err := store.OpenDisk(dir, store.DiskOptions{MaxBytes: maxBytes})
	if err != nil {
		return nil, fmt.Errorf("%w; name another directory with --dir", err)
	}
	return &cache{&cachetrip.Transport{Store: disk}, disk, disk, dir}, nil
}

// openExisting opens a cache to list it or to remove entries. It creates no
// cache. It evicts nothing, whatever the size limit of the programs that use
// the cache.
func openExisting(c *cli.Command) (*cache, error) {
	if url := c.String("store"); url != "" {
		return openElsewhere(url)
	}
	return openDir(c.String("dir"))
}

// openDir is openExisting for a directory; empty for the default.
func openDir(dir string) (*cache, error) {
	dir, err := cacheDir(dir, "http")
	if err != nil {
		return nil, err
	}
	// Every version of the format has this file.
	if _, err := os.Stat(filepath.Join(dir, "CACHEDIR.TAG")); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no cache in %s; fetch a URL with 'cachetrip get URL', or name another directory with --dir", dir)
	}
	return openCache(dir, "", unbounded)
}

// unbounded is a size limit that evicts nothing. It leaves room for sums of
// sizes.
const unbounded = math.MaxInt64 / 4

// openElsewhere opens the store at a URL, if this program supports such stores.
func openElsewhere(rawURL string) (*cache, error) {
	if openStore == nil {
		return nil, usagef("this program supports only directories; for Redis and Valkey, use cachetrip-redis\n" +
			"from github.com/cachetrip/cachetrip/store/redisstore/cmd")
	}
	kept, err := openStore(context.Background(), rawURL)
	if err != nil {
		return nil, err
	}
	name := "the store"
	if u, err := url.Parse(rawURL); err == nil {
		name = u.Redacted()
	}
	return &cache{&cachetrip.Transport{Store: kept}, kept, nil, name}, nil
}

// lastUse returns when the entries under key were last used; zero if the store
// does not record it.
func (c *cache) lastUse(key string) time.Time {
	if c.disk == nil {
		return time.Time{}
	}
	return c.disk.LastUse(key)
}

// remove removes the entries that match, and returns their number.
func (c *cache) remove(ctx context.Context, match func(*store.Entry) bool) (removed int, err error) {
	if c.disk != nil {
		return c.disk.Purge(ctx, "", match)
	}
	done := make(map[string]bool)
	for e, lerr := range c.kept.All(ctx, "") {
		if lerr != nil {
			return removed, errors.Join(err, lerr)
		}
		if done[e.Key] || !match(e) {
			continue
		}
		done[e.Key] = true
		n := 0
		err = errors.Join(err, c.kept.Update(ctx, e.Key, func(current []*store.Entry) []*store.Entry {
			left := slices.DeleteFunc(slices.Clone(current), match)
			if n = len(current) - len(left); n == 0 {
				return current
			}
			return left
		}))
		removed += n
	}
	return removed, err
}

// leaveTime is how long the program waits for the revalidation of a response
// that it served stale. The user has the response already. But if no run
// waited, the same stale response would be served until its grace period ends.
// It is a variable for tests.
var leaveTime = 2 * time.Second

// leaveSilently is how long leave waits before it tells the user why.
const leaveSilently = 200 * time.Millisecond

// leave closes a cache after the last request. It waits for revalidations for
// leaveTime at most, because one may take half a minute. After that the program
// ends, and its revalidations with it. Files are complete at all times, so
// nothing is damaged.
func (c *cache) leave(ctx context.Context, stderr io.Writer, quiet bool) {
	closed := make(chan error, 1)
	go func() { closed <- c.Close() }()
	say := func(text string) {
		if !quiet {
			fmt.Fprintln(stderr, text)
		}
	}
	silence, end := time.NewTimer(leaveSilently), time.NewTimer(leaveTime)
	defer silence.Stop()
	defer end.Stop()
	for {
		select {
		case err := <-closed:
			if err != nil { // the user has all bodies already
				fmt.Fprintf(stderr, "cachetrip: closing the cache: %v\n", err)
			}
			return
		case <-silence.C:
			say(fmt.Sprintf("revalidating the response that was served stale, for up to %s", leaveTime))
		case <-end.C:
			say("the origin has not answered yet; the next run asks it again")
			return
		case <-ctx.Done():
			return
		}
	}
}

// Close closes the Transport, then the store.
func (c *cache) Close() error { return errors.Join(c.Transport.Close(), c.kept.Close()) }
