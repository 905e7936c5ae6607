// Package encrypted makes the content of another store unreadable for anybody
// who has its files, or its memory, but not the key.
//
//	disk, err := store.OpenDisk(dir, store.DiskOptions{})
//	…
//	sealed, err := encrypted.New(disk, key)
//	…
//	cache := &cachetrip.Transport{Store: sealed}
//
// The package encrypts and authenticates the bodies of responses and all their
// metadata: URL, status, header and trailer, selecting fields, times. The keys
// of the store are digests that only the owner of the key can compute. Nobody
// else can confirm even a guess at a URL.
//
// An observer of the inner store still sees that it is a cache, and how many
// keys and variants there are. For each variant it sees the sizes of metadata
// and bodies to a few bytes, and the times of storing, validation and last use.
//
// An entry that somebody has changed, or that was stored with another key,
// counts as missing. An old version of an entry that somebody puts back is
// taken for the current one, as in any store. The same holds for an entry that
// the owner has purged, for as long as it is fresh.
//
// Each blob and each entry is encrypted with AES-256-GCM or ChaCha20-Poly1305,
// in the DARE 2.0 format of [github.com/minio/sio], in packages of 64 KiB. Each
// has a key of its own, which HKDF-SHA-256 derives from the given key and 32
// random bytes. The random bytes of a blob stand in the entry that names it, so
// that no blob can take the place of another.
package encrypted

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"

	"github.com/minio/sio"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// formatVersion is the version of what a Store writes. Any change of it needs
// another one.
const formatVersion = 1

const (
	// KeySize is the size of a key in bytes.
	KeySize = 32

	saltSize    = 32
	packageSize = 64 << 10 // of plain text in one package

	sealedField = "Sealed" // the header field of an inner entry that has the encrypted metadata
)

// Store encrypts entries and bodies and keeps them in another store. It is safe
// for concurrent use.
type Store struct {
	inner   store.Store
	master  []byte
	version int // of the format
}

var _ store.Store = (*Store)(nil)

// New returns a store that keeps everything in inner, encrypted with key. The
// key must be 32 bytes from crypto/rand, not a password. Keep it where only the
// program can read it. The caller closes inner. The new store does not find
// entries that inner has already, unencrypted or with another key; inner evicts
// them in time.
func New(inner store.Store, key []byte) (*Store, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("cachetrip: store: encrypted: the key has %d bytes, not %d", len(key), KeySize)
	}
	return &Store{inner: inner, master: bytes.Clone(key), version: formatVersion}, nil
}

// Evictions returns how many keys the inner store has evicted to keep its
// limits, or 0 if it does not count them.
func (s *Store) Evictions() uint64 {
	if evictor, ok := s.inner.(interface{ Evictions() uint64 }); ok {
		return evictor.Evictions()
	}
	return 0
}

// Lease asks the inner store for a lease. Processes that share a store wait for
// each other by leases. If the inner store has none, the lease is granted.
func (s *Store) Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool) {
	fleet, ok := s.inner.(interface {
		Lease(ctx context.Context, key, variant string) (func(shared bool), bool)
	})
	if !ok {
		return func(bool) {}, true
	}
	return fleet.Lease(ctx, key, variant)
}

// Secret implements [store.Store]. The secret also depends on the key, so that
// the inner store does not reveal it.
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	inner, err := s.inner.Secret(ctx)
	if err != nil {
		return nil, err
	}
	return s.derive(inner, "secret", "")
}

// Entries implements [store.Store].
func (s *Store) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	sealed, err := s.inner.Entries(ctx, key)
	var entries []*store.Entry
	for _, e := range sealed {
		if open, err := s.open(e); err == nil {
			entries = append(entries, open)
		}
	}
	return entries, err
}

