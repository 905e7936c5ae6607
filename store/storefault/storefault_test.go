package storefault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
	"github.com/cachetrip/cachetrip/store/storetest"
)

var key = strings.Repeat("0123456789abcdef", 4)

// content is longer than what a store keeps with the entry.
var content = bytes.Repeat([]byte("content!"), 50_000)

// TestStore checks that a Store without faults is as good as the wrapped one.
func TestStore(t *testing.T) {
	for name, open := range map[string]func(*testing.T) store.Store{
		"memory": func(*testing.T) store.Store { return store.NewMemory(64 << 20) },
		"disk": func(t *testing.T) store.Store {
			disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { disk.Close() })
			return disk
		},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Test(t, func(t *testing.T) store.Store { return storefault.Wrap(open(t)) })
		})
	}
}

// calls makes one call of each operation of a Store, whose results are those of
// the wrapped store unless they fail. s.inner must be a Disk.
func calls(t *testing.T, s *storefault.Store) map[storefault.Op]func() error {
	t.Helper()
	draft := func() store.Draft {
		d, err := s.Create(t.Context(), key, -1)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}
	written, err := func() (store.Blob, error) {
		d := draft()
		if _, err := d.Write(content); err != nil {
			t.Fatal(err)
		}
		return d.Commit()
	}()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
		return []*store.Entry{{
			Key: key, URL: "https://example.com/", Method: "GET", Status: 200, Length: written.Size,
			Parts: []store.Part{{Length: written.Size, Blob: written}},
		}}
	})
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Open(t.Context(), key, written)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { body.Close() })
	ready := draft()
	if _, err := ready.Write(content); err != nil {
		t.Fatal(err)
	}
	same := func(got []byte) error {
		if !bytes.Equal(got, content[:len(got)]) {
			return errWrong
		}
		return nil
	}
	first := func(_ any, err error) error { return err }
	return map[storefault.Op]func() error{
		storefault.Entries: func() error { return first(s.Entries(t.Context(), key)) },
		storefault.Update: func() error {
			return s.Update(t.Context(), key, func(current []*store.Entry) []*store.Entry { return current })
		},
		storefault.Open: func() error {
			b, err := s.Open(t.Context(), key, written)
			if err == nil {
				b.Close()
			}
			return err
		},
		storefault.Create: func() error {
			d, err := s.Create(t.Context(), key, -1)
			if err == nil {
				d.Close()
			}
			return err
		},
		storefault.All: func() error {
			var last error
			for _, err := range s.All(t.Context(), "") {
				last = err
			}
			return last
		},
		storefault.Secret: func() error { return first(s.Secret(t.Context())) },
		storefault.Lease: func() error {
			release, granted := s.Lease(t.Context(), key, "")
			if !granted {
				return errWrong
			}
			release(true)
			return nil
		},
		storefault.Release: func() error {
			release, _ := s.Lease(t.Context(), key, "")
			release(true)
			return nil
		},
		storefault.ReadAt: func() error {
			p := make([]byte, 1000)
			_, err := body.ReadAt(p, 0)
			return errors.Join(err, same(p))
		},
		storefault.WriteRangeTo: func() error {
			var b bytes.Buffer
			_, err := body.(interface {
				WriteRangeTo(io.Writer, int64, int64) (int64, error)
			}).WriteRangeTo(&b, 0, int64(len(content)))
			return errors.Join(err, same(b.Bytes()))
		},
		storefault.DraftReadAt: func() error {
			p := make([]byte, 1000)
			_, err := ready.ReadAt(p, 0)
			return errors.Join(err, same(p))
		},
		storefault.Write: func() error {
			d := draft()
			if _, err := d.Write(content); err != nil {
				return err
			}
			p := make([]byte, len(content))
			_, err := d.ReadAt(p, 0)
			if err == io.EOF {
				err = nil
			}
			return errors.Join(err, same(p))
		},
		storefault.Commit: func() error { return first(draft().Commit()) },
		storefault.Close: func() error {
			b, err := s.Open(t.Context(), key, written)
			if err != nil {
				return err
			}
			return b.Close()
		},
		storefault.DraftClose: func() error { return draft().Close() },
	}
}

var errWrong = errors.New("the call has a wrong result")

// bytesOf are the operations whose bytes can be corrupted.
var bytesOf = map[storefault.Op]bool{storefault.ReadAt: true, storefault.WriteRangeTo: true, storefault.Write: true, storefault.DraftReadAt: true}

