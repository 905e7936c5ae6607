package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/straggler"
	"github.com/google/go-cmp/cmp"
)

// watched is a body that counts how often it is read and closed.
type watched struct {
	io.Reader
	reads, closed int
}

func (w *watched) Read(p []byte) (int, error) {
	w.reads++
	return w.Reader.Read(p)
}

func (w *watched) Close() error {
	w.closed++
	return nil
}

var errBroken = errors.New("the body is broken")

func TestTake(t *testing.T) {
	large := strings.Repeat("x", maxBuffered)
	again := func(text string) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	}
	for name, test := range map[string]struct {
		body    io.Reader
		getBody func() (io.ReadCloser, error)
		length  int64
		known   bool
		want    string // the content, or what rest reads
		err     error  // of rest
		reads   bool   // the body itself is read by Take
	}{
		"buffered":              {strings.NewReader("abc"), nil, 3, true, "abc", nil, true},
		"unknown length":        {strings.NewReader("abc"), nil, -1, true, "abc", nil, true},
		"largest":               {strings.NewReader(large), nil, 0, true, large, nil, true},
		"too large":             {strings.NewReader(large + "y"), nil, 0, false, large + "y", nil, true},
		"announced too large":   {strings.NewReader(large + "y"), nil, maxBuffered + 1, false, large + "y", nil, false},
		"shorter than it says":  {strings.NewReader("abc"), nil, 4, false, "abc", nil, true},
		"longer than it says":   {strings.NewReader("abcd"), nil, 3, false, "abcd", nil, true},
		"breaks":                {io.MultiReader(strings.NewReader("abc"), errorReader{errBroken}), nil, 0, false, "abc", errBroken, true},
		"hashed":                {strings.NewReader("abc"), again("abc"), 3, true, "abc", nil, false},
		"hashed and large":      {strings.NewReader(large + "y"), again(large + "y"), 0, true, large + "y", nil, false},
		"hashed and endless":    {strings.NewReader("abc"), func() (io.ReadCloser, error) { return io.NopCloser(endless{}), nil }, 0, false, "abc", nil, false},
		"hashed, wrong length":  {strings.NewReader("abc"), again("abcd"), 3, false, "abc", nil, false},
		"hashed, but it breaks": {strings.NewReader("abc"), func() (io.ReadCloser, error) { return io.NopCloser(errorReader{errBroken}), nil }, 3, false, "abc", nil, false},
		"no copy":               {strings.NewReader("abc"), func() (io.ReadCloser, error) { return nil, errBroken }, 3, false, "abc", nil, false},
		"nothing":               {http.NoBody, nil, 0, true, "", nil, false},
		"empty":                 {strings.NewReader(""), nil, 0, true, "", nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			body := &watched{Reader: test.body}
			var given io.ReadCloser = body
			if test.body == http.NoBody {
				given = http.NoBody
			}
			var stragglers straggler.Counter
			c, rest := Take(t.Context(), time.Hour, given, test.getBody, test.length, &stragglers)
			if (c != nil) != test.known || c != nil && rest != nil {
				t.Fatalf("content %v, rest %v", c, rest)
			}
			if (body.reads > 0) != test.reads || body.closed != 0 {
				t.Errorf("the body was read %d and closed %d times", body.reads, body.closed)
			}
			if c == nil {
				got, err := io.ReadAll(rest)
				if string(got) != test.want || !errors.Is(err, test.err) {
					t.Errorf("rest: %d bytes, %v", len(got), err)
				}
				if rest.Close(); body.closed != 1 {
					t.Error("closing rest does not close the body")
				}
				return
			}
			if diff := cmp.Diff(sha256.Sum256([]byte(test.want)), c.Sum); diff != "" || c.Length != int64(len(test.want)) {
				t.Errorf("length %d, sum (-want +got):\n%s", c.Length, diff)
			}
			for range 2 {
				r, err := c.Open()
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); string(got) != test.want || err != nil {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestChangedContent(t *testing.T) {
	b := []byte("abc")
	getBody := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	var stragglers straggler.Counter
	c, _ := Take(t.Context(), time.Hour, &watched{Reader: bytes.NewReader(b)}, getBody, 3, &stragglers)
	b[1] = 'x'
	r, err := c.Open()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != errChanged || len(got) != 0 {
		t.Errorf("%q, error %v, want %v", got, err, errChanged)
	}
}

// TestBodyThatFails tests bodies that hang, panic, or end their goroutine.
func TestBodyThatFails(t *testing.T) {
	pipe, writer := io.Pipe()
	defer writer.Close()
	errLate := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errLate)
	defer cancel()
	for name, test := range map[string]struct {
		body io.ReadCloser
		want string
	}{
		"hangs":  {pipe, "too late"},
		"panics": {io.NopCloser(readerFunc(func() { panic("no") })), "panic in the body"},
		"ends":   {io.NopCloser(readerFunc(runtime.Goexit)), "ended the goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			within := ctx
			if name != "hangs" {
				within = t.Context()
			}
			var stragglers straggler.Counter
			c, rest := Take(within, time.Hour, test.body, nil, 0, &stragglers)
			if c != nil {
				t.Fatal(c)
			}
			if _, err := rest.Read(nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			rest.Close()
			stragglers.Wait(time.Now().Add(time.Minute)) // the goroutine ends
		})
	}
}

type readerFunc func()

func (f readerFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

// TestSlowBody tests that a body that does not come in time is given as it
// comes.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body, writer := io.Pipe()
		go func() {
			for _, piece := range []string{"ab", "cd", "ef"} {
				writer.Write([]byte(piece))
				time.Sleep(2 * time.Second)
			}
			writer.Close()
		}()
		var stragglers straggler.Counter
		start := time.Now()
		c, rest := Take(t.Context(), 3*time.Second, body, nil, 0, &stragglers)
		if took := time.Since(start); c != nil || took != 3*time.Second {
			t.Fatalf("content %v after %v", c, took)
		}
		p := make([]byte, 10)
		if n, err := rest.Read(p); string(p[:n]) != "abcd" || err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("%q, %v after %v", p[:n], err, time.Since(start))
		}
		if got, err := io.ReadAll(rest); string(got) != "ef" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		rest.Close()
	})
}
