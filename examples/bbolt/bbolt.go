// Package bbolt keeps a cache in a file of go.etcd.io/bbolt. It shows how a store is written: it is
// complete, it uses only exported packages, and storetest checks it.
//
//	s, err := bbolt.Open("cache.db", bbolt.Options{})
//	cache := &cachetrip.Transport{Store: s}
//
// How it keeps the promises of package store:
//
//   - bbolt lets one transaction write at a time, so [Store.Update] is atomic. It locks its file, so
//     one process at a time has it open. Share a store.Disk or a Redis server instead.
//   - A body is in memory until an entry names it. Then one transaction writes both, so a crash
//     leaves no garbage. A body is in memory, too, while it is open: a transaction that stayed open
//     could block an Update.
//   - bbolt has no checksums of values. So each value begins with its digest.
//   - Reading does not write. The store notes in memory which keys are used, and the next Update
//     saves that for eviction.
package bbolt

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/store"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// DefaultMaxBytes is the size limit if the options have none: 256 MiB.
	DefaultMaxBytes = 256 << 20

	maxVariants = 64        // of a key
	maxMetadata = 256 << 10 // of an entry, in bytes
	stagedTime  = 10 * time.Minute
	pageKeys    = 100 // how many keys All reads at a time
)

// The buckets.
var (
	metadata = []byte("entries") // key → entries
	bodies   = []byte("bodies")  // key and blob ID → bytes
	order    = []byte("order")   // number of a use → key
	lastUse  = []byte("lastUse") // key → number of its last use
	other    = []byte("other")   // the secret, and the size of all entries and bodies
)

// Options are the options of a [Store].
type Options struct {
	// MaxBytes limits the size of what is stored, in bytes. One body has at most a quarter of it. The
	// file is a little larger, and does not shrink. If 0, DefaultMaxBytes is used.
	MaxBytes int64
}

// Store is a store in a file. It is safe for concurrent use.
type Store struct {
	db      *bolt.DB
	max     int64
	maxBody int64
	secret  []byte
	now     func() time.Time

	mu     sync.Mutex
	used   map[string]bool   // keys that were used since the last Update
	staged map[string]staged // committed bodies that no entry names yet, by ID
}

type staged struct {
	body  []byte
	since time.Time
}

var _ store.Store = (*Store)(nil)

// Open opens a store, and makes the file if it does not exist. It fails after a second if another
// process has the file open.
func Open(path string, opts Options) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, wrap("open", err)
	}
	s := &Store{db: db, max: opts.MaxBytes, now: time.Now, used: map[string]bool{}, staged: map[string]staged{}}
	if s.max <= 0 {
		s.max = DefaultMaxBytes
	}
	s.maxBody = s.max / 4
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{metadata, bodies, order, lastUse, other} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if err := setTotal(tx, sizeOf(tx, nil)); err != nil {
			return err
		}
		if secret, ok := proven(tx.Bucket(other).Get([]byte("secret"))); ok {
			s.secret = bytes.Clone(secret)
			return nil
		}
		s.secret = make([]byte, 32)
		rand.Read(s.secret)
		return tx.Bucket(other).Put([]byte("secret"), prove(s.secret))
	})
	if err != nil {
		db.Close()
		return nil, wrap("open", err)
	}
	return s, nil
}

// Close closes the file. Bodies that are open stay readable.
func (s *Store) Close() error { return wrap("close", s.db.Close()) }

// Entries implements [store.Store]. Damaged entries count as missing.
func (s *Store) Entries(ctx context.Context, key string) (entries []*store.Entry, err error) {
	if err := check(ctx, key); err != nil {
		return nil, err
	}
	err = s.db.View(func(tx *bolt.Tx) error {
		entries = load(tx, []byte(key))
		return nil
	})
	if len(entries) > 0 {
		s.mu.Lock()
		s.used[key] = true
		s.mu.Unlock()
	}
	return entries, wrap("look up", err)
}

