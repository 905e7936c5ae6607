// Package storefault makes a store fail on purpose. It is for tests of programs that use a
// [store.Store], and of stores that wrap another store.
//
// [Wrap] returns a Store that passes every call on. [Store.Inject] says which calls fail, and how:
//
//	s := storefault.Wrap(store.NewMemory(0))
//	s.Inject(storefault.Nth(3, storefault.Fail(syscall.ENOSPC)), storefault.Write)
//
// Now the third write to a draft fails as on a full disk. A [Fault] is a function, so a test can
// write its own.
package storefault

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// ErrInjected is the error of [Fail] if it is given none.
var ErrInjected = errors.New("storefault: injected error")

// errCorrupt is what a Fault returns to have the bytes of a call changed.
var errCorrupt = errors.New("storefault: corrupt the bytes of this call")

// Op is an operation of a store, of a body or of a draft.
type Op string

// The operations.
const (
	Entries Op = "Entries"
	Update  Op = "Update"
	Open    Op = "Open"
	Create  Op = "Create"
	All     Op = "All"
	Secret  Op = "Secret"
	Lease   Op = "Lease" // if the wrapped store has leases; a fault has it granted

	ReadAt       Op = "ReadAt"       // of a body
	WriteRangeTo Op = "WriteRangeTo" // of a body, if the wrapped store's has it
	Close        Op = "Close"        // of a body

	Write       Op = "Write"       // of a draft
	DraftReadAt Op = "DraftReadAt" // of a draft
	Commit      Op = "Commit"      // of a draft
	DraftClose  Op = "DraftClose"  // of a draft
)

// Call is one call of an operation.
type Call struct {
	Op     Op
	Key    string // of the entry, body or draft; the prefix for All, "" for Secret
	N      int    // 1 for the first call of Op since Wrap, 2 for the second, and so on
	Offset int64  // where ReadAt, WriteRangeTo, Write and DraftReadAt begin, in bytes
	Length int64  // how many bytes they are to read or write
}

// A Fault runs before a call. If it returns an error, the call fails with that error and does not
// reach the wrapped store, except that Close and DraftClose always reach it. If a Fault blocks or
// panics, so does the call. A Fault may be called by several goroutines at once.
type Fault func(Call) error

// Fail lets calls fail with err, or with [ErrInjected] if err is nil.
func Fail(err error) Fault {
	if err == nil {
		err = ErrInjected
	}
	return func(Call) error { return err }
}

// Delay lets calls take longer by d. They take no notice of contexts meanwhile.
func Delay(d time.Duration) Fault {
	return func(Call) error {
		time.Sleep(d)
		return nil
	}
}

// Hang lets calls hang until the channel is closed.
func Hang(until <-chan struct{}) Fault {
	return func(Call) error {
		<-until
		return nil
	}
}

// Panic lets calls panic with v.
func Panic(v any) Fault { return func(Call) error { panic(v) } }

// Goexit lets calls end the goroutine that makes them.
func Goexit() Fault {
	return func(Call) error {
		runtime.Goexit()
		return nil
	}
}

// Corrupt flips one bit of the bytes that ReadAt and DraftReadAt return, that WriteRangeTo
// writes, or that Write stores. Other operations are not changed.
func Corrupt() Fault { return Fail(errCorrupt) }

// Room lets writes fail with ENOSPC that would make a draft longer than n bytes.
func Room(n int64) Fault {
	return func(c Call) error {
		if c.Op == Write && c.Offset+c.Length > n {
			return fmt.Errorf("storefault: write at %d: %w", c.Offset, syscall.ENOSPC)
		}
		return nil
	}
}

// Nth applies a fault to the n-th call alone. It counts the calls that it is asked about, from 1.
func Nth(n int, fault Fault) Fault {
	return counted(fault, func(i int64) bool { return i == int64(n) })
}

// After applies a fault to all calls but the first n that it is asked about.
func After(n int, fault Fault) Fault {
	return counted(fault, func(i int64) bool { return i > int64(n) })
}

func counted(fault Fault, applies func(i int64) bool) Fault {
	var calls atomic.Int64
	return func(c Call) error {
		if !applies(calls.Add(1)) {
			return nil
		}
		return fault(c)
	}
}

// ForKey applies a fault to the calls for one key.
func ForKey(key string, fault Fault) Fault {
	return func(c Call) error {
		if c.Key != key {
			return nil
		}
		return fault(c)
	}
}

// Sequence applies all faults in their order, until one of them returns an error.
func Sequence(faults ...Fault) Fault {
	return func(c Call) error {
		for _, fault := range faults {
			if err := fault(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// Store is a store that passes calls on to another store, unless a fault applies. It also records
// the calls. It is safe for concurrent use.
//
// Store has the optional methods Fits, Evictions and Lease. They answer as if they were absent if
// the wrapped store lacks them. Its bodies have WriteRangeTo only if the wrapped store's have it.
type Store struct {
	inner store.Store

	// IgnoreContext, if set before use, hides the end of contexts from the wrapped store. So the
	// Store behaves as a store that takes no notice of contexts.
	IgnoreContext bool

	mu     sync.Mutex
	faults map[Op]Fault
	calls  []Call
	counts map[Op]int
	held   int
}

var _ store.Store = (*Store)(nil)

// Wrap returns a Store that passes calls on to inner. It has no faults yet.
func Wrap(inner store.Store) *Store {
	return &Store{inner: inner, faults: make(map[Op]Fault), counts: make(map[Op]int)}
}

// every has all operations.
var every = []Op{Entries, Update, Open, Create, All, Secret, Lease, ReadAt, WriteRangeTo, Close, Write, DraftReadAt, Commit, DraftClose}

// Inject applies a fault to every later call of the given operations, in place of the fault that
// they had. Without operations it concerns all of them. If fault is nil, the calls succeed again.
func (s *Store) Inject(fault Fault, ops ...Op) {
	if len(ops) == 0 {
		ops = every
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		s.faults[op] = fault
	}
}

// Calls returns the calls of the given operations so far, the oldest first. Without operations it
// returns all calls. Calls that failed are among them.
func (s *Store) Calls(ops ...Op) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := slices.Clone(s.calls)
	if len(ops) == 0 {
		return calls
	}
	return slices.DeleteFunc(calls, func(c Call) bool { return !slices.Contains(ops, c.Op) })
}

// Held returns how many bodies and drafts are open.
func (s *Store) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// hold counts n more open bodies and drafts.
func (s *Store) hold(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += n
}

// before records a call and applies its fault.
func (s *Store) before(c Call) error {
	s.mu.Lock()
	s.counts[c.Op]++
	c.N = s.counts[c.Op]
	s.calls = append(s.calls, c)
	fault := s.faults[c.Op]
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(c)
}

// ignoreCorrupt is before for calls whose bytes cannot be corrupted.
func (s *Store) ignoreCorrupt(c Call) error {
	if err := s.before(c); !errors.Is(err, errCorrupt) {
		return err
	}
	return nil
}

// flip changes a bit of p.
func flip(p []byte) {
	if len(p) > 0 {
		p[len(p)/2] ^= 1
	}
}