// All implements [store.Store].
func (s *Store) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		for e, err := range s.inner.All(ctx, prefix) {
			if err == nil {
				if e, err = s.open(e); err != nil {
					continue
				}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	var failed error
	err := s.inner.Update(ctx, key, func(sealed []*store.Entry) []*store.Entry {
		failed = nil
		var current []*store.Entry
		known := make(map[*store.Entry]*store.Entry, len(sealed))
		for _, e := range sealed {
			if open, err := s.open(e); err == nil {
				current = append(current, open)
				known[open] = e
			}
		}
		next := change(slices.Clone(current))
		if slices.Equal(next, current) {
			return sealed
		}
		changed := make([]*store.Entry, 0, len(next))
		for _, e := range next {
			if e == nil {
				continue
			}
			if known[e] == nil {
				if known[e], failed = s.seal(key, e, sealed); failed != nil {
					return sealed
				}
			}
			changed = append(changed, known[e])
		}
		return changed
	})
	return errors.Join(failed, err)
}

// Open implements [store.Store].
func (s *Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	inner, salt, err := innerBlob(blob)
	if err != nil {
		return nil, err
	}
	body, err := s.inner.Open(ctx, key, inner)
	if err != nil {
		return nil, err
	}
	config, err := s.config(salt, "body", key)
	if err != nil {
		body.Close()
		return nil, err
	}
	reader, err := sio.DecryptReaderAt(body, config)
	if err != nil {
		body.Close()
		return nil, err
	}
	b := &openBody{inner: body, reader: reader, size: blob.Size}
	if blob.Size <= packageSize { // it must be verified before Open returns
		if _, err := b.chunk(0); err != nil {
			body.Close()
			return nil, err
		}
	}
	return b, nil
}

// Create implements [store.Store].
func (s *Store) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	if size > 0 {
		size = sealedSize(size)
	}
	inner, err := s.inner.Create(ctx, key, size)
	if err != nil {
		return nil, err
	}
	d := &draft{inner: inner, salt: newSalt()}
	config, err := s.config(d.salt, "body", key)
	if err == nil {
		d.reader, err = sio.DecryptReaderAt(inner, config)
	}
	if err == nil {
		d.writer, err = sio.EncryptWriter(struct{ io.Writer }{inner}, config) // without Close: the writer must not close inner
	}
	if err != nil {
		inner.Close()
		return nil, err
	}
	return d, nil
}

// seal returns e as the inner store keeps it. It does not encrypt the blobs
// that current names again.
func (s *Store) seal(key string, e *store.Entry, current []*store.Entry) (*store.Entry, error) {
	if err := entryset.CheckOwner(key, e.Key); err != nil {
		return nil, opError(err)
	}
	sealed := &store.Entry{Key: key, Method: http.MethodGet, Length: -1, ResponseTime: e.ResponseTime}
	var offset int64
	for _, part := range e.Parts {
		err := entryset.CheckPart(part.Offset, part.Length, part.Skip, part.Blob.Size, part.Blob.Inline)
		if err != nil {
			return nil, opError(err)
		}
		blob, err := s.sealBlob(key, part.Blob, current)
		if err != nil {
			return nil, err
		}
		sealed.Parts = append(sealed.Parts, store.Part{Offset: offset, Length: blob.Size, Blob: blob})
		offset += blob.Size
	}
	salt := newSalt()
	config, err := s.config(salt, "head", key)
	if err != nil {
		return nil, err
	}
	head, err := encrypt(salt, appendHead(nil, e), config)
	if err != nil {
		return nil, err
	}
	sealed.Header = http.Header{sealedField: {string(head)}}
	return sealed, nil
}

// sealBlob returns the blob of the inner store. It has the encrypted bytes if
// the blob is kept with its entry.
func (s *Store) sealBlob(key string, blob store.Blob, current []*store.Entry) (store.Blob, error) {
	inner, salt, err := innerBlob(blob)
	if err != nil {
		return inner, err
	}
	for _, e := range current {
		for _, part := range e.Parts {
			if part.Blob.ID == inner.ID && part.Blob.Size == inner.Size {
				return part.Blob, nil
			}
		}
	}
	if blob.Inline == nil {
		return inner, nil
	}
	config, err := s.config(salt, "body", key)
	if err != nil {
		return inner, err
	}
	inner.Inline, err = encrypt([]byte{}, blob.Inline, config)
	return inner, err
}

// open returns the entry that was sealed as e.
func (s *Store) open(e *store.Entry) (*store.Entry, error) {
	sealed := e.Header[sealedField]
	if len(sealed) != 1 || len(sealed[0]) < saltSize {
		return nil, store.ErrDamaged
	}
	salt, head := []byte(sealed[0][:saltSize]), []byte(sealed[0][saltSize:])
	config, err := s.config(salt, "head", e.Key)
	if err != nil {
		return nil, err
	}
	plain, err := decrypt(head, config)
	if err != nil {
		return nil, err
	}
	open, ok := parseHead(plain)
	if !ok || len(open.Parts) != len(e.Parts) {
		return nil, store.ErrDamaged
	}
	open.Key = e.Key
	for i := range open.Parts {
		blob, kept := &open.Parts[i].Blob, e.Parts[i].Blob
		inner, salt, err := innerBlob(*blob)
		if err != nil || inner.ID != kept.ID || inner.Size != kept.Size {
			return nil, store.ErrDamaged
		}
		if kept.Inline == nil {
			continue
		}
		config, err := s.config(salt, "body", e.Key)
		if err != nil {
			return nil, err
		}
		blob.Inline, err = decrypt(kept.Inline, config)
		if err != nil || int64(len(blob.Inline)) != blob.Size {
			return nil, store.ErrDamaged
		}
	}
	return open, nil
}

// opError says which store failed.
func opError(err error) error { return fmt.Errorf("cachetrip: store: encrypted: %w", err) }
