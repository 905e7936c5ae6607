package stored_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// blob is a body of a store.
type blob struct {
	content string
	fails   int64 // reads of this offset fail; 0: none do
	err     error
	closed  atomic.Int32
	onClose func()
}

func (b *blob) ReadAt(p []byte, offset int64) (int, error) {
	if b.fails > 0 && offset+int64(len(p)) > b.fails {
		if offset >= b.fails {
			return 0, b.err
		}
		p = p[:b.fails-offset]
	}
	return strings.NewReader(b.content).ReadAt(p, offset)
}

func (b *blob) Close() error {
	b.closed.Add(1)
	if b.onClose != nil {
		b.onClose()
	}
	return nil
}

// direct is a blob that copies itself.
type direct struct{ *blob }

func (d direct) WriteRangeTo(w io.Writer, offset, length int64) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{io.NewSectionReader(d.blob, offset, length)})
}

// fixture is content of three parts: one in memory, and two in blobs, before
// which the store has other bytes.
type fixture struct {
	*testing.T
	stored.Content
	first, second *blob
	count         atomic.Int64
	damaged       atomic.Int32
}

const whole = "0123456789abcdefghijABCDEFGHIJ"

func open(t *testing.T, copies bool) *fixture {
	f := &fixture{T: t, first: &blob{content: "--abcdefghij"}, second: &blob{content: "ABCDEFGHIJ"}}
	parts := []store.Part{
		{Offset: 0, Length: 10, Skip: 1, Blob: store.Blob{Inline: []byte("-0123456789-")}},
		{Offset: 10, Length: 10, Skip: 2, Blob: store.Blob{ID: "first"}},
		{Offset: 20, Length: 10, Blob: store.Blob{ID: "second"}},
	}
	err := f.Open(parts, func(b store.Blob) (store.Body, error) {
		body := map[string]*blob{"first": f.first, "second": f.second}[b.ID]
		if copies {
			return direct{body}, nil
		}
		return body, nil
	}, func() { f.damaged.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) body(s span.Span, rest func(context.Context, span.Span) io.ReadCloser) *stored.Body {
	return stored.NewBody(&f.Content, s, stored.Options{Count: &f.count, Rest: rest})
}

func (f *fixture) wantClosed(want bool) {
	f.Helper()
	n := int32(0)
	if want {
		n = 1
	}
	if f.first.closed.Load() != n || f.second.closed.Load() != n {
		f.Errorf("closed %d and %d times, want %d", f.first.closed.Load(), f.second.closed.Load(), n)
	}
}

// ways are the ways to read a body to its end.
var ways = map[string]func(io.Reader) (string, error){
	"read": func(r io.Reader) (string, error) {
		got, err := io.ReadAll(r)
		return string(got), err
	},
	"read byte by byte": func(r io.Reader) (string, error) {
		var got []byte
		for p := make([]byte, 1); ; {
			n, err := r.Read(p)
			if got = append(got, p[:n]...); err == io.EOF {
				return string(got), nil
			} else if err != nil {
				return string(got), err
			}
		}
	},
	"copied": func(r io.Reader) (string, error) {
		var b bytes.Buffer
		n, err := r.(io.WriterTo).WriteTo(&b)
		if n != int64(b.Len()) {
			err = errors.Join(err, errors.New("a wrong count"))
		}
		return b.String(), err
	},
}

func TestBody(t *testing.T) {
	for _, s := range []span.Span{span.Of(0, 30), span.Of(5, 25), span.Of(12, 13), span.Of(20, 30), span.Of(7, 7)} {
		for way, read := range ways {
			for _, copies := range []bool{false, true} {
				f := open(t, copies)
				ended := 0
				b := f.body(s, nil)
				b.BeforeEnd(func() { ended++ })
				got, err := read(b)
				if want := whole[s.Start:s.End]; got != want || err != nil {
					t.Errorf("%v, %s: got %q, %v, want %q", s, way, got, err, want)
				}
				if ended != 1 || f.count.Load() != s.Length() {
					t.Errorf("%v, %s: told %d times before the end, counted %d bytes", s, way, ended, f.count.Load())
				}
				f.wantClosed(s.Length() > 0)
				if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("%v, %s: after the end %d, %v", s, way, n, err)
				}
				b.Close()
				f.wantClosed(true)
				if _, err := read(b); err != http.ErrBodyReadAfterClose {
					t.Errorf("%v, %s: after Close %v", s, way, err)
				}
			}
		}
	}
}

func TestText(t *testing.T) {
	for way, read := range ways {
		if got, err := read(stored.Text("some text")); got != "some text" || err != nil {
			t.Errorf("%s: got %q, %v", way, got, err)
		}
	}
}

func TestClose(t *testing.T) {
	f := open(t, false)
	b := f.body(span.Of(0, 30), nil)
	ended := 0
	b.BeforeEnd(func() { ended++ })
	if _, err := b.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	b.Close()
	b.Close()
	f.wantClosed(true)
	if ended == 0 {
		t.Error("not told before Close returned")
	}
}

func TestCloseWhileReading(t *testing.T) {
	// The files are closed when the read has returned.
	f := open(t, false)
	b := f.body(span.Of(0, 30), nil)
	w := writer(func(p []byte) (int, error) {
		b.Close()
		f.wantClosed(false)
		return len(p), nil
	})
	if n, err := b.WriteTo(w); n != 10 || err != http.ErrBodyReadAfterClose {
		t.Errorf("wrote %d, %v", n, err)
	}
	f.wantClosed(true)
}

func TestReadWhileClosing(t *testing.T) {
	// A store that takes its time to close a body keeps no reader of it.
	f := open(t, false)
	b := f.body(span.Of(0, 30), nil)
	f.first.onClose = func() {
		read := make(chan error)
		go func() {
			_, err := f.body(span.Of(0, 30), nil).Read(make([]byte, 1))
			read <- err
		}()
		select {
		case err := <-read:
			if err != http.ErrBodyReadAfterClose {
				t.Errorf("read %v, want %v", err, http.ErrBodyReadAfterClose)
			}
		case <-time.After(time.Minute):
			t.Error("the reader waits for the store")
		}
	}
	b.Close()
	f.wantClosed(true)
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestManyReaders(t *testing.T) {
	f := open(t, false)
	b := f.body(span.Of(0, 30), nil)
	var total atomic.Int64
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			got, err := io.ReadAll(struct{ io.Reader }{b})
			if err != nil {
				t.Error(err)
			}
			total.Add(int64(len(got)))
		})
	}
	wg.Wait()
	if total.Load() != 30 {
		t.Errorf("read %d bytes, want 30", total.Load())
	}
}

