package guard

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// key is a key as a store takes it.
var key = strings.Repeat("0", 64)

// moody is a store whose calls call before first.
type moody struct {
	store.Store

	mu     sync.Mutex
	before func(op string)
	open   int // bodies and drafts
}

func newMoody() *moody { return &moody{Store: store.NewMemory(0)} }

func (m *moody) set(before func(op string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = before
}

func (m *moody) call(op string) {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		before(op)
	}
}

func (m *moody) opened(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open += n
}

func (m *moody) isOpen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

func (m *moody) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	m.call("Entries")
	return m.Store.Entries(ctx, key)
}

func (m *moody) Secret(ctx context.Context) ([]byte, error) {
	m.call("Secret")
	return m.Store.Secret(ctx)
}

func (m *moody) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	m.call("Update")
	return m.Store.Update(ctx, key, change)
}

func (m *moody) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	m.call("All")
	return m.Store.All(ctx, prefix)
}

func (m *moody) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	m.call("Open")
	m.opened(1)
	return moodyBody{Body: body("content"), moody: m}, nil
}

func (m *moody) Create(ctx context.Context, key string, size int64) (store.Draft, error) {
	m.call("Create")
	m.opened(1)
	return moodyDraft{moodyBody{Body: body("content"), moody: m}}, nil
}

func (m *moody) Lease(ctx context.Context, key, variant string) (func(bool), bool) {
	m.call("Lease")
	m.opened(1)
	return func(bool) { m.opened(-1) }, true
}

// body is a body in memory.
type body string

func (b body) ReadAt(p []byte, offset int64) (int, error) {
	return strings.NewReader(string(b)).ReadAt(p, offset)
}
func (body) Close() error { return nil }

type moodyBody struct {
	store.Body
	moody *moody
}

func (b moodyBody) ReadAt(p []byte, offset int64) (int, error) {
	b.moody.call("ReadAt")
	return b.Body.ReadAt(p, offset)
}

func (b moodyBody) Close() error {
	b.moody.call("Close")
	b.moody.opened(-1)
	return nil
}

type moodyDraft struct{ moodyBody }

func (d moodyDraft) Write(p []byte) (int, error) {
	d.moody.call("Write")
	return len(p), nil
}

func (d moodyDraft) Commit() (store.Blob, error) {
	d.moody.call("Commit")
	return store.Blob{ID: "blob"}, nil
}

// reports are what a Reporter was told.
type reports struct {
	mu  sync.Mutex
	ops []string
}

func (r *reports) StoreFailed(_ *http.Request, op string, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, op)
}

func (r *reports) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ops
}

func unchanged(current []*store.Entry) []*store.Entry { return current }

// calls are all calls that can fail, by the name of the method of a store that fails them.
var calls = map[string]func(context.Context, Store) error{
	"Entries": func(ctx context.Context, s Store) error { _, err := s.Entries(ctx, key); return err },
	"Secret":  func(ctx context.Context, s Store) error { _, err := s.Secret(ctx); return err },
	"Update":  func(ctx context.Context, s Store) error { return s.Update(ctx, key, unchanged) },
	"All": func(ctx context.Context, s Store) error {
		for _, err := range s.Each(ctx, "") {
			if err != nil {
				return err
			}
		}
		return nil
	},
	"Open": func(ctx context.Context, s Store) error {
		b, err := s.Open(ctx, key, store.Blob{})
		if err == nil {
			b.Close()
		}
		return err
	},
	"Create": func(ctx context.Context, s Store) error {
		d, err := s.Create(ctx, key, -1)
		if err == nil {
			d.Close()
		}
		return err
	},
	"ReadAt": func(ctx context.Context, s Store) error {
		b, err := s.Open(ctx, key, store.Blob{})
		if err == nil {
			defer b.Close()
			_, err = b.ReadAt(make([]byte, 3), 0)
		}
		return err
	},
	"Write": func(ctx context.Context, s Store) error {
		d, err := s.Create(ctx, key, -1)
		if err == nil {
			defer d.Close()
			_, err = d.Write([]byte("content"))
		}
		return err
	},
	"Commit": func(ctx context.Context, s Store) error {
		d, err := s.Create(ctx, key, -1)
		if err == nil {
			defer d.Close()
			_, err = d.Commit()
		}
		return err
	},
}

