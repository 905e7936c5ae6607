package stored

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cachetrip/cachetrip/internal/span"
)

// Multipart is the body of a response with several ranges: RFC 9110, section
// 14.6.
type Multipart struct {
	content *Content
	closed  atomic.Bool
	ended   func()

	turn sync.Mutex // held by the goroutine that reads; Close does not wait for it
	all  io.Reader  // the frames and the ranges
}

// NewMultipart returns a body with several ranges of content, their boundary,
// and the length of the body. The body closes content. length is that of the
// content, or -1.
func NewMultipart(c *Content, ranges []span.Span, length int64, contentType string, o Options) (m *Multipart, boundary string, size int64) {
	var frame bytes.Buffer
	w := multipart.NewWriter(&frame)
	var readers []io.Reader
	addFrame := func() {
		text := frame.String()
		frame.Reset()
		size += int64(len(text))
		readers = append(readers, strings.NewReader(text))
	}
	for i, s := range ranges {
		header := textproto.MIMEHeader{"Content-Range": {s.ContentRange(length)}}
		if contentType != "" {
			header["Content-Type"] = []string{contentType}
		}
		w.CreatePart(header) // writes to memory, so that it cannot fail
		addFrame()
		size += s.Length()
		part := NewBody(c, s, o)
		part.keeps = i < len(ranges)-1
		readers = append(readers, part)
	}
	w.Close()
	addFrame()
	return &Multipart{content: c, all: io.MultiReader(readers...)}, w.Boundary(), size
}

// BeforeEnd does the same as for a Body.
func (m *Multipart) BeforeEnd(f func()) { m.ended = f }

func (m *Multipart) beforeEnd() {
	if m.ended != nil {
		m.ended()
	}
}

func (m *Multipart) Read(p []byte) (int, error) {
	if m.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := m.next(p)
	if err == io.EOF {
		m.beforeEnd()
	}
	return n, err
}

func (m *Multipart) next(p []byte) (int, error) {
	m.turn.Lock()
	defer m.turn.Unlock()
	return m.all.Read(p)
}

// WriteTo copies each range like a Body.
func (m *Multipart) WriteTo(w io.Writer) (int64, error) {
	if m.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := m.copyTo(w)
	if err == nil {
		m.beforeEnd()
	}
	return n, err
}

func (m *Multipart) copyTo(w io.Writer) (int64, error) {
	m.turn.Lock()
	defer m.turn.Unlock()
	return io.Copy(w, m.all)
}

// Close ends the body. A Read that is under way may still return bytes.
func (m *Multipart) Close() error {
	m.closed.Store(true)
	err := m.content.Close()
	m.beforeEnd()
	return err
}