func TestWriteErrors(t *testing.T) {
	// An error of the writer is that of the copy, even io.EOF, and no damage.
	for _, want := range []error{io.EOF, io.ErrClosedPipe, io.ErrShortWrite} {
		for _, start := range []int64{0, 10} {
			for _, copies := range []bool{false, true} {
				f := open(t, copies)
				w := writer(func(p []byte) (int, error) {
					if want == io.ErrShortWrite {
						return 1, nil
					}
					return 1, want
				})
				n, err := f.body(span.Of(start, 30), nil).WriteTo(w)
				if n != 1 || err != want || f.damaged.Load() != 0 {
					t.Errorf("wrote %d, %v, want 1, %v; damaged %d times", n, err, want, f.damaged.Load())
				}
			}
		}
	}
}

func TestOpenFails(t *testing.T) {
	for _, test := range []struct {
		err     error
		damaged bool
	}{
		{store.ErrDamaged, true},
		{io.EOF, true},
		{errors.New("the network is down"), false},
	} {
		first, damaged := &blob{}, false
		var c stored.Content
		parts := []store.Part{{Length: 1, Blob: store.Blob{ID: "a"}}, {Offset: 1, Length: 1, Blob: store.Blob{ID: "b"}}}
		err := c.Open(parts, func(b store.Blob) (store.Body, error) {
			if b.ID == "a" {
				return first, nil
			}
			return nil, test.err
		}, func() { damaged = true })
		if err == nil || damaged != test.damaged || first.closed.Load() != 1 {
			t.Errorf("%v: error %v, damaged %t, closed %d", test.err, err, damaged, first.closed.Load())
		}
	}
}

