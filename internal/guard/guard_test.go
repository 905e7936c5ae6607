package guard

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// key is a key as a store takes it.
var key = strings.Repeat("0", 64)

// newFaulty returns a store that has a body under key, whose blob is also
// returned.
func newFaulty(t *testing.T) (*storefault.Store, store.Blob) {
	t.Helper()
	s := storefault.Wrap(store.NewMemory(0))
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	if _, err := draft.Write([]byte("content")); err != nil {
		t.Fatal(err)
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
		return []*store.Entry{{
			Key: key, URL: "http://a.test/", Method: "GET", Status: 200, Length: blob.Size,
			Parts: []store.Part{{Length: blob.Size, Blob: blob}},
		}}
	}); err != nil {
		t.Fatal(err)
	}
	return s, blob
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

// calls are all calls that can fail, by the name of the method of a store that
// fails them.
var calls = map[storefault.Op]func(context.Context, Store, store.Blob) error{
	storefault.Entries: func(ctx context.Context, s Store, _ store.Blob) error { _, err := s.Entries(ctx, key); return err },
	storefault.Secret:  func(ctx context.Context, s Store, _ store.Blob) error { _, err := s.Secret(ctx); return err },
	storefault.Update:  func(ctx context.Context, s Store, _ store.Blob) error { return s.Update(ctx, key, unchanged) },
	storefault.All: func(ctx context.Context, s Store, _ store.Blob) error {
		for _, err := range s.Each(ctx, "") {
			if err != nil {
				return err
			}
		}
		return nil
	},
	storefault.Open: func(ctx context.Context, s Store, blob store.Blob) error {
		b, err := s.Open(ctx, key, blob)
		if err == nil {
			b.Close()
		}
		return err
	},
	storefault.Create: func(ctx context.Context, s Store, _ store.Blob) error {
		d, err := s.Create(ctx, key, -1, &store.Entry{})
		if err == nil {
			d.Close()
		}
		return err
	},
	storefault.ReadAt: func(ctx context.Context, s Store, blob store.Blob) error {
		b, err := s.Open(ctx, key, blob)
		if err == nil {
			defer b.Close()
			_, err = b.ReadAt(make([]byte, 3), 0)
		}
		return err
	},
	storefault.Write: func(ctx context.Context, s Store, _ store.Blob) error {
		d, err := s.Create(ctx, key, -1, &store.Entry{})
		if err == nil {
			defer d.Close()
			_, err = d.Write([]byte("content"))
		}
		return err
	},
	storefault.Commit: func(ctx context.Context, s Store, _ store.Blob) error {
		d, err := s.Create(ctx, key, -1, &store.Entry{})
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
		t.Run(string(op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var g Guard
				m, blob := newFaulty(t)
				m.Inject(storefault.Delay(time.Minute), op)
				s := g.For(m, new(reports), nil)
				deadline, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				defer cancel()
				began := time.Now()
				want, after := errHangs, time.Second
				if op == storefault.All { // its caller wants nothing else
					want, after = context.DeadlineExceeded, 4*time.Second
				}
				if err, took := call(deadline, s, blob), time.Since(began); !errors.Is(err, want) || took != after {
					t.Errorf("with a deadline in 4 s: got %v after %v, want %v after %v", err, took, want, after)
				}
				time.Sleep(2 * time.Minute)
				canceled, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Millisecond, cancel)
				began = time.Now()
				if err, took := call(canceled, s, blob), time.Since(began); err != context.Canceled || took != time.Millisecond {
					if op != storefault.Commit && op != storefault.Write { // which others may wait for
						t.Errorf("cancelled after 1 ms: got %v after %v", err, took)
					}
				}
				time.Sleep(2 * time.Minute)
				if m.Held() != 0 {
					t.Errorf("%d bodies and drafts are open", m.Held())
				}
				g.Shut(time.Hour)
			})
		})
	}
}

// A caller that takes long for each entry is not taken for a store that hangs,
// and may stop at any time.
func TestEachWithSlowCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := storefault.Wrap(store.NewMemory(0))
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

// slowLister is a store that lists five entries, one every four seconds.
type slowLister struct{ store.Store }

func (slowLister) All(context.Context, string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		for i := range 5 {
			if time.Sleep(4 * time.Second); !yield(&store.Entry{URL: strconv.Itoa(i)}, nil) {
				return
			}
		}
	}
}

