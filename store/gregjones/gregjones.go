// Package gregjones keeps a cache in any cache that was made for
// github.com/gregjones/httpcache or its forks. Such a cache is a map from names
// to values: on disk, in Redis or memcached, or an LRU in memory.
//
//	cache := &cachetrip.Transport{Store: gregjones.New(lru, gregjones.Options{})}
//
// It is a bridge for programs that have such a cache and want to keep it. A map
// of whole values cannot keep some promises of [store.Disk] and [store.Memory]:
//
//   - A body is one value. It is in memory when it is stored and when it is served. While it
//     arrives, the bytes after the first 64 KiB are in a temporary file. Bodies larger than
//     Options.MaxBody are not stored.
//   - Each change of an entry writes the metadata of all variants and identities of its URL again.
//   - Updates are atomic within one Store. Two processes that share a cache, or two Stores in
//     one process, can lose each other's updates. Then a stored response is fetched again, or
//     an invalidation is lost because the other process stores something for the same URL at
//     that moment.
//   - Only the cache limits the size, if anything does. Responses that it drops are not counted in
//     Stats.Evictions. Bodies left over from a crash or a lost update stay until the cache
//     drops them.
//   - [Store.All] with fewer than 32 digits of a key finds only the keys of an index in the cache.
//     It does not list entries whose part of the index the cache has dropped. A lookup by
//     URL still finds them.
//   - If the cache fails without an error, it looks empty: Get has no error.
//
// The package keeps all other promises of package store, and storetest checks
// them. Each value has a digest. An open body outlives its release. No key,
// name or value contains a credential. The names of values begin with
// "cachetrip1:". The package neither reads nor changes values that
// gregjones/httpcache itself has stored.
package gregjones

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// Cache is the interface of github.com/gregjones/httpcache. It has to be safe
// for concurrent use.
type Cache interface {
	Get(key string) (responseBytes []byte, ok bool) // ok is false if there is nothing
	Set(key string, responseBytes []byte)           // it may fail, or be undone, at any time
	Delete(key string)                              // it does nothing if there is no value
}

// Options configures a [Store].
type Options struct {
	// MaxBody is the size, in bytes, of the largest body that is stored. 0
	// means DefaultMaxBody.
	MaxBody int64
}

const (
	// DefaultMaxBody is the limit if the options have none: 16 MiB, because the
	// whole body is in memory.
	DefaultMaxBody = 16 << 20

	prefix      = "cachetrip1:" // of all names; the digit is the version of the format
	maxVariants = entryset.MaxVariants
	maxMetadata = entryset.MaxMetadata

	// maxHeads limits the metadata of all variants and identities of a URL, in
	// bytes, because it is written at once. Beyond it the identities that
	// stored nothing for longest are dropped.
	maxHeads = 1 << 20
)

// Store keeps entries and bodies in a [Cache]. It is safe for concurrent use.
type Store struct {
	cache   Cache
	maxBody int64

	// Updates take turns by the first two digits of the key: as many as there
	// are parts of the index.
	turns [256]chan struct{}

	mu     sync.Mutex
	secret []byte
}

var _ store.Store = (*Store)(nil)

// New returns a store that keeps everything in cache. No two Stores should use
// one cache at the same time.
func New(cache Cache, opts Options) *Store {
	s := &Store{cache: cache, maxBody: opts.MaxBody}
	if s.maxBody <= 0 {
		s.maxBody = DefaultMaxBody
	}
	for i := range s.turns {
		s.turns[i] = make(chan struct{}, 1)
	}
	return s
}

// A value is a digest of the rest, followed by the rest.

// get returns a value without its digest. ok is false if the digest is wrong.
func (s *Store) get(name string) ([]byte, bool) {
	value, ok := s.cache.Get(prefix + name)
	if !ok || len(value) < sha256.Size {
		return nil, false
	}
	sum := sha256.Sum256(value[sha256.Size:])
	return value[sha256.Size:], bytes.Equal(sum[:], value[:sha256.Size])
}

// set stores a value. The caller has left room for the digest in front.
func (s *Store) set(name string, value []byte) {
	sum := sha256.Sum256(value[sha256.Size:])
	copy(value, sum[:])
	s.cache.Set(prefix+name, value)
}

func headsName(url string) string    { return "heads:" + url }
func bodyName(key, id string) string { return "body:" + key + ":" + id }
func indexName(part string) string   { return "index:" + part }

// Entries implements [store.Store].
func (s *Store) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	return find(s.heads(key[:entryset.URLLen]), key), nil
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	part, _ := strconv.ParseUint(key[:2], 16, 8)
	select {
	case s.turns[part] <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.turns[part] }()

	url := key[:entryset.URLLen]
	before := s.heads(url)
	current := find(before, key)
	next := change(slices.Clone(current))
	if slices.Equal(current, next) {
		return nil
	}
	next, err := store.Arrange(key, current, next)
	if err != nil {
		return opError("update", err)
	}
	for _, e := range next {
		if err := checkBlobs(e); err != nil {
			return opError("update", err)
		}
	}
	after := slices.DeleteFunc(slices.Clone(before), func(sl slot) bool { return sl.Key == key })
	if len(next) > 0 {
		after = append([]slot{{key, next}}, after...)
	}
	value, after, err := encode(after)
	if err != nil {
		return err
	}
	if len(after) == 0 {
		s.cache.Delete(prefix + headsName(url))
	} else {
		s.set(headsName(url), value)
	}
	if (len(before) == 0) != (len(after) == 0) {
		s.index(key[:2], url, len(after) > 0)
	}
	s.release(before, after)
	return nil
}

// checkBlobs returns an error unless the blobs of e are of this store.
func checkBlobs(e *store.Entry) error {
	for _, p := range e.Parts {
		if !isID(p.Blob.ID) {
			return fmt.Errorf("blob %q is not of this store", p.Blob.ID)
		}
	}
	return nil
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	value, ok := []byte(nil), false
	if isID(blob.ID) {
		value, ok = s.get(bodyName(key, blob.ID))
	}
	if !ok || int64(len(value)) != blob.Size {
		return nil, opError("open body", store.ErrDamaged)
	}
	return body{bytes.NewReader(value)}, nil
}

// body is a stored body; a bytes.Reader's ReadAt is safe for concurrent use.
type body struct{ io.ReaderAt }

func (body) Close() error { return nil }

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	if size > s.maxBody {
		return nil, opError("create", store.ErrTooLarge)
	}
	return &draft{store: s, key: key}, nil
}

// Secret implements [store.Store]. If the cache drops the secret, entries that
// depend on it are not found any more.
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secret == nil {
		value, ok := s.get("secret")
		if !ok || len(value) < 32 {
			made := make([]byte, sha256.Size+32)
			crand.Read(made[sha256.Size:])
			s.set("secret", made)
			value = made[sha256.Size:]
		}
		s.secret = bytes.Clone(value)
	}
	return bytes.Clone(s.secret), nil
}

func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return opError("check key", entryset.CheckKey(key))
}

func isID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// opError adds the operation to an error.
func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cachetrip: store: gregjones: %s: %w", op, err)
}
