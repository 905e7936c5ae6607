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
	// ErrDamaged reports damage in the store: a checksum or a length is wrong,
	// or a blob that an entry names does not exist.
	ErrDamaged = errors.New("store: damaged")

	// ErrTooLarge reports that something is over the limits of the store, which
	// therefore does not keep it.
	ErrTooLarge = errors.New("store: too large to keep")

	// ErrClosed reports that the store was closed.
	ErrClosed = errors.New("store: closed")
)

// A Store keeps entries and bodies. It is safe for concurrent use. It never
// holds a lock while a caller reads or writes a body.
//
// Keys are 64 lower-case hexadecimal digits. The first 32 stand for the URL, so
// that all keys of one URL share a prefix. The rest stand for the identity of
// the requests.
type Store interface {
	// Entries returns the entries stored under key, the most recently stored
	// first. It is no error if there are none. The call counts as use of the
	// key. Callers must not change the entries, because they are shared.
	Entries(ctx context.Context, key string) ([]*Entry, error)

	// Update replaces the entries under key by change(current). It is atomic
	// with respect to every other Update of key, in this process or another.
	//
	// Update may call change more than once, and may hold a lock meanwhile. So
	// change must be quick, and must not modify the entries it gets. If change
	// returns the slice that it got, nothing is written. Update releases the
	// blobs that no entry names any more.
	//
	// If an entry is over the limits of the store, Update fails with
	// ErrTooLarge and changes nothing. A store may also have a method
	// Fits(*Entry) bool. The cache calls it before the body of a response
	// arrives, to learn whether the store will keep the entry.
	Update(ctx context.Context, key string, change func([]*Entry) []*Entry) error

	// Open opens a blob that an entry under key names. The body stays readable
	// until it is closed, even if the blob is released meanwhile. A blob of up
	// to 64 KiB is verified before Open returns. A larger one is verified in
	// pieces, each before its bytes are returned. Damage is ErrDamaged in both
	// cases.
	Open(ctx context.Context, key string, blob Blob) (Body, error)

	// Create begins a new blob, which an entry under key will name. size is in
	// bytes, or negative if it is not known. Create fails with ErrTooLarge if
	// size is over the limits.
	Create(ctx context.Context, key string, size int64) (Draft, error)

	// All returns every entry whose key begins with prefix, in no particular
	// order. It is for tools, and for changes that concern all keys of a URL.
	// It does not count as use. Damaged entries are left out.
	All(ctx context.Context, prefix string) iter.Seq2[*Entry, error]

	// Secret returns at least 32 random bytes, which are the same for all users
	// of the store. They are the key for digests of values that must not be
	// stored in clear.
	Secret(ctx context.Context) ([]byte, error)
}

// Entry is the metadata of a stored response. An entry must not be changed once
// it is stored. To replace it, change an [Entry.Clone] within [Store.Update].
type Entry struct {
	Key    string // the key that the entry is stored under
	URL    string // the target URI, without user information and fragment
	Method string // "GET", "HEAD" for a response that came without content, or NoteMethod

	Status  int         // of the response, of three digits
	Proto   string      // the version of HTTP that the response came in, such as "HTTP/2.0"
	Header  http.Header // of the response, as last updated, without the fields of the connection
	Trailer http.Header // nil if there was none

	// Selecting has the values of the fields that Vary nominates, from the
	// original request. They are normalised, or digests. A field that the
	// request did not have is absent (RFC 9111, section 4.1).
	Selecting map[string]string

	RequestTime  time.Time // of the request for the response, or for its last validation
	ResponseTime time.Time // when the response to that request was received

	// InvalidatedAt is when the entry was invalidated: it must be validated
	// before it is used again. It is zero if it was not invalidated (RFC 9111,
	// section 4.4).
	InvalidatedAt time.Time

	// Uncompressed is true if net/http decompressed the body on arrival. The
	// offsets and lengths that the origin sends do not apply to its bytes then.
	Uncompressed bool

	// ForeignCredentials is true if the request got other credentials or
	// selecting fields below the cache. The cache cannot know then for which
	// user the response is.
	ForeignCredentials bool

	// Length is the length of the complete body in bytes, -1 if it is not known.
	Length int64

	// Parts are the parts of the body that the store has, in order and without
	// overlap. The body is complete if they cover all of Length.
	Parts []Part
}

// Part is a part of a body: the Length bytes at Offset of the body are the
// bytes at Skip of Blob.
type Part struct {
	Offset int64 // in the body, in bytes
	Length int64 // in bytes
	Skip   int64 // in Blob, in bytes
	Blob   Blob
}

// Blob names bytes that a store keeps.
type Blob struct {
	ID     string // chosen by the store: letters and digits
	Size   int64  // in bytes
	Inline []byte // the bytes, if the store keeps them with the entry; must not be changed
}

// Body reads a stored blob. It is safe for concurrent use, except Close.
type Body interface {
	io.ReaderAt
	io.Closer
}

// Draft is a blob that one goroutine writes. Others may read it at the same
// time.
//
// A Draft may have a method Checkpoint() (blob Blob, length int64, err error),
// which the goroutine that writes calls in between. It makes the bytes before
// length a part of blob, so that an entry that names them survives the end of
// the process. Commit then returns the same blob. length is 0 if there is
// nothing to name.
type Draft interface {
	// Write appends. It fails with ErrTooLarge once the blob is over the limits
	// of the store. Bytes that were written before an error stay readable.
	io.Writer

	// ReaderAt reads the bytes that were written so far. It does not wait; at
	// their end it returns io.EOF. It may be used until Close, also after
	// Commit.
	io.ReaderAt

	// Commit ends the writing and returns the blob. An Update must follow soon
	// that stores an entry with it: a blob that no entry names is removed after
	// a while.
	Commit() (Blob, error)

	// Close releases the draft. A draft that was not committed is discarded.
	Close() error
}

// NoteMethod is the Method of an entry that is a note.
const NoteMethod = "NOTE"

// IsNote reports whether e is a note of the cache rather than a response. See
// "Notes" in the package documentation.
func (e *Entry) IsNote() bool { return e.Method == NoteMethod }

// RedactedURL returns URL without user information and with "xxxxx" in place of
// the values in its query, which may be keys and tokens.
func (e *Entry) RedactedURL() string { return redact.URL(e.URL, false) }

// Complete reports whether the store has the whole body.
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

// Clone returns a copy. It shares only the bytes of inline blobs with e.
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
