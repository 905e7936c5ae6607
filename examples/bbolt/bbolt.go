// Package bbolt keeps a cache in a file of go.etcd.io/bbolt. It shows how a
// store is written: it is complete, it uses only exported packages, and
// storetest checks it.
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
//   - The order of use is in memory, so reading does not write. It begins with the times of storing.
package bbolt

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/store"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	// DefaultMaxBytes is the size limit if the options have none: 256 MiB.
	DefaultMaxBytes = 256 << 20

	maxMetadata = 256 << 10 // of an entry, in bytes
	stagedTime  = 10 * time.Minute
)

// The bucket keys has the secret, and a bucket for each key: its entries, and
// its bodies by their IDs.
var keysName, secretName, entriesName = []byte("keys"), []byte("secret"), []byte("entries")

// Options are the options of a [Store].
type Options struct {
	// MaxBytes limits the size of what is stored, in bytes. One body has at
	// most a quarter of it. The file is a little larger, and does not shrink.
	// If 0, DefaultMaxBytes is used.
	MaxBytes int64
}

// Store is a store in a file. It is safe for concurrent use.
type Store struct {
	db     *bolt.DB
	max    int64
	secret []byte
	now    func() time.Time

	writing sync.Mutex // held by Update, until mu's fields agree with the file

	mu     sync.Mutex
	used   list.List                // of item, the key that was used last comes first
	items  map[string]*list.Element // by key
	size   int64                    // of all keys
	staged map[string]staged        // committed bodies that no entry names yet, by ID
}

type item struct {
	key    string
	size   int64
	stored time.Time // as far as Open needs it
}

type staged struct {
	body  []byte
	since time.Time
}

var _ store.Store = (*Store)(nil)

// Open opens a store, and makes the file if it does not exist. It fails after a
// second if another process has the file open.
func Open(path string, opts Options) (*Store, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, wrap("open", err)
	}
	s := &Store{db: db, max: opts.MaxBytes, now: time.Now, items: map[string]*list.Element{}, staged: map[string]staged{}}
	if s.max <= 0 {
		s.max = DefaultMaxBytes
	}
	if err := db.Update(s.load); err != nil {
		db.Close()
		return nil, wrap("open", err)
	}
	return s, nil
}

// load reads the secret, or makes one. It finds out which keys there are, and
// orders them by time.
func (s *Store) load(tx *bolt.Tx) error {
	keys, err := tx.CreateBucketIfNotExists(keysName)
	if err != nil {
		return err
	}
	var found []item
	keys.ForEachBucket(func(key []byte) error {
		it := item{key: string(key), size: sizeOf(keys.Bucket(key))}
		if entries := entriesOf(keys, it.key); len(entries) > 0 {
			it.stored = entries[0].ResponseTime
		}
		found = append(found, it)
		return nil
	})
	slices.SortFunc(found, func(a, b item) int { return a.stored.Compare(b.stored) })
	for _, it := range found {
		s.set(it)
	}
	if s.secret = proven(keys.Get(secretName)); s.secret == nil {
		s.secret = []byte(rand.Text() + rand.Text())
		err = keys.Put(secretName, prove(s.secret))
	}
	return err
}

// Close closes the file. Bodies that are open stay readable.
func (s *Store) Close() error { return wrap("close", s.db.Close()) }