// A store that hangs keeps no caller for longer than its patience, or its
// interest. Its later result is released.
func TestHang(t *testing.T) {
	for op, call := range calls {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g Guard
				m, told := newMoody(), new(reports)
				m.set(func(called string) {
					if called == op {
						time.Sleep(time.Minute)
					}
				})
				s := g.For(m, told, nil)
				deadline, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				began := time.Now()
				want, after := ErrHangs, time.Second
				if op == "All" { // its caller wants nothing else
					want, after = context.DeadlineExceeded, 4*time.Second
				}
				if err, took := call(deadline, s), time.Since(began); !errors.Is(err, want) || took != after {
					t.Errorf("with a deadline in 4 s: got %v after %v, want %v after %v", err, took, want, after)
				}
				time.Sleep(2 * time.Minute)
				canceled, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				began = time.Now()
				if err, took := call(canceled, s), time.Since(began); err != context.Canceled || took != time.Millisecond {
					if op != "Commit" && op != "Write" { // which others may wait for
						t.Errorf("cancelled after 1 ms: got %v after %v", err, took)
					}
				}
				time.Sleep(2 * time.Minute)
				if m.isOpen() != 0 {
					t.Errorf("%d bodies and drafts are open", m.isOpen())
				}
				g.Shut(time.Hour)
			})
		})
	}
}

// A caller that takes long for each entry is not taken for a store that hangs, and may stop at any time.
func TestEachWithSlowCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := newMoody()
		for i := range 5 {
			k := key[:60] + strings.Repeat(string('a'+rune(i)), 4)
			if err := m.Update(t.Context(), k, func([]*store.Entry) []*store.Entry {
				return []*store.Entry{{Key: k, URL: "http://a.test/", Method: "GET", Status: 200}}
			}); err != nil {
				t.Fatal(err)
			}
		}
		s := g.For(m, new(reports), nil)
		for _, most := range []int{5, 2} {
			n := 0
			for _, err := range s.Each(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				if n++; n == most {
					break
				}
				time.Sleep(time.Minute)
			}
			if n != most {
				t.Errorf("got %d entries, want %d", n, most)
			}
		}
		g.Shut(time.Hour)
	})
}

// A panic of a store, and runtime.Goexit, are errors.
func TestBroken(t *testing.T) {
	for name, breaks := range map[string]func(){"panic": func() { panic("broken") }, "exit": runtime.Goexit} {
		for op, call := range calls {
			t.Run(name+"/"+op, func(t *testing.T) {
				var g Guard
				m := newMoody()
				m.set(func(called string) {
					if called == op {
						breaks()
					}
				})
				if err := call(t.Context(), g.For(m, new(reports), nil)); !errors.Is(err, errBroken) {
					t.Errorf("got %v, want %v", err, errBroken)
				}
				if m.isOpen() != 0 {
					t.Errorf("%d bodies and drafts are open", m.isOpen())
				}
				if g.Shut(time.Hour); g.calls.Load() != shutBase {
					t.Errorf("%d calls are under way", g.calls.Load()-shutBase)
				}
			})
		}
	}
}

// A panic in a call that nobody waits for any more is told to the reporter.
func TestAbandonedCallPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m, told := newMoody(), new(reports)
		m.set(func(string) {
			time.Sleep(time.Minute)
			panic("broken")
		})
		_, err := g.For(m, told, nil).Entries(t.Context(), key)
		if !errors.Is(err, ErrHangs) {
			t.Errorf("got %v, want %v", err, ErrHangs)
		}
		time.Sleep(2 * time.Minute)
		if diff := cmp.Diff([]string{"look up"}, told.all()); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

// While several calls hang, others fail at once. When they return, calls are made again.
func TestHungCallsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := newMoody()
		end := make(chan struct{})
		m.set(func(string) { <-end })
		s := g.For(m, new(reports), nil)
		began := time.Now()
		for range 3 * maxHung {
			if _, err := s.Entries(t.Context(), key); err != ErrHangs {
				t.Errorf("got %v, want %v", err, ErrHangs)
			}
			time.Sleep(hangTime)
		}
		if took := time.Since(began); took >= 2*patience.Longest+3*maxHung*hangTime {
			t.Errorf("all calls took %v", took)
		}
		if n := g.abandoned.Load(); n != maxHung {
			t.Errorf("%d calls hang, want %d", n, maxHung)
		}
		close(end)
		synctest.Wait()
		if _, err := s.Entries(t.Context(), key); err != nil {
			t.Errorf("after all have returned: %v", err)
		}
	})
}