// Fits reports whether Update takes an entry. The cache asks before the body arrives.
func (s *Store) Fits(e *store.Entry) bool {
	encoded, err := encode([]*store.Entry{e})
	return err == nil && len(encoded) <= maxMetadata
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	var named []string
	err := s.db.Update(func(tx *bolt.Tx) error {
		if err := ctx.Err(); err != nil {
			return err // it ended while this call waited for another one
		}
		k := []byte(key)
		current := load(tx, k)
		next := change(slices.Clone(current))
		if slices.Equal(current, next) {
			return nil
		}
		before := sizeOf(tx, k)
		next, err := arrange(key, current, next)
		if err != nil {
			return err
		}
		if named, err = s.keep(tx, k, next); err != nil {
			return err
		}
		if err := s.saveUse(tx, k, len(next) > 0); err != nil {
			return err
		}
		return s.evict(tx, k, total(tx)+sizeOf(tx, k)-before)
	})
	if err != nil {
		return wrap("update", err)
	}
	s.mu.Lock()
	for _, id := range named {
		delete(s.staged, id)
	}
	s.mu.Unlock()
	return nil
}

// keep writes the entries of a key, with the staged bodies that they name. It removes the bodies that
// they do not name. It returns the IDs of those that they name.
func (s *Store) keep(tx *bolt.Tx, key []byte, next []*store.Entry) (named []string, err error) {
	for _, e := range next {
		for _, p := range e.Parts {
			named = append(named, p.Blob.ID)
		}
	}
	b := tx.Bucket(bodies)
	for _, name := range namesWith(b, key) {
		if !slices.Contains(named, string(name[len(key):])) {
			if err := b.Delete(name); err != nil {
				return nil, err
			}
		}
	}
	for _, id := range named {
		if body, ok := s.stagedBody(id); ok {
			if err := b.Put(slices.Concat(key, []byte(id)), prove(body)); err != nil {
				return nil, err
			}
		}
	}
	if len(next) == 0 {
		return nil, tx.Bucket(metadata).Delete(key)
	}
	encoded, err := encode(next)
	if err != nil {
		return nil, err
	}
	return named, tx.Bucket(metadata).Put(key, prove(encoded))
}

// saveUse makes the keys that were used since the last Update the last ones to be evicted.
func (s *Store) saveUse(tx *bolt.Tx, key []byte, kept bool) error {
	s.mu.Lock()
	used := s.used
	s.used = map[string]bool{}
	s.mu.Unlock()
	used[string(key)] = true
	for name := range used {
		k := []byte(name)
		if err := forget(tx, k); err != nil {
			return err
		}
		if tx.Bucket(metadata).Get(k) == nil {
			continue
		}
		n, err := tx.Bucket(order).NextSequence()
		if err != nil {
			return err
		}
		at := fmt.Appendf(nil, "%016x", n)
		if err := errors.Join(tx.Bucket(order).Put(at, k), tx.Bucket(lastUse).Put(k, at)); err != nil {
			return err
		}
	}
	return nil
}

// forget removes a key from the order of use.
func forget(tx *bolt.Tx, key []byte) error {
	if at := tx.Bucket(lastUse).Get(key); at != nil {
		return errors.Join(tx.Bucket(order).Delete(at), tx.Bucket(lastUse).Delete(key))
	}
	return nil
}

// evict removes the keys that were not used for longest, but not spared, until size is within the
// limit. size is the size of what the transaction has left so far.
func (s *Store) evict(tx *bolt.Tx, spared []byte, size int64) error {
	for size > s.max {
		_, key := tx.Bucket(order).Cursor().First()
		if key == nil || bytes.Equal(key, spared) {
			return store.ErrTooLarge
		}
		key = bytes.Clone(key)
		size -= sizeOf(tx, key)
		for _, name := range namesWith(tx.Bucket(bodies), key) {
			if err := tx.Bucket(bodies).Delete(name); err != nil {
				return err
			}
		}
		if err := errors.Join(forget(tx, key), tx.Bucket(metadata).Delete(key)); err != nil {
			return err
		}
	}
	return setTotal(tx, size)
}

