package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// No store of these tests learns anything later.
func init() { agreeWithin = 100 * time.Millisecond }

// TestWrongStores runs each check on a store that is wrong in the way that the
// check is for. Every check must fail, with a message and without a panic.
func TestWrongStores(t *testing.T) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wrong := wrongStores[c.name]
			if len(wrong) == 0 {
				t.Error("there is no wrong store for this check")
			}
			for how, make := range wrong {
				failures, panicked := failuresOf(t, func(t testing.TB) { c.run(t, make(t)) })
				if panicked != nil {
					t.Errorf("a store that %s lets the check panic: %v", how, panicked)
				}
				if len(failures) == 0 {
					t.Errorf("a store that %s passes", how)
				}
			}
		})
	}
	for name := range wrongStores {
		if !slices.ContainsFunc(checks, func(c check) bool { return c.name == name }) {
			t.Errorf("%q is no check", name)
		}
	}
}

// TestSkips checks that a check which needs more than a store is skipped with a
// message that says so.
func TestSkips(t *testing.T) {
	var skipped []string
	for _, c := range checks[len(checks)-11:] {
		r := record(t, func(t testing.TB) { c.run(t, Subject{Store: store.NewMemory(64 << 20)}) })
		if len(r.failures) > 0 {
			t.Errorf("%s: %v", c.name, r.failures)
		}
		skipped = append(skipped, r.skips...)
	}
	for _, field := range []string{"MaxBody", "Reopen", "Second", "Damage", "Lose", "DamageEntries", "Collect"} {
		if !slices.ContainsFunc(skipped, func(s string) bool { return strings.HasPrefix(s, "Subject."+field+" is not set: ") }) {
			t.Errorf("no message that Subject.%s is not set, in %q", field, skipped)
		}
	}
}

// recorder is a testing.TB that records instead of failing the test.
type recorder struct {
	testing.TB

	mu       sync.Mutex
	failures []string
	skips    []string
	panicked any
}

// failuresOf returns the failures that a function reports, and what it panics
// with.
func failuresOf(t *testing.T, f func(testing.TB)) (failures []string, panicked any) {
	r := record(t, f)
	return r.failures, r.panicked
}

func record(t *testing.T, f func(testing.TB)) *recorder {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { r.panicked = recover() }()
		f(r)
	}()
	<-done
	return r
}

func (r *recorder) add(to *[]string, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*to = append(*to, message)
}

func (r *recorder) Error(args ...any) { r.add(&r.failures, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) {
	r.add(&r.failures, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }
func (r *recorder) Skip(args ...any)                  { r.add(&r.skips, fmt.Sprint(args...)); runtime.Goexit() }
func (r *recorder) Skipf(format string, args ...any)  { r.Skip(fmt.Sprintf(format, args...)) }
func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.failures) > 0
}

// changed is a store some of whose operations are replaced. next is the wrapped
// store.
type changed struct {
	store.Store
	entries func(ctx context.Context, key string) ([]*store.Entry, error)
	update  func(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error
	open    func(ctx context.Context, key string, blob store.Blob) (store.Body, error)
	create  func(ctx context.Context, key string, size int64) (store.Draft, error)
	all     func(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error]
	secret  func(ctx context.Context) ([]byte, error)
}

func (c *changed) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	if c.entries != nil {
		return c.entries(ctx, key)
	}
	return c.Store.Entries(ctx, key)
}

func (c *changed) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	if c.update != nil {
		return c.update(ctx, key, change)
	}
	return c.Store.Update(ctx, key, change)
}

func (c *changed) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	if c.open != nil {
		return c.open(ctx, key, blob)
	}
	return c.Store.Open(ctx, key, blob)
}

func (c *changed) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	if c.create != nil {
		return c.create(ctx, key, size)
	}
	return c.Store.Create(ctx, key, size)
}

func (c *changed) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	if c.all != nil {
		return c.all(ctx, prefix)
	}
	return c.Store.All(ctx, prefix)
}

func (c *changed) Secret(ctx context.Context) ([]byte, error) {
	if c.secret != nil {
		return c.secret(ctx)
	}
	return c.Store.Secret(ctx)
}

// maker makes a store that is wrong.
type maker = func(testing.TB) Subject