// TestFaults has each operation succeed, fail, panic, and get wrong bytes.
func TestFaults(t *testing.T) {
	disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	s := storefault.Wrap(disk)
	for op, call := range calls(t, s) {
		t.Run(string(op), func(t *testing.T) {
			if err := call(); err != nil {
				t.Errorf("without a fault: %v", err)
			}
			var want error = syscall.ENOSPC
			if op == storefault.Lease || op == storefault.Release {
				want = nil // they have no error; a fault grants a lease
			}
			s.Inject(storefault.Fail(syscall.ENOSPC), op)
			if err := call(); !errors.Is(err, want) {
				t.Errorf("Fail: %v, want %v", err, want)
			}
			s.Inject(storefault.Panic("on purpose"), op)
			if got := recovered(call); got != "on purpose" {
				t.Errorf("Panic: %v", got)
			}
			s.Inject(storefault.Corrupt(), op)
			if err := call(); errors.Is(err, errWrong) != bytesOf[op] || err != nil && !bytesOf[op] {
				t.Errorf("Corrupt: %v, want wrong bytes: %t", err, bytesOf[op])
			}
			s.Inject(nil)
			if err := call(); err != nil {
				t.Errorf("without a fault again: %v", err)
			}
			if n := len(s.Calls(op)); n < 5 || s.Calls(op)[n-1].N != n || s.Calls(op)[n-1].Op != op {
				t.Errorf("recorded %+v", s.Calls(op))
			}
		})
	}
}

func recovered(f func() error) (p any) {
	defer func() { p = recover() }()
	return f()
}

// TestSelection checks which calls a fault applies to.
func TestSelection(t *testing.T) {
	fail := storefault.Fail(nil)
	other := strings.Repeat("f", 64)
	for _, test := range []struct {
		name  string
		fault storefault.Fault
		keys  []string
		want  string // one letter for each call: f for failed
	}{
		{"Nth", storefault.Nth(2, fail), []string{key, key, key, key}, ".f.."},
		{"After", storefault.After(2, fail), []string{key, key, key, key}, "..ff"},
		{"Every", storefault.Every(2, fail), []string{key, key, key, key, key}, ".f.f."},
		{"ForKey", storefault.ForKey(key, fail), []string{key, other, key, other}, "f.f."},
		{"Nth of a key", storefault.ForKey(key, storefault.Nth(2, fail)), []string{key, other, key, key}, "..f."},
		{"Sequence", storefault.Sequence(storefault.Nth(1, fail), storefault.Nth(2, fail)), []string{key, key, key, key}, "f.f."},
	} {
		s := storefault.Wrap(store.NewMemory(0))
		s.Inject(test.fault, storefault.Entries)
		got := ""
		for _, key := range test.keys {
			if _, err := s.Entries(t.Context(), key); errors.Is(err, storefault.ErrInjected) {
				got += "f"
			} else {
				got += "."
			}
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestRoom checks that a draft takes so many bytes and no more.
func TestRoom(t *testing.T) {
	s := storefault.Wrap(store.NewMemory(0))
	s.Inject(storefault.Room(10))
	d, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		n    int
		want error
	}{{6, nil}, {5, syscall.ENOSPC}, {4, nil}, {1, syscall.ENOSPC}} {
		if _, err := d.Write(make([]byte, test.n)); !errors.Is(err, test.want) {
			t.Errorf("write %d of %d bytes: %v, want %v", i, test.n, err, test.want)
		}
	}
	if s.Held() != 1 {
		t.Errorf("%d bodies and drafts are open, want 1", s.Held())
	}
	d.Close()
	d.Close()
	if s.Held() != 0 {
		t.Errorf("%d bodies and drafts are open, want none", s.Held())
	}
}

// TestTime checks the faults that take time, and what the wrapped store sees of
// contexts.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storefault.Wrap(store.NewMemory(0))
		began := time.Now()
		s.Inject(storefault.Delay(time.Minute), storefault.Secret)
		if _, err := s.Secret(t.Context()); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %v, want success after a minute", err, time.Since(began))
		}
		end := make(chan struct{})
		s.Inject(storefault.Hang(end), storefault.Secret)
		done := make(chan error, 1)
		go func() {
			_, err := s.Secret(t.Context())
			done <- err
		}()
		synctest.Wait()
		if len(done) > 0 {
			t.Error("the call does not hang")
		}
		close(end)
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Inject(storefault.Goexit(), storefault.Secret)
		ended := make(chan bool)
		go func() {
			defer close(ended)
			s.Secret(t.Context())
			t.Error("the goroutine goes on")
		}()
		<-ended
		s.Inject(nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Secret(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("with a cancelled context: %v", err)
		}
		deaf := storefault.Wrap(store.NewMemory(0))
		deaf.IgnoreContext = true
		if _, err := deaf.Secret(ctx); err != nil {
			t.Errorf("with a cancelled context that is ignored: %v", err)
		}
	})
}
