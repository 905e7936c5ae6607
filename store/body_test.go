package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// rangeWriter is what all bodies of a Disk that are not kept with the entry
// are.
type rangeWriter interface {
	Body
	WriteRangeTo(w io.Writer, offset, length int64) (int64, error)
}

// openBody opens the body of the one entry under key.
func openBody(tb testing.TB, d *Disk, key string) (rangeWriter, Blob) {
	tb.Helper()
	blob := mustEntries(tb, d, key)[0].Parts[0].Blob
	body, err := d.Open(tb.Context(), key, blob)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { body.Close() })
	return body.(rangeWriter), blob
}

// onlyWriter hides what else a writer can do.
type onlyWriter struct{ io.Writer }

// tcpSink returns a connection, and a function that closes it and returns the
// bytes sent through it.
func tcpSink(tb testing.TB) (*net.TCPConn, func() []byte) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		l.Close()
		if err != nil {
			got <- nil
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		got <- b
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return c.(*net.TCPConn), func() []byte {
		c.Close()
		return <-got
	}
}

func TestWriteRange(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for i, size := range []int{20_000, 64 << 10, 64<<10 + 1, 300_000, 1 << 20, 1<<20 + 5} {
		key := testKey(i)
		want := pattern(byte(i), size)
		mustPut(t, d, key, want)
		body, _ := openBody(t, d, key)
		if b, ok := body.(*fileBody); ok && b.proved() {
			t.Errorf("%d bytes: taken for verified before they were read", size)
		}
		for _, verified := range []bool{false, true} {
			if verified {
				time.Sleep(25 * time.Millisecond) // until a change would show; then read it all
				body, _ := openBody(t, d, key)
				body.WriteRangeTo(io.Discard, 0, int64(size))
			}
			for _, r := range [][2]int{{0, size}, {0, 0}, {size, 0}, {1, size - 2}, {size / 2, size / 3}, {size - 1, 1}, {max(0, size-70_000), min(size, 70_000)}} {
				off, n := r[0], r[1]
				for _, sink := range []string{"buffer", "writer", "file", "connection"} {
					body, _ := openBody(t, d, key)
					var got []byte
					var m int64
					var err error
					switch sink {
					case "buffer":
						var b bytes.Buffer
						m, err = body.WriteRangeTo(&b, int64(off), int64(n))
						got = b.Bytes()
					case "writer":
						var b bytes.Buffer
						m, err = body.WriteRangeTo(onlyWriter{&b}, int64(off), int64(n))
						got = b.Bytes()
					case "file":
						out.Truncate(0)
						out.Seek(0, io.SeekStart)
						m, err = body.WriteRangeTo(out, int64(off), int64(n))
						got = make([]byte, n+1)
						k, _ := out.ReadAt(got, 0)
						got = got[:k]
					case "connection":
						c, received := tcpSink(t)
						m, err = body.WriteRangeTo(c, int64(off), int64(n))
						got = received()
					}
					if err != nil || m != int64(n) || !bytes.Equal(got, want[off:off+n]) {
						t.Errorf("%d bytes at %d of %d to a %s, verified %v: %d, %v, or wrong bytes", n, off, size, sink, verified, m, err)
					}
					body.Close()
				}
			}
			body, _ := openBody(t, d, key)
			for _, r := range [][2]int64{{-1, 1}, {0, -1}, {0, int64(size) + 1}, {int64(size), 1}, {1 << 62, 1 << 62}} {
				var b bytes.Buffer
				if n, err := body.WriteRangeTo(&b, r[0], r[1]); err == nil || n != 0 || b.Len() != 0 {
					t.Errorf("%d bytes at %d of %d: %d, %v, want an error", r[1], r[0], size, n, err)
				}
			}
		}
		body, _ = openBody(t, d, key)
		if b, ok := body.(*fileBody); ok && !b.proved() {
			t.Errorf("%d bytes: not known as verified after they were read", size)
		}
	}
}