func TestDamage(t *testing.T) {
	// The origin may have the content that the store has lost.
	down := errors.New("the network is down")
	for _, test := range []struct {
		name    string
		err     error
		rest    string // what the origin brings; "-": nothing
		want    string
		wantErr error
		damaged bool
	}{
		{"damaged", store.ErrDamaged, "-", whole[:15], store.ErrDamaged, true},
		{"short", io.EOF, "-", whole[:15], store.ErrDamaged, true},
		{"unreachable", down, "-", whole[:15], down, false},
		{"damaged, and the origin has it", store.ErrDamaged, whole[15:], whole, nil, true},
		{"unreachable, and the origin has it", down, whole[15:], whole, nil, false},
		{"the origin has less", down, whole[15:20], whole[:20], io.ErrUnexpectedEOF, false},
		{"the origin has more", down, whole[15:] + "more", whole, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for way, read := range ways {
				for _, copies := range []bool{false, true} {
					f := open(t, copies)
					f.first.fails, f.first.err = 7, test.err // 5 bytes of the part
					asked, rest := 0, &closeCounter{}
					b := f.body(span.Of(0, 30), func(_ context.Context, s span.Span) io.ReadCloser {
						if asked++; s != span.Of(15, 30) {
							t.Errorf("%s: asked for %v", way, s)
						}
						if test.rest == "-" {
							return nil
						}
						rest.Reader = strings.NewReader(test.rest)
						return rest
					})
					got, err := read(b)
					want, wantErr := test.want, test.wantErr
					if copies && way == "copied" && !test.damaged {
						want, wantErr = whole[:15], down // it may be an error of the writer
					}
					if got != want || !errors.Is(err, wantErr) {
						t.Errorf("%s: got %q, %v, want %q, %v", way, got, err, want, wantErr)
					}
					if damaged := f.damaged.Load() > 0; damaged != test.damaged {
						t.Errorf("%s: damaged %t", way, damaged)
					}
					b.Close()
					f.wantClosed(true)
					if asked > 0 && test.rest != "-" && rest.closed == 0 {
						t.Errorf("%s: the rest is open", way)
					}
				}
			}
		})
	}
}

func TestRestIsAskedOnce(t *testing.T) {
	// The caller's hook may panic below Rest. A caller that recovers may read on.
	for name, ask := range map[string]func(){
		"it gets nothing": func() {},
		"it panics":       func() { panic("on purpose") },
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, false)
			f.first.fails, f.first.err = 7, store.ErrDamaged
			var asked context.Context
			b := f.body(span.Of(15, 30), func(ctx context.Context, _ span.Span) io.ReadCloser {
				if asked != nil {
					t.Error("asked again")
				}
				asked = ctx
				ask()
				return nil
			})
			func() {
				defer func() { recover() }()
				b.Read(make([]byte, 1))
			}()
			for range 2 {
				if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, store.ErrDamaged) {
					t.Errorf("then %d bytes, %v", n, err)
				}
			}
			if asked == nil || asked.Err() == nil {
				t.Error("the context of Rest has not ended")
			}
			b.Close()
			f.wantClosed(true)
		})
	}
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

func TestMultipart(t *testing.T) {
	for way, read := range ways {
		f := open(t, false)
		ranges := []span.Span{span.Of(25, 30), span.Of(3, 12)}
		body, boundary, size := stored.NewMultipart(&f.Content, ranges, 30, "text/plain", stored.Options{Count: &f.count})
		ended := 0
		body.BeforeEnd(func() { ended++ })
		text, err := read(body)
		if err != nil || int64(len(text)) != size || ended != 1 {
			t.Errorf("%s: got %d bytes, %v, want %d; told %d times before the end", way, len(text), err, size, ended)
		}
		f.wantClosed(true)
		if f.count.Load() != 14 {
			t.Errorf("%s: counted %d bytes, want 14", way, f.count.Load())
		}
		var got []string
		for r := multipart.NewReader(strings.NewReader(text), boundary); ; {
			part, err := r.NextPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, _ := io.ReadAll(part)
			got = append(got, part.Header.Get("Content-Range")+" "+part.Header.Get("Content-Type")+" "+string(content))
		}
		want := []string{"bytes 25-29/30 text/plain FGHIJ", "bytes 3-11/30 text/plain 3456789ab"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: parts (-want +got):\n%s", way, diff)
		}
		if kind := mime.FormatMediaType("multipart/byteranges", map[string]string{"boundary": boundary}); kind == "" {
			t.Errorf("%q is no boundary", boundary)
		}
		body.Close()
		if _, err := read(body); err != http.ErrBodyReadAfterClose {
			t.Errorf("%s: after Close %v", way, err)
		}
	}
}

func TestMultipartClosedEarly(t *testing.T) {
	f := open(t, false)
	body, _, _ := stored.NewMultipart(&f.Content, []span.Span{span.Of(0, 1), span.Of(2, 3)}, -1, "", stored.Options{Count: &f.count})
	ended := false
	body.BeforeEnd(func() { ended = true })
	body.Read(make([]byte, 1))
	body.Close()
	f.wantClosed(true)
	if !ended {
		t.Error("not told before Close returned")
	}
}

func TestParts(t *testing.T) {
	f := open(t, false)
	if n := len(f.Parts()); n != 3 {
		t.Errorf("%d parts, want 3", n)
	}
	if f.InMemory() {
		t.Error("in memory, and two parts are not")
	}
	var c stored.Content
	if err := c.Open(f.Parts()[:1], nil, nil); err != nil || !c.InMemory() {
		t.Errorf("in memory: %t, %v", c.InMemory(), err)
	}
	f.Close()
}
