// Package storetest checks that a [store.Store] keeps what package store
// promises, in the manner of testing/fstest. The test of an implementation
// calls [Test], or [Run] if there is more to check than a store on its own
// shows: reopening, a second process, damage.
//
// Package storefault is the counterpart for users of a store: it makes any
// store fail.
package storetest

import (
	"testing"

	"github.com/cachetrip/cachetrip/store"
)

// Subject is a store under test, and what the test may do to it. Only Store
// must be set. A check that needs a field which is not set is skipped, and its
// message names the field.
//
// The functions run one at a time. A function that opens a store must also
// close it when the test ends, for example with t.Cleanup.
type Subject struct {
	// Store is new and empty. Its size limit is at least 64 MiB. If it has a
	// method Close, the test may call it.
	Store store.Store

	// MaxBody is the size, in bytes, of the largest body that the store takes:
	// at most 64 MiB, so that the test does not take too long. 0 means that it
	// is not checked.
	MaxBody int64

	// Reopen closes Store, and opens a new store on the data that it left. Set
	// it if the store outlives its process.
	Reopen func() (store.Store, error)

	// Second opens another store on the data of Store, which stays open, as
	// another process would. Set it if the store may be shared.
	Second func() (store.Store, error)

	// Damage changes at least one byte of what the store keeps of a blob, for
	// example in its file. The blob is larger than 64 KiB, and named by an
	// entry of key. The store must not notice before it reads the blob.
	Damage func(key string, blob store.Blob) error

	// Lose removes what the store keeps of a blob, which an entry of key still
	// names.
	Lose func(key string, blob store.Blob) error

	// DamageEntries changes at least one byte of what the store keeps of the
	// entries of key.
	DamageEntries func(key string) error

	// Collect makes the store believe that so much time has passed that a blob
	// which no entry names is garbage. Then it has the store remove the
	// garbage.
	Collect func() error
}

// Test runs the checks that need nothing but a store. open returns a new, empty
// store each time, whose size limit is at least 64 MiB. open may use t.Cleanup
// to close it; closing it a second time must be no error. To run all checks,
// use [Run].
func Test(t *testing.T, open func(t *testing.T) store.Store) {
	Run(t, func(t *testing.T) Subject { return Subject{Store: open(t)} })
}

// Run runs all checks. open returns a new, empty store each time. It is called
// in several goroutines at once.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t))
		})
	}
}

// check is one check. Its name says what holds.
type check struct {
	name string
	run  func(testing.TB, Subject)
}

// plain makes a check of a function that needs nothing but a store.
func plain(f func(testing.TB, store.Store)) func(testing.TB, Subject) {
	return func(t testing.TB, sub Subject) { f(t, sub.Store) }
}

var checks = []check{
	{"nothing stored is no error", plain(testNothing)},
	{"entries come back with every field", plain(testRoundTrip)},
	{"bodies of all sizes come back", plain(testBodies)},
	{"an entry may have several parts", plain(testParts)},
	{"the most recently stored comes first", plain(testOrder)},
	{"variants are bounded, the oldest goes", plain(testVariants)},
	{"returning the same slice changes nothing", plain(testSameSlice)},
	{"removing all entries removes the key", plain(testRemove)},
	{"no update is lost", plain(testConcurrentUpdates)},
	{"a failed update leaves what was there", plain(testTooLarge)},
	{"an entry of another key is refused", plain(testForeignEntry)},
	{"keys are checked", plain(testKeys)},
	{"an opened body outlives its release", plain(testRelease)},
	{"a released blob is gone", plain(testReleased)},
	{"a blob shared by two entries stays until the last goes", plain(testSharedBlob)},
	{"freshening keeps the body", plain(testFreshen)},
	{"a draft can be read while it is written", plain(testDraft)},
	{"a draft can be read by many while it is written", plain(testDraftConcurrent)},
	{"a draft that is closed early leaves nothing", plain(testDraftDiscarded)},
	{"an oversized body is refused", plain(testOversized)},
	{"a missing blob is damage", plain(testMissingBlob)},
	{"ReadAt keeps the contract of io.ReaderAt", plain(testReaderAt)},
	{"All finds by prefix", plain(testAll)},
	{"All may be left early and stores may change meanwhile", plain(testAllChange)},
	{"the secret is stable", plain(testSecret)},
	{"a cancelled context is an error", plain(testContext)},
	{"a draft ends once", plain(testDraftEnds)},
	{"drafts of one key do not disturb each other", plain(testDraftsApart)},
	{"a body copies itself as it reads", plain(testWriteRange)},
	{"what Entries returns may be rearranged", plain(testEntriesApart)},
	{"a panic in change does no harm", plain(testPanic)},
	{"everything at once", plain(testEverything)},
	{"an entry may name a blob that was released", plain(testNamedMissing)},
	{"notes are kept as responses are", plain(testNotes)},
	{"Fits agrees with Update", plain(testFits)},
	{"the largest body fits, a longer one does not", testMaxBody},
	{"parts lie within their blobs", plain(testPartRanges)},
	{"a closed store says so", plain(testClosed)},
	{"what was stored is there after reopening", testReopen},
	{"two instances agree", testTwo},
	{"two instances lose no update", testTwoUpdates},
	{"two instances agree on notes", testTwoNotes},
	{"a damaged body is never served", testDamage},
	{"a body that is lost is damage", testLose},
	{"damaged entries are never served", testDamageEntries},
	{"blobs that no entry names are collected", testCollect},
}