// All implements [store.Store]. It reads some keys at a time, so that Update may be called meanwhile.
func (s *Store) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		if !isHex(prefix) || len(prefix) > 64 {
			yield(nil, wrap("list", fmt.Errorf("%.80q is not the beginning of a key", prefix)))
			return
		}
		for from := []byte(prefix); from != nil; {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			var page []*store.Entry
			err := s.db.View(func(tx *bolt.Tx) error {
				c := tx.Bucket(metadata).Cursor()
				k, _ := c.Seek(from)
				for range pageKeys {
					if !bytes.HasPrefix(k, []byte(prefix)) {
						k = nil
					}
					if k == nil {
						break
					}
					page = append(page, load(tx, k)...)
					k, _ = c.Next()
				}
				from = bytes.Clone(k)
				return nil
			})
			if err != nil {
				yield(nil, wrap("list", err))
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Secret implements [store.Store].
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return bytes.Clone(s.secret), wrap("secret", s.db.View(func(*bolt.Tx) error { return nil }))
}

// arrange returns the entries to store, the most recently stored first, and not too many. An entry is
// kept if the key had it before.
func arrange(key string, current, next []*store.Entry) ([]*store.Entry, error) {
	var fresh, kept []*store.Entry
	for i, e := range next {
		if e == nil || slices.Contains(next[:i], e) {
			continue
		}
		if slices.Contains(current, e) {
			kept = append(kept, e)
			continue
		}
		if e.Key != key {
			return nil, fmt.Errorf("an entry of key %.80q", e.Key)
		}
		for _, p := range e.Parts {
			size := p.Blob.Size
			if p.Offset < 0 || p.Length < 0 || p.Skip < 0 || size < 0 || p.Skip > size || p.Length > size-p.Skip ||
				p.Blob.Inline != nil && int64(len(p.Blob.Inline)) != size {
				return nil, fmt.Errorf("a part that lies outside of its blob of %d bytes", size)
			}
		}
		if encoded, err := encode([]*store.Entry{e}); err != nil || len(encoded) > maxMetadata {
			return nil, errors.Join(store.ErrTooLarge, err)
		}
		fresh = append(fresh, e)
	}
	for len(fresh)+len(kept) > maxVariants {
		from := &kept
		if len(kept) == 0 {
			from = &fresh
		}
		oldest := 0
		for i, e := range *from {
			if !e.ResponseTime.After((*from)[oldest].ResponseTime) {
				oldest = i
			}
		}
		*from = slices.Delete(*from, oldest, oldest+1)
	}
	return append(fresh, kept...), nil
}

// load returns the entries of a key, none if they are missing or damaged.
func load(tx *bolt.Tx, key []byte) (entries []*store.Entry) {
	value, ok := proven(tx.Bucket(metadata).Get(key))
	if !ok || gob.NewDecoder(bytes.NewReader(value)).Decode(&entries) != nil {
		return nil
	}
	return entries
}

func encode(entries []*store.Entry) ([]byte, error) {
	entries = slices.Clone(entries)
	for i, e := range entries {
		entries[i] = e.Clone()
		for j := range entries[i].Parts {
			entries[i].Parts[j].Blob.Inline = nil // the bytes are in a bucket of their own
		}
	}
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(entries)
	return b.Bytes(), err
}

// prove returns a value with its digest in front, proven the value without it.
func prove(value []byte) []byte {
	sum := sha256.Sum256(value)
	return append(sum[:], value...)
}

func proven(value []byte) ([]byte, bool) {
	if len(value) < sha256.Size {
		return nil, false
	}
	sum := sha256.Sum256(value[sha256.Size:])
	return value[sha256.Size:], bytes.Equal(sum[:], value[:sha256.Size])
}

// namesWith returns the names in a bucket that begin with a prefix.
func namesWith(b *bolt.Bucket, prefix []byte) (names [][]byte) {
	c := b.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		names = append(names, bytes.Clone(k))
	}
	return names
}

// total returns the size of all entries and bodies, as setTotal has saved it.
func total(tx *bolt.Tx) (n int64) {
	fmt.Sscan(string(tx.Bucket(other).Get([]byte("size"))), &n)
	return n
}

func setTotal(tx *bolt.Tx, n int64) error {
	return tx.Bucket(other).Put([]byte("size"), fmt.Append(nil, n))
}

// sizeOf returns the size of the entries and the bodies whose names begin with key.
func sizeOf(tx *bolt.Tx, key []byte) (n int64) {
	for _, name := range [][]byte{metadata, bodies} {
		c := tx.Bucket(name).Cursor()
		for k, v := c.Seek(key); k != nil && bytes.HasPrefix(k, key); k, v = c.Next() {
			n += int64(len(k) + len(v))
		}
	}
	return n
}

func check(ctx context.Context, key string) error {
	if len(key) != 64 || !isHex(key) {
		return wrap("check key", fmt.Errorf("%.80q is not 64 hexadecimal digits", key))
	}
	return ctx.Err()
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s + s[:len(s)%2])
	return err == nil && bytes.Equal(bytes.ToLower([]byte(s)), []byte(s))
}

// wrap adds the operation to an error, and says in the words of package store what it means.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		err = store.ErrClosed
	}
	return fmt.Errorf("bbolt store: %s: %w", op, err)
}

// body is an open body.
type body struct{ io.ReaderAt }

func (body) Close() error { return nil }