// TestWriteRangeShort has writers fail: what they took is counted, and the
// store is not to blame.
func TestWriteRangeShort(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	full := errors.New("full")
	for _, size := range []int{30_000, 700_000} {
		mustPut(t, d, testKeyOne, pattern(1, size))
		body, _ := openBody(t, d, testKeyOne)
		for _, want := range []error{full, io.ErrShortWrite} {
			left := size / 2
			w := writerFunc(func(p []byte) (int, error) {
				n := min(len(p), left)
				left -= n
				if n < len(p) && want == full {
					return n, full
				}
				return n, nil
			})
			n, err := body.WriteRangeTo(w, 0, int64(size))
			if n != int64(size/2) || !errors.Is(err, want) {
				t.Errorf("%d bytes to a writer that takes half: %d, %v, want %v", size, n, err, want)
			}
		}
		if len(mustEntries(t, d, testKeyOne)) != 1 {
			t.Error("the entry is gone")
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestWriteRangeDamaged damages a body before it is read, and after it was
// verified.
func TestWriteRangeDamaged(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	const size = 1 << 20
	want := pattern(1, size)
	for _, verified := range []bool{false, true} {
		for what, damage := range map[string]func(f *os.File) error{
			"changed": func(f *os.File) error { _, err := f.WriteAt([]byte{1, 2, 3, 4, 5}, 700_000); return err },
			"cut":     func(f *os.File) error { return f.Truncate(700_000) },
		} {
			for _, late := range []bool{false, true} { // when the body is open already
				for _, sink := range []string{"writer", "file"} {
					name := fmt.Sprintf("%s, verified %v, late %v, to a %s", what, verified, late, sink)
					mustPut(t, d, testKeyOne, want)
					if verified {
						time.Sleep(25 * time.Millisecond)
						body, _ := openBody(t, d, testKeyOne)
						body.WriteRangeTo(io.Discard, 0, size)
						body.Close()
					}
					blob := mustEntries(t, d, testKeyOne)[0].Parts[0].Blob
					var body Body
					if late {
						body, _ = openBody(t, d, testKeyOne)
					}
					f, err := os.OpenFile(d.path(blobName(testKeyOne, blob.ID)), os.O_RDWR, 0)
					if err != nil {
						t.Fatal(err)
					}
					if err := damage(f); err != nil {
						t.Fatal(err)
					}
					f.Close()
					if !late {
						body, err = d.Open(t.Context(), testKeyOne, blob)
					}
					var got bytes.Buffer
					if err == nil {
						if sink == "file" {
							path := filepath.Join(t.TempDir(), "out")
							out, cerr := os.Create(path)
							if cerr != nil {
								t.Fatal(cerr)
							}
							_, err = body.(rangeWriter).WriteRangeTo(out, 0, size)
							out.Close()
							b, _ := os.ReadFile(path)
							got.Write(b)
						} else {
							_, err = body.(rangeWriter).WriteRangeTo(&got, 0, size)
						}
						body.Close()
					}
					if !errors.Is(err, ErrDamaged) || got.Len() > 700_000 || !bytes.Equal(got.Bytes(), want[:got.Len()]) {
						t.Errorf("%s: %d bytes and %v, want right ones before 700000 and ErrDamaged", name, got.Len(), err)
					}
					if n := len(mustEntries(t, d, testKeyOne)); n != 0 {
						t.Errorf("%s: the damaged entry is still there", name)
					}
				}
			}
		}
	}
}

// TestWriteRangeConcurrently has one body be read in all ways at once, and
// closed under a reader.
func TestWriteRangeConcurrently(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	for _, size := range []int{50_000, 600_000} {
		want := pattern(1, size)
		mustPut(t, d, testKeyOne, want)
		time.Sleep(25 * time.Millisecond)
		body, _ := openBody(t, d, testKeyOne)
		var wg sync.WaitGroup
		for w := range 4 {
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			wg.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(w)))
				for range 30 {
					off := r.IntN(size)
					n := r.IntN(size - off + 1)
					got := make([]byte, n)
					var err error
					if w%2 == 0 {
						out.Truncate(0)
						out.Seek(0, io.SeekStart)
						_, err = body.WriteRangeTo(out, int64(off), int64(n))
						out.ReadAt(got, 0)
					} else {
						_, err = body.ReadAt(got, int64(off))
					}
					if err != nil || !bytes.Equal(got, want[off:off+n]) {
						t.Errorf("%d bytes at %d of %d: %v or wrong bytes", n, off, size, err)
					}
				}
			})
		}
		wg.Wait()

		// Another body may take the buffer of a small one that is closed, but
		// not while it is read.
		body, _ = openBody(t, d, testKeyOne)
		mustPut(t, d, testKey(2), pattern(2, size))
		var got bytes.Buffer
		_, err := body.WriteRangeTo(writerFunc(func(p []byte) (int, error) {
			body.Close()
			for range 3 {
				other, _ := openBody(t, d, testKey(2))
				other.ReadAt(make([]byte, 10), 0)
				defer other.Close()
			}
			return got.Write(p)
		}), 0, 50_000)
		if err == nil && !bytes.Equal(got.Bytes(), want[:50_000]) {
			t.Errorf("%d bytes: closed while it was read, and wrong bytes were written", size)
		}
	}
}

// BenchmarkWriteRange copies a verified body, as io.Copy from a response does,
// beside a plain file.
func BenchmarkWriteRange(b *testing.B) {
	const size = 64 << 20
	dir := b.TempDir()
	d := openTest(b, dir, DiskOptions{})
	mustPut(b, d, testKeyOne, pattern(1, size))
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, pattern(1, size), 0o600); err != nil {
		b.Fatal(err)
	}
	time.Sleep(30 * time.Millisecond)
	sinks := map[string]func(b *testing.B) io.Writer{
		"discard": func(*testing.B) io.Writer { return io.Discard },
		"writer":  func(*testing.B) io.Writer { return onlyWriter{io.Discard} },
		"file": func(b *testing.B) io.Writer {
			out, err := os.Create(filepath.Join(dir, "out"))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { out.Close() })
			return out
		},
		"tcp": func(b *testing.B) io.Writer {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { l.Close() })
			go func() {
				c, err := l.Accept()
				if err == nil {
					io.CopyBuffer(onlyWriter{io.Discard}, struct{ io.Reader }{c}, make([]byte, 1<<20))
				}
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { c.Close() })
			return c
		},
	}
	for _, name := range []string{"discard", "writer", "file", "tcp"} {
		for _, subject := range []string{"store", "store, first read", "limit"} {
			b.Run(name+"/"+subject, func(b *testing.B) {
				w := sinks[name](b)
				b.SetBytes(size)
				for b.Loop() {
					if f, ok := w.(*os.File); ok {
						f.Seek(0, io.SeekStart)
					}
					var n int64
					var err error
					if subject == "limit" {
						f, oerr := os.Open(plain)
						if oerr != nil {
							b.Fatal(oerr)
						}
						n, err = io.Copy(w, f)
						f.Close()
					} else {
						es, _ := d.Entries(b.Context(), testKeyOne)
						if subject != "store" {
							d.verified.forget(es[0].Parts[0].Blob.ID)
						}
						body, oerr := d.Open(b.Context(), testKeyOne, es[0].Parts[0].Blob)
						if oerr != nil {
							b.Fatal(oerr)
						}
						n, err = body.(rangeWriter).WriteRangeTo(w, 0, size)
						body.Close()
					}
					if n != size || err != nil {
						b.Fatal(n, err)
					}
				}
			})
		}
	}
}