// Entries implements [store.Store]. Damaged entries count as missing.
func (s *Store) Entries(ctx context.Context, key string) (entries []*store.Entry, err error) {
	err = s.view(ctx, key, func(keys *bolt.Bucket) { entries = entriesOf(keys, key) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if element := s.items[key]; element != nil {
		s.used.MoveToFront(element)
	}
	return entries, wrap("look up", err)
}

// view reads the bucket of keys.
func (s *Store) view(ctx context.Context, key string, read func(keys *bolt.Bucket)) error {
	return s.db.View(func(tx *bolt.Tx) error {
		read(tx.Bucket(keysName))
		return errors.Join(ctx.Err(), store.CheckKey(key))
	})
}

// Fits reports whether Update takes an entry. The cache asks before the body
// arrives.
func (s *Store) Fits(e *store.Entry) bool {
	return len(encode([]*store.Entry{e})) <= maxMetadata
}

// errUnchanged ends a transaction without writing.
var errUnchanged = errors.New("unchanged")

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if err := errors.Join(ctx.Err(), store.CheckKey(key)); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	sizes := map[string]int64{} // of the keys that change
	var next []*store.Entry
	err := s.db.Update(func(tx *bolt.Tx) (err error) {
		if ctx.Err() != nil {
			return ctx.Err() // it ended while this call waited for another one
		}
		keys := tx.Bucket(keysName)
		current := entriesOf(keys, key)
		if next = change(slices.Clone(current)); slices.Equal(current, next) {
			return errUnchanged
		}
		if next, err = store.Arrange(key, current, next); err != nil {
			return err
		}
		if sizes[key], err = s.write(keys, key, next); err != nil {
			return err
		}
		return s.evict(keys, key, sizes)
	})
	if err != nil && err != errUnchanged {
		return wrap("update", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, size := range sizes {
		s.set(item{key: key, size: size})
	}
	for id := range bodiesOf(next) {
		delete(s.staged, id)
	}
	return nil
}

// bodiesOf returns the IDs of the bodies that entries name.
func bodiesOf(entries []*store.Entry) map[string]bool {
	ids := map[string]bool{}
	for _, e := range entries {
		for _, p := range e.Parts {
			ids[p.Blob.ID] = true
		}
	}
	return ids
}

// write makes entries and their bodies all that is under a key, and returns
// their size.
func (s *Store) write(keys *bolt.Bucket, key string, entries []*store.Entry) (int64, error) {
	b, err := keys.CreateBucketIfNotExists([]byte(key))
	if err != nil {
		return 0, err
	}
	if len(entries) == 0 {
		return 0, keys.DeleteBucket([]byte(key))
	}
	if slices.ContainsFunc(entries, func(e *store.Entry) bool { return !s.Fits(e) }) {
		return 0, store.ErrTooLarge
	}
	named := bodiesOf(entries)
	var gone [][]byte
	b.ForEach(func(name, _ []byte) error {
		if !named[string(name)] {
			gone = append(gone, name)
		}
		return nil
	})
	for _, name := range gone {
		err = errors.Join(err, b.Delete(name))
	}
	for id := range named {
		if body := s.stagedBody(id); body != nil {
			err = errors.Join(err, b.Put([]byte(id), prove(body)))
		}
	}
	err = errors.Join(err, b.Put(entriesName, prove(encode(entries))))
	return sizeOf(b), err
}

// evict deletes the keys that were not used for longest until the size is
// within the limit, but not the key that was written. It notes in sizes which.
func (s *Store) evict(keys *bolt.Bucket, written string, sizes map[string]int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := s.size + sizes[written]
	if element := s.items[written]; element != nil {
		size -= element.Value.(item).size
	}
	for element := s.used.Back(); size > s.max; element = element.Prev() {
		if element == nil {
			return store.ErrTooLarge
		}
		if it := element.Value.(item); it.key != written {
			if err := keys.DeleteBucket([]byte(it.key)); err != nil {
				return err
			}
			size, sizes[it.key] = size-it.size, 0
		}
	}
	return nil
}

// set notes a key that was written now. The caller has mu, or is Open.
func (s *Store) set(it item) {
	if element := s.items[it.key]; element != nil {
		s.size -= s.used.Remove(element).(item).size
		delete(s.items, it.key)
	}
	if it.size > 0 {
		s.items[it.key] = s.used.PushFront(it)
		s.size += it.size
	}
}

// All implements [store.Store]. Update may be called while it reads.
func (s *Store) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		err := errors.Join(store.CheckPrefix(prefix), s.db.View(func(*bolt.Tx) error { return ctx.Err() }))
		s.mu.Lock()
		keys := slices.Sorted(maps.Keys(s.items))
		s.mu.Unlock()
		for _, key := range keys {
			var entries []*store.Entry
			if err == nil && strings.HasPrefix(key, prefix) {
				err = s.view(ctx, key, func(keys *bolt.Bucket) { entries = entriesOf(keys, key) })
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(nil, wrap("list", err))
		}
	}
}

// Secret implements [store.Store].
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	err := s.db.View(func(*bolt.Tx) error { return ctx.Err() })
	return bytes.Clone(s.secret), wrap("secret", err)
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	content := s.stagedBody(blob.ID)
	err := s.view(ctx, key, func(keys *bolt.Bucket) {
		if b := keys.Bucket([]byte(key)); b != nil && content == nil {
			content = proven(b.Get([]byte(blob.ID)))
		}
	})
	if err == nil && (content == nil || int64(len(content)) != blob.Size) {
		err = store.ErrDamaged
	}
	return body{bytes.NewReader(content)}, wrap("open body", err)
}

// body is an open body.
type body struct{ io.ReaderAt }

func (body) Close() error { return nil }

// stagedBody returns a committed body that no entry names yet, nil if there is
// none.
func (s *Store) stagedBody(id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.staged[id]; s.now().Sub(b.since) < stagedTime {
		return b.body
	}
	return nil
}

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	if size > s.max/4 {
		return nil, wrap("create", store.ErrTooLarge)
	}
	return &draft{s: s, content: []byte{}}, wrap("create", s.view(ctx, key, func(*bolt.Bucket) {}))
}

