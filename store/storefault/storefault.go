// Package storefault makes a store fail on purpose. It is for tests of programs
// that use a [store.Store], and of stores that wrap another store.
//
// [Wrap] returns a Store that passes every call on. [Store.Inject] says which
// calls fail, and how:
//
//	s := storefault.Wrap(store.NewMemory(0))
//	s.Inject(storefault.Nth(3, storefault.Fail(syscall.ENOSPC)), storefault.Write)
//
// Now the third write to a draft fails as on a full disk. [Store.InjectAfter]
// has calls fail that the wrapped store has already done, as if its answer were
// lost. A [Fault] is a function, so a test can write its own, for example one
// that waits until the test goes on.
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
	Lease   Op = "Lease"   // a fault has the lease granted
	Release Op = "Release" // the end of a lease; it has no error

	Fits      Op = "Fits"      // it has no error
	Evictions Op = "Evictions" // it has no error

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
	Key    string // of the entry, body or draft; the prefix for All, "" for Secret and Evictions
	N      int    // 1 for the first call of Op since Wrap, 2 for the second, and so on
	Offset int64  // where ReadAt, WriteRangeTo, Write and DraftReadAt begin, in bytes
	Length int64  // how many bytes they are to read or write
}

// A Fault runs before a call, or after it, see [Store.InjectAfter]. If it
// returns an error before a call, the call fails with that error and does not
// reach the wrapped store, except that Close, DraftClose and Release always
// reach it. If a Fault blocks or panics, so does the call. A Fault may be
// called by several goroutines at once.
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

// Corrupt flips one bit of the bytes that ReadAt and DraftReadAt return, that
// WriteRangeTo writes, or that Write stores. Other operations are not changed.
func Corrupt() Fault { return Fail(errCorrupt) }

// Room lets writes fail with ENOSPC that would make a draft longer than n
// bytes.
func Room(n int64) Fault {
	return func(c Call) error {
		if c.Op == Write && c.Offset+c.Length > n {
			return fmt.Errorf("storefault: write at %d: %w", c.Offset, syscall.ENOSPC)
		}
		return nil
	}
}

// Beyond lets reads fail with err from the offset n on. The bytes before are
// read.
func Beyond(n int64, err error) Fault {
	return func(c Call) error {
		switch c.Op {
		case ReadAt, WriteRangeTo, DraftReadAt:
			return Partial(n-c.Offset, err)
		}
		return nil
	}
}

// Partial returns an error for a Fault to return before a call: a read or write
// of more than n bytes is made for n bytes, and then fails with err. Other
// operations fail with err at once.
func Partial(n int64, err error) error { return &partial{n, err} }

type partial struct {
	n   int64
	err error
}

func (p *partial) Error() string { return p.err.Error() }
func (p *partial) Unwrap() error { return p.err }

// Nth applies a fault to the n-th call alone. It counts the calls that it is
// asked about, from 1.
func Nth(n int, fault Fault) Fault {
	return counted(fault, func(i int64) bool { return i == int64(n) })
}

// After applies a fault to all calls but the first n that it is asked about.
func After(n int, fault Fault) Fault {
	return counted(fault, func(i int64) bool { return i > int64(n) })
}

