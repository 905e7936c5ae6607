package storefault_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// TestBeyond reads around the offset from which on reads fail.
func TestBeyond(t *testing.T) {
	s := openFaulty(t)
	ops := calls(t, s)
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	if _, err := draft.Write(content); err != nil {
		t.Fatal(err)
	}
	body := openStored(t, s)
	s.Inject(storefault.Beyond(100, syscall.EIO))
	for _, test := range []struct {
		offset, length, want int64
		err                  error
	}{
		{0, 50, 50, nil},
		{0, 100, 100, nil},
		{0, 101, 100, syscall.EIO},
		{90, 20, 10, syscall.EIO},
		{100, 1, 0, syscall.EIO},
		{1000, 10, 0, syscall.EIO},
	} {
		for name, read := range map[string]func(p []byte) (int, error){
			"ReadAt":      func(p []byte) (int, error) { return body.ReadAt(p, test.offset) },
			"DraftReadAt": func(p []byte) (int, error) { return draft.ReadAt(p, test.offset) },
			"WriteRangeTo": func(p []byte) (int, error) {
				var b bytes.Buffer
				n, err := body.(interface {
					WriteRangeTo(io.Writer, int64, int64) (int64, error)
				}).WriteRangeTo(&b, test.offset, test.length)
				copy(p, b.Bytes())
				return int(n), err
			},
		} {
			p := make([]byte, test.length)
			n, err := read(p)
			if int64(n) != test.want || err != test.err || !bytes.Equal(p[:n], content[test.offset:test.offset+int64(n)]) {
				t.Errorf("%s of %d at %d: %d bytes, wrong or %v; want %d and %v", name, test.length, test.offset, n, err, test.want, test.err)
			}
		}
	}
	for op, call := range ops { // other operations are not concerned
		if !bytesOf[op] {
			if err := call(); err != nil {
				t.Errorf("%s: %v", op, err)
			}
		}
	}
}

// TestPartial writes a part of what it should write.
func TestPartial(t *testing.T) {
	s := storefault.Wrap(store.NewMemory(0))
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	partial := func(n int64) storefault.Fault {
		return func(storefault.Call) error { return storefault.Partial(n, syscall.ENOSPC) }
	}
	s.Inject(partial(3), storefault.Write, storefault.Secret)
	for _, test := range []struct {
		write string
		n     int
		err   error
	}{{"abcdef", 3, syscall.ENOSPC}, {"def", 3, nil}, {"ghij", 3, syscall.ENOSPC}} {
		if n, err := draft.Write([]byte(test.write)); n != test.n || err != test.err {
			t.Errorf("Write(%q): %d, %v; want %d, %v", test.write, n, err, test.n, test.err)
		}
	}
	if _, err := s.Secret(t.Context()); !errors.Is(err, syscall.ENOSPC) || err.Error() != syscall.ENOSPC.Error() {
		t.Errorf("another operation: %v", err)
	}
	s.Inject(partial(-1), storefault.Write)
	if n, err := draft.Write([]byte("x")); n != 0 || err != syscall.ENOSPC {
		t.Errorf("less than nothing: %d, %v", n, err)
	}
	got := make([]byte, 20)
	if n, _ := draft.ReadAt(got, 0); string(got[:n]) != "abcdefghi" {
		t.Errorf("the draft has %q", got[:n])
	}
	if calls := s.Calls(storefault.Write); calls[2].Offset != 6 {
		t.Errorf("the third write begins at %d", calls[2].Offset)
	}
}

// TestFaultsAfterwards has calls fail that had their effect.
func TestFaultsAfterwards(t *testing.T) {
	s := openFaulty(t)
	ops := calls(t, s)
	var reached []storefault.Op
	for op, call := range ops {
		s.InjectAfter(nil)
		s.InjectAfter(func(c storefault.Call) error {
			if c.Op != op || c.N != len(s.Calls(op)) {
				t.Errorf("%s: told of %+v", op, c)
			}
			reached = append(reached, op)
			return syscall.EIO
		}, op)
		var want error = syscall.EIO
		if op == storefault.Lease || op == storefault.Release {
			want = nil
		}
		if err := call(); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", op, err, want)
		}
	}
	slices.Sort(reached)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(ops)), slices.Compact(reached)); diff != "" {
		t.Errorf("operations with faults (-want +got):\n%s", diff)
	}
	s.InjectAfter(nil)

	// An Update that fails afterwards is made.
	s.InjectAfter(storefault.Fail(nil), storefault.Update)
	err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return nil })
	if !errors.Is(err, storefault.ErrInjected) {
		t.Errorf("Update: %v", err)
	}
	if left, err := s.Entries(t.Context(), key); len(left) > 0 || err != nil {
		t.Errorf("%d entries are left, %v", len(left), err)
	}
}

// TestLeasesAreHeld counts leases, also of a store that has none.
func TestLeasesAreHeld(t *testing.T) {
	for name, s := range map[string]*storefault.Store{"disk": openFaulty(t), "memory": storefault.Wrap(store.NewMemory(0))} {
		release, granted := s.Lease(t.Context(), key, "")
		if !granted || s.Held() != 1 {
			t.Errorf("%s: granted %t, %d are held", name, granted, s.Held())
		}
		release(true)
		if s.Held() != 0 {
			t.Errorf("%s: %d are held afterwards", name, s.Held())
		}
	}
}

// openFaulty returns a Store that wraps a Disk.
func openFaulty(t *testing.T) *storefault.Store {
	t.Helper()
	disk, err := store.OpenDisk(t.TempDir(), store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	return storefault.Wrap(disk)
}

// openStored opens the body that calls has stored.
func openStored(t *testing.T, s *storefault.Store) store.Body {
	t.Helper()
	entries, err := s.Entries(t.Context(), key)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	body, err := s.Open(t.Context(), key, entries[0].Parts[0].Blob)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { body.Close() })
	return body
}

// TestNothingIsLeftOpen has calls fail that open something, or that close it.
func TestNothingIsLeftOpen(t *testing.T) {
	inner := storefault.Wrap(store.NewMemory(0))
	s := storefault.Wrap(inner)
	draft, err := s.Create(t.Context(), key, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := draft.Write(content); err != nil {
		t.Fatal(err)
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
		return []*store.Entry{{Key: key, Method: "GET", Length: blob.Size, Parts: []store.Part{{Length: blob.Size, Blob: blob}}}}
	})
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Open(t.Context(), key, blob)
	if err != nil {
		t.Fatal(err)
	}
	s.InjectAfter(storefault.Fail(nil), storefault.Open, storefault.Create, storefault.Lease)
	if _, err := s.Open(t.Context(), key, blob); !errors.Is(err, storefault.ErrInjected) {
		t.Errorf("Open: %v", err)
	}
	if _, err := s.Create(t.Context(), key, -1); !errors.Is(err, storefault.ErrInjected) {
		t.Errorf("Create: %v", err)
	}
	if release, granted := s.Lease(t.Context(), key, ""); !granted {
		t.Error("Lease: not granted")
	} else {
		release(true)
	}
	if inner.Held() != 2 || s.Held() != 2 {
		t.Errorf("%d and %d are open, want the draft and the body", inner.Held(), s.Held())
	}
	s.Inject(storefault.Fail(nil), storefault.Close, storefault.DraftClose)
	for _, c := range []io.Closer{draft, body} {
		if err := c.Close(); !errors.Is(err, storefault.ErrInjected) {
			t.Errorf("Close: %v", err)
		}
	}
	if inner.Held() != 0 || s.Held() != 0 {
		t.Errorf("%d and %d are open, want none", inner.Held(), s.Held())
	}
}