// draft is a body that is being written.
type draft struct {
	s *Store

	mu      sync.Mutex
	content []byte // nil after Close
	err     error  // of Write and Commit from now on
}

func (d *draft) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil && int64(len(d.content)+len(p)) > d.s.max/4 {
		d.err = wrap("write", store.ErrTooLarge)
	}
	if d.err != nil {
		return 0, d.err
	}
	d.content = append(d.content, p...)
	return len(p), nil
}

func (d *draft) ReadAt(p []byte, offset int64) (int, error) {
	d.mu.Lock()
	content := d.content
	d.mu.Unlock()
	if content == nil {
		return 0, wrap("read draft", fs.ErrClosed)
	}
	return bytes.NewReader(content).ReadAt(p, offset)
}

// Commit keeps the body in memory until an Update names it, or until nobody can
// be expected to.
func (d *draft) Commit() (store.Blob, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return store.Blob{}, d.err
	}
	d.err = wrap("write", fs.ErrClosed)
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, b := range s.staged {
		if s.now().Sub(b.since) >= stagedTime {
			delete(s.staged, id)
		}
	}
	blob := store.Blob{ID: rand.Text(), Size: int64(len(d.content))}
	s.staged[blob.ID] = staged{d.content, s.now()}
	return blob, nil
}

func (d *draft) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.content, d.err = nil, errors.Join(d.err, wrap("write", fs.ErrClosed))
	return nil
}

// entriesOf returns the entries of a key, none if they are missing or damaged.
func entriesOf(keys *bolt.Bucket, key string) (entries []*store.Entry) {
	b := keys.Bucket([]byte(key))
	if b == nil || gob.NewDecoder(bytes.NewReader(proven(b.Get(entriesName)))).Decode(&entries) != nil {
		return nil
	}
	return entries
}

func encode(entries []*store.Entry) []byte {
	var b bytes.Buffer
	gob.NewEncoder(&b).Encode(entries) // cannot fail for this type
	return b.Bytes()
}

// prove returns a value with its digest in front.
func prove(value []byte) []byte {
	sum := sha256.Sum256(value)
	return append(sum[:], value...)
}

// proven returns a copy of a value without its digest, nil if that is wrong.
// bbolt lets nobody use a value after its transaction.
func proven(value []byte) []byte {
	if len(value) < sha256.Size || !bytes.Equal(prove(value[sha256.Size:]), value) {
		return nil
	}
	return append([]byte{}, value[sha256.Size:]...)
}

// sizeOf returns the size of all values in a bucket, with their names.
func sizeOf(b *bolt.Bucket) (n int64) {
	b.ForEach(func(name, value []byte) error {
		n += int64(len(name) + len(value))
		return nil
	})
	return n
}

// wrap adds the operation to an error, and says in the words of package store
// what it means.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		err = store.ErrClosed
	}
	return fmt.Errorf("bbolt store: %s: %w", op, err)
}