// memory makes a store in memory of which f changes something.
func memory(f func(c *changed, next *store.Memory)) maker {
	return func(testing.TB) Subject {
		next := store.NewMemory(64 << 20)
		c := &changed{Store: next}
		f(c, next)
		return Subject{Store: c, MaxBody: 16 << 20}
	}
}

// faulty makes a store in memory with a fault.
func faulty(fault storefault.Fault, ops ...storefault.Op) maker {
	return func(testing.TB) Subject {
		s := storefault.Wrap(store.NewMemory(64 << 20))
		s.Inject(fault, ops...)
		return Subject{Store: s}
	}
}

// looking makes a store whose Entries returns something else.
func looking(f func([]*store.Entry) []*store.Entry) maker {
	return memory(func(c *changed, next *store.Memory) {
		c.entries = func(ctx context.Context, key string) ([]*store.Entry, error) {
			got, err := next.Entries(ctx, key)
			return f(got), err
		}
	})
}

// storing makes a store whose Update stores something else than change returns.
func storing(f func(key string, current, next []*store.Entry) []*store.Entry) maker {
	return memory(func(c *changed, next *store.Memory) {
		c.update = func(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
			return next.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
				return f(key, current, change(slices.Clone(current)))
			})
		}
	})
}

// opening makes a store with other bodies.
func opening(f func(s *store.Memory, key string, size int64, body store.Body) store.Body) maker {
	return memory(func(c *changed, next *store.Memory) {
		c.open = func(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
			body, err := next.Open(ctx, key, blob)
			if err != nil {
				return nil, err
			}
			return f(next, key, blob.Size, body), nil
		}
	})
}

// drafting makes a store with other drafts.
func drafting(f func(store.Draft) store.Draft) maker {
	return memory(func(c *changed, next *store.Memory) {
		c.create = func(ctx context.Context, key string, size int64) (store.Draft, error) {
			draft, err := next.Create(ctx, key, size)
			if err != nil {
				return nil, err
			}
			return f(draft), nil
		}
	})
}

// clones returns clones of entries, changed by f.
func clones(entries []*store.Entry, f func(*store.Entry)) []*store.Entry {
	out := make([]*store.Entry, len(entries))
	for i, e := range entries {
		out[i] = e.Clone()
		f(out[i])
	}
	return out
}

type readAt func(p []byte, offset int64) (int, error)

func (f readAt) ReadAt(p []byte, offset int64) (int, error) { return f(p, offset) }
func (readAt) Close() error                                 { return nil }

// misplaced is a body that copies itself from its beginning, wherever it is to
// begin.
type misplaced struct {
	store.Body
	size int64
}

func (b misplaced) WriteRangeTo(w io.Writer, _, length int64) (int64, error) {
	return io.Copy(w, io.NewSectionReader(b.Body, 0, min(b.size, length)))
}

// late is a draft that can be read after Commit only.
type late struct {
	store.Draft
	committed atomic.Bool
}

func (d *late) ReadAt(p []byte, offset int64) (int, error) {
	if !d.committed.Load() {
		return 0, io.EOF
	}
	return d.Draft.ReadAt(p, offset)
}

func (d *late) Commit() (store.Blob, error) {
	d.committed.Store(true)
	return d.Draft.Commit()
}

// tolerant is a draft whose Commit always succeeds.
type tolerant struct {
	store.Draft
	blob store.Blob
}

func (d *tolerant) Commit() (store.Blob, error) {
	if blob, err := d.Draft.Commit(); err == nil {
		d.blob = blob
	}
	return d.blob, nil
}

// sized says what fits.
type sized struct {
	*store.Memory
	fits bool
}

func (s sized) Fits(*store.Entry) bool { return s.fits }

// closable is a store in memory whose Close does what f does.
type closable struct {
	*store.Memory
	close func() error
}

func (c closable) Close() error { return c.close() }

// elsewhere makes a subject whose Reopen and Second return another store.
func elsewhere(other func(*store.Memory) store.Store) maker {
	return func(testing.TB) Subject {
		s := store.NewMemory(64 << 20)
		open := func() (store.Store, error) { return other(s), nil }
		return Subject{Store: s, Reopen: open, Second: open}
	}
}

