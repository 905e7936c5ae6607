package gregjones

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// This file has the index, which All needs: a value for each two first digits of
// keys, with the URLs' halves of the keys.

// index notes whether anything is stored for url.
func (s *Store) index(part, url string, stored bool) {
	urls := s.listed(part)
	if at, found := slices.BinarySearch(urls, url); found == stored {
		return
	} else if stored {
		urls = s.prune(slices.Insert(urls, at, url), at)
	} else {
		urls = slices.Delete(urls, at, at+1)
	}
	if len(urls) == 0 {
		s.cache.Delete(prefix + indexName(part))
		return
	}
	s.set(indexName(part), append(make([]byte, sha256.Size), strings.Join(urls, "\n")...))
}

// pruneTries is how many URLs are looked up for each one that is added to the
// index. If the cache drops as many as are added, about a third of those in the
// index are dropped ones.
const pruneTries = 3

// prune looks up some URLs of a part of the index at random, except the one at
// keep, and removes those whose entries the cache has dropped.
func (s *Store) prune(urls []string, keep int) []string {
	for range min(pruneTries, len(urls)-1) {
		i := rand.IntN(len(urls))
		if i == keep {
			continue
		}
		if _, ok := s.cache.Get(prefix + headsName(urls[i])); !ok {
			urls = slices.Delete(urls, i, i+1)
			if i < keep {
				keep--
			}
		}
	}
	return urls
}

// listed returns the URLs in a part of the index, in order.
func (s *Store) listed(part string) []string {
	value, ok := s.get(indexName(part))
	if !ok || len(value) == 0 {
		return nil
	}
	return strings.Split(string(value), "\n")
}

// All implements [store.Store].
func (s *Store) All(ctx context.Context, keyPrefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		if err := entryset.CheckPrefix(keyPrefix); err != nil {
			yield(nil, opError("list", err))
			return
		}
		for url := range s.urls(keyPrefix) {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			for _, sl := range s.heads(url) {
				for _, e := range sl.Entries {
					if strings.HasPrefix(sl.Key, keyPrefix) && !yield(e, nil) {
						return
					}
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// urls returns the URLs whose keys can begin with keyPrefix.
func (s *Store) urls(keyPrefix string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if len(keyPrefix) >= entryset.URLLen {
			yield(keyPrefix[:entryset.URLLen])
			return
		}
		for i := range len(s.turns) {
			part := fmt.Sprintf("%02x", i)
			if n := min(len(part), len(keyPrefix)); part[:n] != keyPrefix[:n] {
				continue
			}
			for _, url := range s.listed(part) {
				if strings.HasPrefix(url, keyPrefix) && !yield(url) {
					return
				}
			}
		}
	}
}