// Entries that do not match are not handed over, but show that the store makes
// progress.
func TestMatching(t *testing.T) {
	for _, want := range [][]string{nil, {"3"}, {"0", "4"}} {
		synctest.Test(t, func(t *testing.T) {
			var g Guard
			s := g.For(slowLister{store.NewMemory(0)}, new(reports), nil)
			var got []string
			for e, err := range s.Matching(t.Context(), "", func(url string) bool { return slices.Contains(want, url) }) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e.URL)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

// A panic of a store, and runtime.Goexit, are errors.
func TestBroken(t *testing.T) {
	for name, fault := range map[string]storefault.Fault{"panic": storefault.Panic("broken"), "exit": storefault.Goexit()} {
		for op, call := range calls {
			t.Run(name+"/"+string(op), func(t *testing.T) {
				var g Guard
				m, blob := newFaulty(t)
				m.Inject(fault, op)
				if err := call(t.Context(), g.For(m, new(reports), nil), blob); !errors.Is(err, errBroken) {
					t.Errorf("got %v, want %v", err, errBroken)
				}
				if m.Held() != 0 {
					t.Errorf("%d bodies and drafts are open", m.Held())
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
		m, told := storefault.Wrap(store.NewMemory(0)), new(reports)
		m.Inject(storefault.Sequence(storefault.Delay(time.Minute), storefault.Panic("broken")))
		_, err := g.For(m, told, nil).Entries(t.Context(), key)
		if !errors.Is(err, errHangs) {
			t.Errorf("got %v, want %v", err, errHangs)
		}
		time.Sleep(2 * time.Minute)
		if diff := cmp.Diff([]string{"look up"}, told.all()); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
	})
}

// While several calls hang, others fail at once. When they return, calls are
// made again.
func TestHungCallsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := storefault.Wrap(store.NewMemory(0))
		end := make(chan struct{})
		m.Inject(storefault.Hang(end))
		s := g.For(m, new(reports), nil)
		began := time.Now()
		for range 3 * maxHung {
			if _, err := s.Entries(t.Context(), key); err != errHangs {
				t.Errorf("got %v, want %v", err, errHangs)
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
		m := storefault.Wrap(store.NewMemory(0))
		m.Inject(storefault.Delay(time.Minute))
		s := g.For(m, new(reports), nil)
		var changed atomic.Int32
		change := func(current []*store.Entry) []*store.Entry { changed.Add(1); return current }
		if err := s.Update(t.Context(), key, change); err != errHangs {
			t.Errorf("Update: got %v, want %v", err, errHangs)
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
		m, blob := newFaulty(t)
		s := g.For(m, new(reports), nil)
		opened, err := s.Open(t.Context(), key, blob)
		if err != nil {
			t.Fatal(err)
		}
		m.Inject(storefault.Delay(time.Second), storefault.Entries)
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
			if err := call(t.Context(), s, blob); !errors.Is(err, ErrShut) {
				t.Errorf("%s after Shut: got %v, want %v", op, err, ErrShut)
			}
		}
		p := make([]byte, 7)
		if n, err := opened.ReadAt(p, 0); string(p[:n]) != "content" || err != nil {
			t.Errorf("reading what was opened before Shut: got %q, %v", p[:n], err)
		}
		if opened.Close(); m.Held() != 0 {
			t.Error("what was opened before Shut cannot be closed")
		}
	})
}

func TestShutWaitsForLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := storefault.Wrap(store.NewMemory(0))
		m.Inject(storefault.Delay(time.Hour))
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
	m := storefault.Wrap(store.NewMemory(0))
	s := g.For(m, new(reports), nil)
	if g.Secret() != nil {
		t.Error("the secret is known before it was asked for")
	}
	first, err := s.Secret(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, _ := s.Secret(t.Context())
	if diff := cmp.Diff(first, second); diff != "" || len(m.Calls(storefault.Secret)) != 1 {
		t.Errorf("asked %d times; the secrets differ (-first +second):\n%s", len(m.Calls(storefault.Secret)), diff)
	}
	if diff := cmp.Diff(first, g.Secret()); diff != "" {
		t.Errorf("the known secret differs (-want +got):\n%s", diff)
	}
}

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guard
		m := storefault.Wrap(store.NewMemory(0))
		s := g.For(m, new(reports), nil)
		release, granted := s.Lease(t.Context(), key, "", time.Minute)
		if !granted || release == nil || m.Held() != 1 {
			t.Fatalf("granted: %v, with %d leases", granted, m.Held())
		}
		if release(true); m.Held() != 0 {
			t.Error("release did not end the lease")
		}
		m.Inject(storefault.Delay(time.Minute))
		if release, granted := s.Lease(t.Context(), key, "", time.Minute); !granted || release != nil {
			t.Errorf("from a store that hangs: granted %v, release %v; want granted without a release", granted, release != nil)
		}
		if time.Sleep(2 * time.Minute); m.Held() != 0 {
			t.Error("a lease that came too late is kept")
		}
		if release, granted := g.For(struct{ store.Store }{m}, new(reports), nil).Lease(t.Context(), key, "", time.Minute); !granted || release != nil {
			t.Error("a store without leases does not grant one")
		}
	})
}
