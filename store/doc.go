// Package store keeps the responses of a cache. A [Store] maps a key to a small
// set of entries, one per variant of a response, and keeps blobs that hold
// bodies.
//
// An [Entry] is the metadata of a stored response. It names the blobs that hold
// its body. A blob is written once and never changes. Storing, freshening,
// invalidating, purging and dropping are therefore one operation,
// [Store.Update], with different functions, and no body is ever rewritten.
//
// [Disk] keeps a cache in a directory, [Memory] in the process. Package
// storetest checks whether an implementation keeps the promises of this
// package.
//
// # Writing a store
//
// This chapter and the comments of [Store], [Body] and [Draft] are all that an
// implementation must know. Package storetest checks it: call storetest.Run in
// a test. Package storefault makes a store fail, for tests of its users. The
// directory examples/bbolt has a complete store.
//
// Keys. [CheckKey] says what a key is, and [CheckPrefix] what [Store.All]
// takes. Every method refuses anything else. A key or the ID of a blob may come
// from somewhere else, so never make a path of one unchecked.
//
// Entries. Keep every field of [Entry], times to the nanosecond, and whether a
// map is nil or empty. The zone of a time does not matter. The caller may
// rearrange the slice that Entries returned, but changes no entry. So a store
// may return the same entries again, in a new slice.
//
// The secret. Make it once, from crypto/rand, and keep it as long as the
// entries: keys are digests that depend on it. All programs that share the data
// get the same secret, each time in a new slice.
//
// # Update
//
// An Update has these steps:
//
//  1. Read the entries of the key, and give change a copy of the slice.
//  2. If change returns the same entries in the same order, write nothing.
//  3. Call [Arrange]. It checks what change returned, orders it, and limits its number.
//  4. Refuse an entry whose metadata is over your limit, with [ErrTooLarge].
//  5. Replace all entries of the key at once. No entries: remove the key.
//  6. Release the blobs that only the former entries named.
//
// No other Update of the key may come between step 1 and step 5, in this
// process or another. Hold a lock of the key, or compare and swap and begin
// again. If Update fails, nothing has changed. A panic of change must reach the
// caller of Update, and leave no lock behind.
//
// # The life of a blob
//
// Create begins a draft. Write appends to it, and others read it meanwhile.
// Commit ends it and returns the [Blob], whose ID no other blob of the key ever
// has. From then on Open finds the blob. An Update that follows stores an entry
// that names it.
//
//   - A blob belongs to one key. Several entries and parts of that key may name it. It is
//     released when no entry names it any more.
//   - A released blob is not found by Open. A body that is open stays readable until it is
//     closed.
//   - A draft that is closed without Commit leaves nothing. Several drafts of one key do not
//     disturb each other.
//   - Keep a blob that no entry names for a minute after Commit. Remove it some time later: its
//     program may have died.
//   - An entry may name a blob that is gone. Update need not look. Open reports [ErrDamaged],
//     and the cache drops the entry.
//   - A store may keep a small body with its entry, in Blob.Inline. Then Commit returns the
//     bytes there, and nothing else needs to be kept of the blob.
//
// # Crashes and damage
//
// A program may be killed at any time. So write a blob completely, then the
// entries that name it, and only then remove the blobs that are released. A
// crash then leaves at most blobs that no entry names.
//
// A cache may lose what was stored last. So nothing needs to be flushed to
// disk, but a power cut can leave a value torn. Keep a checksum with the
// entries of a key, and with each piece of a body. Entries whose checksum is
// wrong count as missing, or Entries reports [ErrDamaged]; an Update replaces
// them. All leaves them out. A body of up to 64 KiB is verified by Open, a
// larger one in pieces, each before its bytes are returned. Damage to one key
// concerns no other key.
//
// # Limits and errors
//
// Errors are compared with errors.Is, so they may be wrapped:
//
//   - [ErrTooLarge]: from Create if size is over the limit, from Write beyond the limit, and
//     from Update for too much metadata. A header of 100 KiB should fit, one of 1 MiB must not.
//     After a Write has failed, Commit fails, too.
//   - [ErrDamaged]: see above. The cache drops the entry and asks the origin.
//   - [ErrClosed]: from every method of a store after its Close. A second Close is no error.
//     Bodies and drafts can still be closed.
//   - The error of a context that has ended.
//   - Any other error costs a cache miss. [CauseOf] sorts it for the statistics, by the number
//     of the system error that it wraps.
//
// A store with a size limit evicts the keys that were not used for longest.
// Entries counts as use, All does not. One body should take no more than a
// quarter of the limit. If the limit is reached, make room in Update, before or
// after writing.
//
// # Concurrency and contexts
//
// All methods of a store may be called at the same time. So may ReadAt of one
// body. One goroutine writes a draft, others read it. Hold no lock while a
// caller reads or writes a body, or while the loop over All runs: it may call
// Update.
//
// A call whose context has ended fails and does nothing. If the context ends
// during a call, the store may go on or give up, but an Update is made
// completely or not at all. A body and a draft must work when the context of
// Open or Create has ended: other callers may read them.
//
// A store needs no time limits for its callers. A Transport calls it in
// goroutines of its own and waits at most a quarter of the time until the
// deadline of the request, and at most 5 s. If the context has a Deadline, a
// store may use it for its connections. A call that takes longer may go on. Its
// result is closed or released. While four calls hang, further calls are not
// made.
//
// # Optional methods
//
// The cache looks for these methods of a store or a body by a type assertion:
//
//   - Fits(*Entry) bool reports whether Update takes an entry. The cache asks before a body
//     arrives that could not be kept.
//   - Evictions() uint64 counts the keys that were evicted, for cachetrip.Stats.
//   - Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool)
//     lets one process at a time fetch a response, see [Disk.Lease]. The cache looks up
//     again once it has the lease.
//   - Matching(ctx context.Context, prefix string, match func(url string) bool)
//     iter.Seq2[*Entry, error] is All for the entries whose URL matches, see [Disk.Matching].
//     It may call match in several goroutines.
//   - Clear(ctx context.Context) error removes all entries. Without it each key is updated.
//   - LastUse(key string) time.Time is shown by package debug.
//   - Bytes() int64 is how much is stored, for package debug and the metrics of
//     otelcachetrip.
//   - MaxBytes() int64 is the size limit, and Dir() string where the store is. Package debug
//     shows both.
//   - Close() error. Only a store that cachetrip.Open has made is closed by its Transport.
//   - WriteRangeTo(w io.Writer, offset, length int64) (int64, error), of a body, writes so many
//     verified bytes without a copy by the cache. A range outside of the body is an error, and
//     nothing is written. An error of w is returned with the number of bytes before it.
//
// LastUse, Bytes, MaxBytes and Dir are called without the time limits of a
// Transport, in the goroutine that shows or exports what they return. So they
// must not wait for anything, such as another machine, and must not panic.
//
// # Notes
//
// A cache keeps small records beside the responses: which groups of responses
// were invalidated (RFC 9875), and which URLs have the same response
// (No-Vary-Search). Such a note is an entry, too, without parts, under a key of
// its own. Its first half stands for an origin, a path or a set of URLs. Its
// header has what the note says, in some kilobytes at most. A store treats
// notes as it treats responses, and may evict them. So it needs no code for
// them, but it must keep what it promises for entries of any method and header.
// A program that lists entries should leave notes out; see [Entry.IsNote].
//
// # The fair share of an origin
//
// All origins and identities share one size limit. A store evicts the least
// recently used keys. There is one exception: while an origin uses more than
// half of the limit, the store evicts that origin's own oldest responses first.
// So one origin takes at most half of the cache from others, even if it gets
// many requests or sends large responses.
//
// A Disk or Memory counts the responses that it stores, and then those that it
// reads while it evicts. The count begins anew when a Disk is opened. Below
// half of the limit, an origin can push out responses of others that were not
// used for longer. That costs cache misses. It never gives anybody wrong bytes,
// or the bytes of another key. A body may use at most a quarter of the limit,
// and a key has at most 64 variants.
package store