// Every applies a fault to each n-th call that it is asked about.
func Every(n int, fault Fault) Fault {
	return counted(fault, func(i int64) bool { return i%int64(n) == 0 })
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

// Sequence applies all faults in their order, until one of them returns an
// error.
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

// Store is a store that passes calls on to another store, unless a fault
// applies. It also records the calls. It is safe for concurrent use.
//
// Store has the optional methods Fits, Evictions and Lease. If the wrapped
// store lacks them, every entry fits, nothing was evicted, and every lease is
// granted. Its bodies have WriteRangeTo only if the wrapped store's have it.
type Store struct {
	inner store.Store

	// IgnoreContext, if set before use, hides the end of contexts from the
	// wrapped store. So the Store behaves as a store that takes no notice of
	// contexts.
	IgnoreContext bool

	mu     sync.Mutex
	faults map[Op]Fault
	late   map[Op]Fault // after the call
	calls  []Call
	counts map[Op]int
	held   int
}

var _ store.Store = (*Store)(nil)

// Wrap returns a Store that passes calls on to inner. It has no faults yet.
func Wrap(inner store.Store) *Store {
	return &Store{inner: inner, faults: make(map[Op]Fault), late: make(map[Op]Fault), counts: make(map[Op]int)}
}

// every has all operations.
var every = []Op{Entries, Update, Open, Create, All, Secret, Lease, Release, Fits, Evictions, ReadAt, WriteRangeTo, Close, Write, DraftReadAt, Commit, DraftClose}

// Inject applies a fault to every later call of the given operations, in place
// of the fault that they had. Without operations it concerns all of them. If
// fault is nil, the calls succeed again.
func (s *Store) Inject(fault Fault, ops ...Op) {
	s.inject(s.faults, fault, ops)
}

// InjectAfter is Inject for a fault that runs when the wrapped store has done
// the call. If the fault returns an error, the call fails, although it had its
// effect. A body, draft or lease that the call opened is closed. The fault does
// not run if the wrapped store fails. For All it runs at the end of the list.
func (s *Store) InjectAfter(fault Fault, ops ...Op) {
	s.inject(s.late, fault, ops)
}

func (s *Store) inject(faults map[Op]Fault, fault Fault, ops []Op) {
	if len(ops) == 0 {
		ops = every
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		faults[op] = fault
	}
}

// Calls returns the calls of the given operations so far, the oldest first.
// Without operations it returns all calls. Calls that failed are among them.
func (s *Store) Calls(ops ...Op) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := slices.Clone(s.calls)
	if len(ops) == 0 {
		return calls
	}
	return slices.DeleteFunc(calls, func(c Call) bool { return !slices.Contains(ops, c.Op) })
}

// Held returns how many bodies, drafts and leases are open.
func (s *Store) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// hold counts n more open bodies, drafts and leases.
func (s *Store) hold(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += n
}

// before records a call and applies its fault. It numbers the call.
func (s *Store) before(c *Call) error {
	s.mu.Lock()
	s.counts[c.Op]++
	c.N = s.counts[c.Op]
	s.calls = append(s.calls, *c)
	fault := s.faults[c.Op]
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(*c)
}

// after applies the fault for a call that the wrapped store has done.
func (s *Store) after(c Call) error {
	s.mu.Lock()
	fault := s.late[c.Op]
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	if err := fault(c); !errors.Is(err, errCorrupt) {
		return err
	}
	return nil
}

// do makes a call that neither reads nor writes bytes. If it fails afterwards,
// undo gives its result back.
func do[T any](s *Store, c Call, f func() (T, error), undo func(T)) (T, error) {
	var none T
	if err := s.before(&c); err != nil && !errors.Is(err, errCorrupt) {
		return none, err
	}
	result, err := f()
	if err != nil {
		return none, err
	}
	done := false
	defer func() {
		if !done {
			undo(result)
		}
	}()
	if err := s.after(c); err != nil {
		return none, err
	}
	done = true
	return result, nil
}

// transfer makes a call that reads or writes bytes. f is told how many of them,
// and whether they are to be corrupted.
func (s *Store) transfer(c Call, f func(length int64, corrupt bool) (int64, error)) (int64, error) {
	length, corrupt := c.Length, false
	fault := s.before(&c)
	if cut := (*partial)(nil); errors.As(fault, &cut) {
		length, fault = min(length, cut.n), cut.err
	} else if errors.Is(fault, errCorrupt) {
		corrupt = true
	} else if fault != nil {
		length = 0
	}
	if fault != nil && !corrupt && length <= 0 {
		return 0, fault
	}
	n, err := f(length, corrupt)
	switch {
	case err != nil:
		return n, err
	case length < c.Length:
		return n, fault
	}
	return n, s.after(c)
}

// flip changes a bit of p.
func flip(p []byte) {
	if len(p) > 0 {
		p[len(p)/2] ^= 1
	}
}