// takesAll returns an Update that hides errors.
func takesAll(next store.Store) func(context.Context, string, func([]*store.Entry) []*store.Entry) error {
	return func(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
		next.Update(ctx, key, change)
		return nil
	}
}

// racing is a store whose Update is not atomic.
func racing(next store.Store) store.Store {
	c := &changed{Store: next}
	c.update = func(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
		current, err := next.Entries(ctx, key)
		if err != nil {
			return err
		}
		then := change(current)
		time.Sleep(100 * time.Microsecond)
		return next.Update(ctx, key, func([]*store.Entry) []*store.Entry { return then })
	}
	return c
}

// harmed makes a store that gets harm through s, and answers as before,
// wrongly, or with errors that it should not have.
func harmed(harm func(s *storefault.Store)) maker {
	return func(testing.TB) Subject {
		s := storefault.Wrap(store.NewMemory(64 << 20))
		hook := func(string, store.Blob) error {
			harm(s)
			return nil
		}
		return Subject{Store: s, Damage: hook, Lose: hook}
	}
}

var harmfully = map[string]maker{
	"does not notice":      harmed(func(*storefault.Store) {}),
	"serves what is there": harmed(func(s *storefault.Store) { s.Inject(storefault.Corrupt(), storefault.ReadAt) }),
	"has another error":    harmed(func(s *storefault.Store) { s.Inject(storefault.Fail(fs.ErrNotExist), storefault.Open) }),
	"fails for good":       harmed(func(s *storefault.Store) { s.Inject(storefault.Fail(store.ErrDamaged), storefault.Open) }),
}

