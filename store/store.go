// Package store keeps the responses of a cache: a map from a key to a small set of entries, one
// per variant, and a bag of bodies.
//
// An [Entry] is the head of a stored response and names the blobs that hold its body. Blobs are
// written once and never change. Storing a response, freshening one, invalidating, purging and
// dropping a variant are therefore all the same operation, [Store.Update], with another function,
// and a body is never rewritten.
//
// [Disk] keeps a cache in a directory, [Memory] in the process. Package storetest checks that an
// implementation keeps what this package promises.
//
// # One origin's share
//
// All origins and identities share one bound, and what goes first is what was not used for longest. But an
// origin that has more than half of the bound gives way first: as long as it has, what is evicted is what it has
// not used for longest, and what others have stored stays. So an origin that is asked for much, or answers with
// much, or is followed to wherever its links lead, takes no more than half of the cache at the expense of others. That
// is counted by what this Disk or Memory has stored itself, and by what it learns while it evicts. Below half, an origin
// can push out what others have not used for longer. That costs misses: it never gives anybody wrong bytes, or those of
// another key. A body may take no more than a quarter of the bound, and a key has at most 64 variants.
package store

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/redact"
)

var (
	// ErrDamaged reports that what is stored does not prove itself: a checksum or a length is
	// wrong, or a blob that an entry names is not there.
	ErrDamaged = errors.New("store: damaged")

	// ErrTooLarge reports something over the store's bounds, which is therefore not kept.
	ErrTooLarge = errors.New("store: too large to keep")

	// ErrClosed reports that the store was closed.
	ErrClosed = errors.New("store: closed")
)

// A Store keeps entries and bodies. It is safe for concurrent use, and never holds a lock while a
// caller reads or writes a body.
//
// Keys are 64 lower-case hexadecimal digits. The first 32 stand for the URL, so that all keys of
// one URL share a prefix; the rest for the identity on whose behalf it was requested.
type Store interface {
	// Entries returns what is stored under key, the most recently stored first; none is no error.
	// Looking an entry up counts as using it. Entries are shared: callers must not change them.
	Entries(ctx context.Context, key string) ([]*Entry, error)

	// Update replaces the entries under key by change(current), atomically with respect to every
	// other Update of key, in this process or another. change may be called more than once, must
	// not change the entries that it is given, and must be quick: a lock may be held. If it returns
	// the very slice that it was given, nothing is written. Blobs that no entry names any more are
	// released. An entry over the store's bounds makes Update fail with ErrTooLarge and leaves what
	// was there. A store that also has a method Fits(*Entry) bool is asked before the body of a
	// response arrives whether it keeps its header, so that nobody is told that it is stored if not.
	Update(ctx context.Context, key string, change func([]*Entry) []*Entry) error

	// Open opens a blob that an entry under key names. It stays readable until closed, even if
	// released meanwhile. A blob up to 64 KiB is verified before Open returns, a larger one in
	// pieces before their bytes are given; damage is ErrDamaged in both cases.
	Open(ctx context.Context, key string, blob Blob) (Body, error)

	// Create stages a new blob of size bytes, or of an unknown number if size is negative, to be
	// named by an entry under key. It fails with ErrTooLarge if size is over the bounds.
	Create(ctx context.Context, key string, size int64) (Draft, error)

	// All returns every entry whose key begins with prefix, in no particular order, for tools and
	// for what concerns a whole URL. It does not count as using them. What is damaged is left out.
	All(ctx context.Context, prefix string) iter.Seq2[*Entry, error]

	// Secret returns at least 32 random bytes that were made when the store was, and are the same
	// for all its users. Digests of what must not be stored in clear are keyed with them.
	Secret(ctx context.Context) ([]byte, error)
}

// Entry is the head of a stored response. Entries are values once stored: to change one, change a
// [Entry.Clone] within [Store.Update].
type Entry struct {
	Key    string // the key that the entry is stored under
	URL    string // the target URI, without user information and fragment
	Method string // "GET", or "HEAD" for a response that came without content

	Status  int         // of the response, of three digits
	Proto   string      // the version of HTTP that the response came in, such as "HTTP/2.0"
	Header  http.Header // of the response, as it was last updated, without what concerned the connection alone
	Trailer http.Header // nil if there was none

	// Selecting holds the normalised values, or digests of them, that the original request had in
	// the fields nominated by Vary; a field that it did not have is absent. RFC 9111, section 4.1.
	Selecting map[string]string

	RequestTime  time.Time // when the request that led to the response, or to its last validation, was made
	ResponseTime time.Time // when that response was received

	// InvalidatedAt is when the entry was marked as in need of validation before any further use;
	// zero if it was not. RFC 9111, section 4.4.
	InvalidatedAt time.Time

	// Uncompressed tells that the body was decompressed on arrival, unseen by origin and caller, so
	// that its bytes are not those that the origin's offsets and lengths speak of.
	Uncompressed bool

	// ForeignCredentials tells that the request was given other credentials or selecting fields
	// below the cache, so that the cache can't know for whom the response is.
	ForeignCredentials bool

	// Length is the length of the complete body in bytes, -1 if it is not known.
	Length int64

	// Parts are the parts of the body that are held, in order and without overlap. A body is
	// complete if they cover all of Length.
	Parts []Part
}

// Part is a stretch of a body: Length bytes at Offset of the body are those at Skip of Blob.
type Part struct {
	Offset int64 // in the body, in bytes
	Length int64 // in bytes
	Skip   int64 // where the stretch begins in Blob, in bytes
	Blob   Blob
}

// Blob names bytes that a store keeps.
type Blob struct {
	ID     string // chosen by the store: letters and digits
	Size   int64  // in bytes
	Inline []byte // the bytes, if the store keeps them with the entry; must not be changed
}

// Body reads a stored blob. It is safe for concurrent use but for Close.
type Body interface {
	io.ReaderAt
	io.Closer
}

// Draft is a blob that is being written, by one goroutine; it may be read by others meanwhile.
type Draft interface {
	// Write appends. It fails with ErrTooLarge once the blob is over the store's bounds. What was
	// written before an error stays readable.
	io.Writer

	// ReaderAt reads what has been written so far, at once; at its end it returns io.EOF.
	// It may be used until Close, after Commit too.
	io.ReaderAt

	// Commit ends the writing and returns the blob, for an entry to name in an Update that follows
	// soon. What no entry names is discarded after a while.
	Commit() (Blob, error)

	// Close releases the draft, and discards what was not committed.
	Close() error
}

// RedactedURL returns URL for showing it: without user information, and with "xxxxx" in place of the values in its query,
// which may be keys and tokens.
func (e *Entry) RedactedURL() string { return redact.URL(e.URL, false) }

// Complete reports whether the whole body is held.
func (e *Entry) Complete() bool {
	var held int64
	for _, p := range e.Parts {
		if p.Offset != held {
			return false
		}
		held += p.Length
	}
	return e.Method == http.MethodGet && held == e.Length
}

// Clone returns a copy that shares nothing with e that can be changed but the bytes of its blobs.
func (e *Entry) Clone() *Entry {
	c := *e
	c.Header = e.Header.Clone()
	c.Trailer = e.Trailer.Clone()
	if e.Selecting != nil {
		c.Selecting = make(map[string]string, len(e.Selecting))
		for name, value := range e.Selecting {
			c.Selecting[name] = value
		}
	}
	c.Parts = slices.Clone(e.Parts)
	return &c
}
