package redisstore

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// Listing. The entries of one URL are in up to 64 hashes, one for each group of
// identities. To list more, the store scans all keys of all servers.

const (
	// scanCount is how many keys the server looks at for one answer, which
	// takes a fraction of a millisecond.
	scanCount = 500

	// batch is the number of groups whose identities are requested together.
	batch = 64

	// maxSeen is how many groups are remembered so that none is listed twice.
	maxSeen = 1 << 20

	// fieldCount is the number of identities in one answer. The value of each
	// can have 1 MiB.
	fieldCount = 16

	// listTime limits one step of a listing. No request waits for a listing.
	listTime = 5 * time.Second
)

// All implements [store.Store]. If prefix is shorter than the URL's half of a
// key, the servers scan all of their keys, including keys of other
// applications.
func (s *Store) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		err := s.usable(ctx)
		if err == nil {
			err = checkPrefix(prefix)
		}
		if err == nil && len(prefix) >= urlLen {
			// Requests wait for this, so it has the time limit of a lookup.
			err = s.allOf(ctx, groupsOf(prefix), prefix, s.opts.LookupTimeout, yield)
		} else if err == nil {
			err = s.scan(ctx, prefix, yield)
		}
		if err != nil {
			if cerr := ctx.Err(); cerr != nil {
				err = cerr
			}
			yield(nil, opError("list", err))
		}
	}
}

// scan lists the entries of all keys that begin with prefix.
func (s *Store) scan(ctx context.Context, prefix string, yield func(*store.Entry, error) bool) error {
	c, err := s.connected(ctx)
	if err != nil {
		return err
	}
	start := s.opts.Prefix + ":" + format + ":{"
	// The scan may return a key twice. During a change of the cluster, two
	// servers may return it.
	seed, seen := maphash.MakeSeed(), make(map[uint64]bool)
	for _, node := range c.metadata.Nodes() {
		if c.metadata.Mode() == rueidis.ClientModeCluster { // skip replicas, which hold copies
			role, err := step(s, ctx, func(ctx context.Context) ([]rueidis.RedisMessage, error) {
				return node.Do(ctx, node.B().Role().Build()).ToArray()
			})
			if err != nil {
				return err
			}
			if len(role) == 0 {
				continue
			}
			if name, _ := role[0].ToString(); name != "master" {
				continue
			}
		}
		for cursor := uint64(0); ; {
			found, err := step(s, ctx, func(ctx context.Context) (rueidis.ScanEntry, error) {
				return node.Do(ctx, node.B().Scan().Cursor(cursor).Match(start+prefix+"*}"+metadataPart+"??").Count(scanCount).Build()).AsScanEntry()
			})
			if err != nil {
				return err
			}
			var groups []string
			for _, name := range found.Elements {
				url, digits, ok := strings.Cut(strings.TrimPrefix(name, start), "}"+metadataPart)
				group := url + digits
				if h := maphash.String(seed, group); ok && len(url) == urlLen && len(group) == groupLen && entryset.IsHex(group) && !seen[h] {
					if len(seen) == maxSeen {
						clear(seen)
					}
					seen[h] = true
					groups = append(groups, group)
				}
			}
			for groups := range slices.Chunk(groups, batch) {
				resps, err := step(s, ctx, func(ctx context.Context) ([]rueidis.RedisResult, error) { return s.firstOf(ctx, c, groups), nil })
				if err != nil {
					return err
				}
				if more, err := s.allFromEach(ctx, groups, prefix, listTime, resps, yield); err != nil || !more {
					return err
				}
			}
			if cursor = found.Cursor; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// allOf lists the entries of groups of one URL whose keys begin with prefix.
func (s *Store) allOf(ctx context.Context, groups []string, prefix string, budget time.Duration, yield func(*store.Entry, error) bool) error {
	resps, err := run(s, s.metadata, ctx, groups[0], budget, func(ctx context.Context, c *connection) ([]rueidis.RedisResult, error) {
		resps := s.firstOf(ctx, c, groups)
		for _, resp := range resps {
			if err := resp.NonRedisError(); err != nil {
				return nil, err
			}
		}
		return resps, nil
	})
	if err == nil {
		_, err = s.allFromEach(ctx, groups, prefix, budget, resps, yield)
	}
	return err
}

// firstOf asks for the first identities of each group.
func (s *Store) firstOf(ctx context.Context, c *connection, groups []string) []rueidis.RedisResult {
	cmds := make(rueidis.Commands, len(groups))
	for i, group := range groups {
		cmds[i] = s.fields(c, group, 0)
	}
	return c.metadata.DoMulti(ctx, cmds...)
}

// allFromEach lists the entries of groups, of which resps are the first answers. more
// is false if the caller of All has stopped.
func (s *Store) allFromEach(ctx context.Context, groups []string, prefix string, budget time.Duration, resps []rueidis.RedisResult, yield func(*store.Entry, error) bool) (more bool, err error) {
	for i, resp := range resps {
		answer, err := resp.AsScanEntry()
		if more, err := s.allFrom(ctx, groups[i], prefix, budget, answer, err, yield); err != nil || !more {
			return more, err
		}
	}
	return true, nil
}

// fields returns the command for the next identities of a group.
func (s *Store) fields(c *connection, group string, cursor uint64) rueidis.Completed {
	return c.metadata.B().Hscan().Key(s.groupName(group)).Cursor(cursor).Count(fieldCount).Build()
}

func (s *Store) someOf(ctx context.Context, group string, cursor uint64, budget time.Duration) (rueidis.ScanEntry, error) {
	return run(s, s.metadata, ctx, group, budget, func(ctx context.Context, c *connection) (rueidis.ScanEntry, error) {
		return c.metadata.Do(ctx, s.fields(c, group, cursor)).AsScanEntry()
	})
}

// allFrom lists the entries in the first answer for a group and in those that
// follow. err is the error of the first answer.
func (s *Store) allFrom(ctx context.Context, group, prefix string, budget time.Duration, answer rueidis.ScanEntry, err error, yield func(*store.Entry, error) bool) (more bool, _ error) {
	seen := make(map[string]bool)
	for ; ; answer, err = s.someOf(ctx, group, answer.Cursor, budget) {
		if err != nil {
			if e, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(e.Error(), "WRONGTYPE") {
				return true, nil // not a key of this package
			}
			return false, err
		}
		for i := 0; i+1 < len(answer.Elements); i += 2 {
			identity, value := answer.Elements[i], answer.Elements[i+1]
			key := group[:urlLen] + identity
			if checkKey(key) != nil || !strings.HasPrefix(key, prefix) || seen[identity] {
				continue
			}
			seen[identity] = true
			entries, err := decodeValue(key, []byte(value))
			if err != nil {
				continue
			}
			for _, e := range entries {
				if err := ctx.Err(); err != nil {
					return false, err
				}
				if !yield(e, nil) {
					return false, nil
				}
			}
		}
		if answer.Cursor == 0 {
			return true, nil
		}
	}
}

// step makes one request that no reader waits for. It fails when ctx ends, or
// after listTime.
func step[T any](s *Store, ctx context.Context, ask func(context.Context) (T, error)) (result T, err error) {
	limited, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	if !s.metadata.take(limited.Done()) {
		return result, errCrowded
	}
	defer s.metadata.giveBack()
	result, err = orLeave(s, limited.Done(), func() (T, error) { return ask(context.WithoutCancel(ctx)) })
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return result, err
}