// wrongStores has stores for each check, by what is wrong with them.
var wrongStores = map[string]map[string]maker{
	"nothing stored is no error": {
		"has an error":    faulty(storefault.Fail(fs.ErrNotExist), storefault.Entries),
		"finds something": looking(func(e []*store.Entry) []*store.Entry { return append(e, entry(Key(1, 1), 1)) }),
	},
	"entries come back with every field": {
		"drops trailers": looking(func(e []*store.Entry) []*store.Entry { return clones(e, func(e *store.Entry) { e.Trailer = nil }) }),
		"changes what it is given": storing(func(_ string, _, next []*store.Entry) []*store.Entry {
			for _, e := range next {
				e.Proto = "HTTP/9"
			}
			return next
		}),
	},
	"bodies of all sizes come back": {
		"flips a bit":     faulty(storefault.Corrupt(), storefault.ReadAt),
		"stores it wrong": faulty(storefault.Corrupt(), storefault.Write),
	},
	"an entry may have several parts": {
		"forgets the second": looking(func(e []*store.Entry) []*store.Entry {
			return clones(e, func(e *store.Entry) { e.Parts = e.Parts[:1] })
		}),
		"takes everything": memory(func(c *changed, next *store.Memory) {
			c.update = takesAll(next)
		}),
	},
	"the most recently stored comes first": {
		"has it last": looking(func(e []*store.Entry) []*store.Entry { slices.Reverse(e); return e }),
	},
	"variants are bounded, the oldest goes": {
		"keeps 10": looking(func(e []*store.Entry) []*store.Entry { return e[:min(10, len(e))] }),
	},
	"returning the same slice changes nothing": {
		"changes something": storing(func(_ string, _, next []*store.Entry) []*store.Entry {
			return clones(next, func(e *store.Entry) { e.Header.Add("X-Copies", "1") })
		}),
	},
	"removing all entries removes the key": {
		"keeps the last": storing(func(_ string, current, next []*store.Entry) []*store.Entry {
			if len(next) == 0 {
				return current
			}
			return next
		}),
	},
	"no update is lost": {
		"loses some": func(testing.TB) Subject { return Subject{Store: racing(store.NewMemory(64 << 20))} },
	},
	"a failed update leaves what was there": {
		"drops it": memory(func(c *changed, next *store.Memory) {
			c.update = func(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
				err := next.Update(ctx, key, change)
				if err != nil {
					next.Update(ctx, key, func([]*store.Entry) []*store.Entry { return nil })
				}
				return err
			}
		}),
		"drops the large entry in silence": storing(func(_ string, _, next []*store.Entry) []*store.Entry {
			return slices.DeleteFunc(next, func(e *store.Entry) bool { return len(e.Header.Get("X-Big")) > 1000 })
		}),
	},
	"an entry of another key is refused": {
		"takes it": storing(func(key string, _, next []*store.Entry) []*store.Entry {
			return clones(next, func(e *store.Entry) { e.Key = key })
		}),
	},
	"keys are checked": {
		"looks up anything": memory(func(c *changed, next *store.Memory) {
			c.entries = func(ctx context.Context, key string) ([]*store.Entry, error) {
				got, _ := next.Entries(ctx, key)
				return got, nil
			}
		}),
	},
	"an opened body outlives its release": {
		"ends with it": opening(func(s *store.Memory, key string, _ int64, body store.Body) store.Body {
			return readAt(func(p []byte, offset int64) (int, error) {
				if got, _ := s.Entries(context.Background(), key); len(got) == 0 {
					return 0, store.ErrDamaged
				}
				return body.ReadAt(p, offset)
			})
		}),
	},
	"a released blob is gone": {
		"has an empty one": memory(func(c *changed, next *store.Memory) {
			c.open = func(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
				body, err := next.Open(ctx, key, blob)
				if errors.Is(err, store.ErrDamaged) {
					return readAt(func([]byte, int64) (int, error) { return 0, io.EOF }), nil
				}
				return body, err
			}
		}),
	},
	"a blob shared by two entries stays until the last goes": {
		"drops it with the first": memory(func(c *changed, next *store.Memory) {
			c.open = func(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
				if got, _ := next.Entries(ctx, key); len(got) == 1 {
					return nil, store.ErrDamaged
				}
				return next.Open(ctx, key, blob)
			}
		}),
	},
	"freshening keeps the body": {
		"drops it": storing(func(_ string, _, next []*store.Entry) []*store.Entry {
			return clones(next, func(e *store.Entry) {
				if e.Header.Get("X-Round") != "" {
					e.Parts = nil
				}
			})
		}),
	},
	"a draft can be read while it is written": {
		"lets it be read later": drafting(func(d store.Draft) store.Draft { return &late{Draft: d} }),
	},
	"a draft can be read by many while it is written": {
		"has wrong bytes": faulty(storefault.Corrupt(), storefault.DraftReadAt),
	},
	"a draft that is closed early leaves nothing": {
		"commits it": drafting(func(d store.Draft) store.Draft { return &tolerant{Draft: d} }),
	},
	"an oversized body is refused": {
		"takes it": memory(func(c *changed, next *store.Memory) {
			c.create = func(ctx context.Context, key string, _ int64) (store.Draft, error) { return next.Create(ctx, key, -1) }
		}),
	},
	"a missing blob is damage": {
		"has another error": memory(func(c *changed, next *store.Memory) {
			c.open = func(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
				body, err := next.Open(ctx, key, blob)
				if err != nil {
					return nil, fs.ErrNotExist
				}
				return body, nil
			}
		}),
	},
	"ReadAt keeps the contract of io.ReaderAt": {
		"has no io.EOF": opening(func(_ *store.Memory, _ string, _ int64, body store.Body) store.Body {
			return readAt(func(p []byte, offset int64) (int, error) {
				n, err := body.ReadAt(p, offset)
				if err == io.EOF && n > 0 {
					err = nil
				}
				return n, err
			})
		}),
	},
	"All finds by prefix": {
		"finds everything": memory(func(c *changed, next *store.Memory) {
			c.all = func(ctx context.Context, _ string) iter.Seq2[*store.Entry, error] { return next.All(ctx, "") }
		}),
	},
	"All may be left early and stores may change meanwhile": {
		"skips every second": memory(func(c *changed, next *store.Memory) {
			c.all = func(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
				return func(yield func(*store.Entry, error) bool) {
					n := 0
					for e, err := range next.All(ctx, prefix) {
						if n++; n%2 == 1 && !yield(e, err) {
							return
						}
					}
				}
			}
		}),
	},
	"the secret is stable": {
		"has another one": memory(func(c *changed, _ *store.Memory) {
			c.secret = func(ctx context.Context) ([]byte, error) { return store.NewMemory(0).Secret(ctx) }
		}),
		"hands out its own": memory(func(c *changed, next *store.Memory) {
			secret, _ := next.Secret(context.Background())
			c.secret = func(context.Context) ([]byte, error) { return secret, nil }
		}),
	},
	"a cancelled context is an error": {
		"ignores contexts": func(testing.TB) Subject {
			s := storefault.Wrap(store.NewMemory(64 << 20))
			s.IgnoreContext = true
			return Subject{Store: s}
		},
	},
	"a draft ends once": {
		"commits it twice": drafting(func(d store.Draft) store.Draft { return &tolerant{Draft: d} }),
	},
	"drafts of one key do not disturb each other": {
		"has one for all": memory(func(c *changed, next *store.Memory) {
			var one store.Draft
			c.create = func(ctx context.Context, key string, size int64) (store.Draft, error) {
				if one == nil {
					one, _ = next.Create(ctx, key, size)
				}
				return one, nil
			}
		}),
	},
	"a body copies itself as it reads": {
		"ignores the offset": opening(func(_ *store.Memory, _ string, size int64, body store.Body) store.Body { return misplaced{body, size} }),
	},
	"what Entries returns may be rearranged": {
		"returns its own slice": memory(func(c *changed, next *store.Memory) {
			kept := map[string][]*store.Entry{}
			c.entries = func(ctx context.Context, key string) (_ []*store.Entry, err error) {
				if kept[key] == nil {
					kept[key], err = next.Entries(ctx, key)
				}
				return kept[key], err
			}
		}),
	},
	"a panic in change does no harm": {
		"swallows it": memory(func(c *changed, next *store.Memory) {
			c.update = func(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) (err error) {
				defer func() {
					if recover() != nil {
						err = errors.New("panic")
					}
				}()
				return next.Update(ctx, key, change)
			}
		}),
	},
	"everything at once": {
		"flips bits later": faulty(storefault.After(50, storefault.Corrupt()), storefault.ReadAt),
	},
	"an entry may name a blob that was released": {
		"has another error": memory(func(c *changed, next *store.Memory) {
			c.update = takesAll(next)
			c.open = func(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
				body, err := next.Open(ctx, key, blob)
				if err != nil {
					return nil, fs.ErrNotExist
				}
				return body, nil
			}
		}),
		"has zeros": memory(func(c *changed, next *store.Memory) {
			c.update = takesAll(next)
			c.open = func(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
				body, err := next.Open(ctx, key, blob)
				if err != nil {
					return readAt(bytes.NewReader(make([]byte, blob.Size)).ReadAt), nil
				}
				return body, nil
			}
		}),
	},
	"Fits agrees with Update": {
		"takes everything": func(testing.TB) Subject { return Subject{Store: sized{store.NewMemory(0), true}} },
		"takes nothing":    func(testing.TB) Subject { return Subject{Store: sized{store.NewMemory(0), false}} },
	},
	"the largest body fits, a longer one does not": {
		"takes more": func(testing.TB) Subject { return Subject{Store: store.NewMemory(80 << 20), MaxBody: 16 << 20} },
		"has another error": func(testing.TB) Subject {
			s := storefault.Wrap(store.NewMemory(80 << 20))
			s.Inject(storefault.Room(16<<20), storefault.Write)
			return Subject{Store: s, MaxBody: 16 << 20}
		},
		"commits what was too large": func(testing.TB) Subject {
			sub := drafting(func(d store.Draft) store.Draft { return &tolerant{Draft: d} })(nil)
			return sub
		},
	},
	"parts lie within their blobs": {
		"corrects them": storing(func(_ string, _, next []*store.Entry) []*store.Entry {
			return clones(next, func(e *store.Entry) {
				for i := range e.Parts {
					e.Parts[i].Offset = max(0, e.Parts[i].Offset)
				}
			})
		}),
	},
	"a closed store says so": {
		"goes on": func(testing.TB) Subject {
			return Subject{Store: closable{store.NewMemory(64 << 20), func() error { return nil }}}
		},
		"closes once": func(testing.TB) Subject {
			return Subject{Store: closable{store.NewMemory(64 << 20), func() error { return fs.ErrClosed }}}
		},
	},
	"what was stored is there after reopening": {
		"forgets everything": elsewhere(func(*store.Memory) store.Store { return store.NewMemory(64 << 20) }),
		"forgets the bodies": elsewhere(func(s *store.Memory) store.Store {
			faulty := storefault.Wrap(s)
			faulty.Inject(storefault.Fail(store.ErrDamaged), storefault.Open)
			return faulty
		}),
		"forgets its secret": elsewhere(func(s *store.Memory) store.Store {
			return &changed{Store: s, secret: store.NewMemory(0).Secret}
		}),
	},
	"two instances agree": {
		"remembers entries": elsewhere(func(s *store.Memory) store.Store {
			kept := map[string][]*store.Entry{}
			return &changed{Store: s, entries: func(ctx context.Context, key string) (_ []*store.Entry, err error) {
				if _, ok := kept[key]; !ok {
					kept[key], err = s.Entries(ctx, key)
				}
				return slices.Clone(kept[key]), err
			}}
		}),
		"has a secret of its own": elsewhere(func(s *store.Memory) store.Store {
			return &changed{Store: s, secret: store.NewMemory(0).Secret}
		}),
	},
	"notes are kept as responses are": {
		"drops what is no response": storing(func(_ string, _, next []*store.Entry) []*store.Entry {
			return slices.DeleteFunc(next, func(e *store.Entry) bool { return e.Method != "GET" && e.Method != "HEAD" })
		}),
		"keeps few lines of a field": looking(func(got []*store.Entry) []*store.Entry {
			return clones(got, func(e *store.Entry) { e.Header["Marks"] = e.Header["Marks"][:min(100, len(e.Header["Marks"]))] })
		}),
		"lists no notes": memory(func(c *changed, next *store.Memory) {
			c.all = func(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
				return func(yield func(*store.Entry, error) bool) {
					for e, err := range next.All(ctx, prefix) {
						if (err != nil || !e.IsNote()) && !yield(e, err) {
							return
						}
					}
				}
			}
		}),
		"does not remove them": storing(func(_ string, current, next []*store.Entry) []*store.Entry {
			if len(next) == 0 {
				return current
			}
			return next
		}),
	},
	"two instances agree on notes": {
		"remembers that there is none": elsewhere(func(s *store.Memory) store.Store {
			missing := map[string]bool{}
			return &changed{Store: s, entries: func(ctx context.Context, key string) ([]*store.Entry, error) {
				got, err := s.Entries(ctx, key)
				if len(got) == 0 {
					missing[key] = true
				}
				if missing[key] {
					got = nil
				}
				return got, err
			}}
		}),
	},
	"two instances lose no update": {
		"loses some": elsewhere(func(s *store.Memory) store.Store { return racing(s) }),
	},
	"a damaged body is never served": harmfully,
	"a body that is lost is damage":  harmfully,
	"damaged entries are never served": {
		"returns them": func(testing.TB) Subject {
			s := store.NewMemory(64 << 20)
			damaged := map[string]bool{}
			return Subject{
				Store: &changed{Store: s, entries: func(ctx context.Context, key string) ([]*store.Entry, error) {
					got, err := s.Entries(ctx, key)
					if damaged[key] {
						got = clones(got, func(e *store.Entry) { e.Status ^= 1 })
					}
					return got, err
				}},
				DamageEntries: func(key string) error { damaged[key] = true; return nil },
			}
		},
		"cannot store again": func(testing.TB) Subject {
			s := storefault.Wrap(store.NewMemory(64 << 20))
			return Subject{Store: s, DamageEntries: func(key string) error {
				s.Inject(storefault.ForKey(key, storefault.Fail(store.ErrDamaged)), storefault.Entries, storefault.All, storefault.Update)
				return nil
			}}
		},
		"drops its neighbours": func(testing.TB) Subject {
			s := store.NewMemory(64 << 20)
			return Subject{Store: s, DamageEntries: func(string) error {
				for e := range s.All(context.Background(), "") {
					s.Update(context.Background(), e.Key, func([]*store.Entry) []*store.Entry { return nil })
				}
				return nil
			}}
		},
	},
	"blobs that no entry names are collected": {
		"keeps them": func(testing.TB) Subject {
			return Subject{Store: store.NewMemory(64 << 20), Collect: func() error { return nil }}
		},
		"collects all blobs": func(testing.TB) Subject {
			s := storefault.Wrap(store.NewMemory(64 << 20))
			return Subject{Store: s, Collect: func() error {
				s.Inject(storefault.Fail(store.ErrDamaged), storefault.Open)
				return nil
			}}
		},
	},
}
