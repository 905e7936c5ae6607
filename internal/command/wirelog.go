package command

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// wireLog is an [http.RoundTripper] that writes the headers of all requests and
// responses that pass it. Below a cache, it sees the requests that reach the
// origin. If w is nil, it writes nothing.
type wireLog struct {
	base      http.RoundTripper
	showQuery bool
	own       *own

	mu sync.Mutex // keeps lines and headers whole: the cache may revalidate in the background at the same time
	w  io.Writer
}

func (l *wireLog) RoundTrip(req *http.Request) (*http.Response, error) {
	// Only the transport knows the fields that are sent, because it adds its
	// own.
	var (
		mu     sync.Mutex // the transport calls the hooks on another goroutine
		fields []string
	)
	trace := &httptrace.ClientTrace{
		WroteHeaderField: func(name string, values []string) {
			if strings.HasPrefix(name, ":") { // HTTP/2 sends the request line as fields
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, value := range values {
				fields = append(fields, fieldLine(">", name, value, l.showQuery))
			}
		},
		WroteHeaders: func() {
			mu.Lock()
			defer mu.Unlock()
			l.lines(append([]string{fmt.Sprintf("> %s %s", req.Method, l.own.url(req.URL.String(), l.showQuery))}, fields...))
			fields = nil // the transport may send the request again on another connection
		},
	}
	resp, err := l.base.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		l.say("< no answer: %s", l.own.text(err.Error(), l.showQuery))
		return nil, err
	}
	l.lines(l.head("<", resp))
	return resp, nil
}

// handedOut writes the header of a response that the cache gave to its caller,
// and how it was obtained.
func (l *wireLog) handedOut(resp *http.Response) {
	l.lines(append(l.head("=", resp), "* "+describe(resp)))
}

// logger returns a logger that writes its records between the other lines. It
// omits the time, the level and empty values.
func (l *wireLog) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(starred{l}, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch kind := a.Value.Kind(); {
			case len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey), kind == slog.KindString && a.Value.String() == "":
				return slog.Attr{}
			case kind == slog.KindDuration:
				a.Value = slog.DurationValue(a.Value.Duration().Truncate(time.Second))
			}
			return a
		},
	}))
}

// starred writes the lines of a logger.
type starred struct{ log *wireLog }

func (s starred) Write(line []byte) (int, error) {
	s.log.say("* %s", s.log.own.text(string(bytes.TrimSuffix(line, []byte("\n"))), s.log.showQuery))
	return len(line), nil
}

func (l *wireLog) say(format string, args ...any) {
	l.lines([]string{fmt.Sprintf(format, args...)})
}

func (l *wireLog) lines(lines []string) {
	if l.w == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	io.WriteString(l.w, strings.Join(lines, "\n")+"\n")
}

// head returns the status line and header of resp, each line with a mark.
func (l *wireLog) head(mark string, resp *http.Response) []string {
	lines := []string{fmt.Sprintf("%s %s %s", mark, resp.Proto, resp.Status)}
	names := make([]string, 0, len(resp.Header))
	for name := range resp.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range resp.Header[name] {
			lines = append(lines, fieldLine(mark, name, value, l.showQuery))
		}
	}
	return lines
}

// fieldLine returns a field with a mark, without possible secrets.
func fieldLine(mark, name, value string, showQuery bool) string {
	return mark + " " + name + ": " + printable(redact.Field(name, value, showQuery))
}