// An abandoned Update changes nothing. An abandoned Invalidate takes effect.
func TestAbandonedChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := newMoody()
		m.set(func(string) { time.Sleep(time.Minute) })
		s := g.For(m, new(reports), nil)
		var changed atomic.Int32
		change := func(current []*store.Entry) []*store.Entry { changed.Add(1); return current }
		if err := s.Update(t.Context(), key, change); err != ErrHangs {
			t.Errorf("Update: got %v, want %v", err, ErrHangs)
		}
		time.Sleep(2 * time.Minute)
		if changed.Load() != 0 {
			t.Error("Update called its function after it had returned")
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Invalidate(ended, key, change); err != context.Canceled {
			t.Errorf("Invalidate: got %v, want %v", err, context.Canceled)
		}
		time.Sleep(2 * time.Minute)
		if changed.Load() != 1 {
			t.Error("Invalidate did not take effect")
		}
	})
}

func TestShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := newMoody()
		s := g.For(m, new(reports), nil)
		opened, err := s.Open(t.Context(), key, store.Blob{})
		if err != nil {
			t.Fatal(err)
		}
		m.set(func(op string) {
			if op == "Entries" {
				time.Sleep(time.Second)
			}
		})
		var found error
		go func() { _, found = s.Entries(t.Context(), key) }()
		synctest.Wait()
		began := time.Now()
		if g.Shut(time.Minute); time.Since(began) != time.Second {
			t.Errorf("Shut took %v, want the 1s that the call under way takes", time.Since(began))
		}
		if synctest.Wait(); found != nil {
			t.Errorf("the call under way: %v", found)
		}
		for op, call := range calls {
			if err := call(t.Context(), s); !errors.Is(err, ErrShut) {
				t.Errorf("%s after Shut: got %v, want %v", op, err, ErrShut)
			}
		}
		p := make([]byte, 7)
		if n, err := opened.ReadAt(p, 0); string(p[:n]) != "content" || err != nil {
			t.Errorf("reading what was opened before Shut: got %q, %v", p[:n], err)
		}
		if opened.Close(); m.isOpen() != 0 {
			t.Error("what was opened before Shut cannot be closed")
		}
	})
}

func TestShutWaitsForLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := newMoody()
		m.set(func(string) { time.Sleep(time.Hour) })
		go g.For(m, new(reports), nil).Entries(t.Context(), key)
		synctest.Wait()
		began := time.Now()
		if g.Shut(time.Minute); time.Since(began) != time.Minute {
			t.Errorf("Shut took %v, want 1m", time.Since(began))
		}
		time.Sleep(time.Hour) // until the call returns
	})
}

func TestSecretIsAskedOnce(t *testing.T) {
	var g Guard
	m := newMoody()
	asked := 0
	m.set(func(op string) {
		if op == "Secret" {
			asked++
		}
	})
	s := g.For(m, new(reports), nil)
	if g.Secret() != nil {
		t.Error("the secret is known before it was asked for")
	}
	first, err := s.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, _ := s.Secret(t.Context())
	if diff := cmp.Diff(first, second); diff != "" || asked != 1 {
		t.Errorf("asked %d times; the secrets differ (-first +second):\n%s", asked, diff)
	}
	if diff := cmp.Diff(first, g.Secret()); diff != "" {
		t.Errorf("the known secret differs (-want +got):\n%s", diff)
	}
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := newMoody()
		s := g.For(m, new(reports), nil)
		release, granted := s.Lease(t.Context(), key, "", time.Minute)
		if !granted || release == nil || m.isOpen() != 1 {
			t.Fatalf("granted: %v, with %d leases", granted, m.isOpen())
		}
		if release(true); m.isOpen() != 0 {
			t.Error("release did not end the lease")
		}
		m.set(func(string) { time.Sleep(time.Minute) })
		if release, granted := s.Lease(t.Context(), key, "", time.Minute); !granted || release != nil {
			t.Errorf("from a store that hangs: granted %v, release %v; want granted without a release", granted, release != nil)
		}
		if time.Sleep(2 * time.Minute); m.isOpen() != 0 {
			t.Error("a lease that came too late is kept")
		}
		if release, granted := g.For(struct{ store.Store }{m}, new(reports), nil).Lease(t.Context(), key, "", time.Minute); !granted || release != nil {
			t.Error("a store without leases does not grant one")
		}
	})
}
