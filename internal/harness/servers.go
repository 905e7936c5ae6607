package harness

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// ServeLoopback serves HTTP/1.1.
func ServeLoopback(t *testing.T, handler http.Handler) (string, *http.Transport, func()) {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, server.Client().Transport.(*http.Transport), server.Close
}

// ServeHTTP2 serves HTTP/2 over TLS.
func ServeHTTP2(t *testing.T, handler http.Handler) (string, *http.Transport, func()) {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, server.Client().Transport.(*http.Transport), server.Close
}

// ServePipes serves HTTP/1.1 without sockets, which bubbles do not know.
func ServePipes(t *testing.T, handler http.Handler) (string, *http.Transport, func()) {
	l := NewPipes()
	server := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return "http://origin.test", &http.Transport{DialContext: l.Dial}, func() { server.Close() }
}

// Pipes is a listener within the process: the bubbles of testing/synctest know
// no sockets.
type Pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewPipes returns a listener that waits for connections.
func NewPipes() *Pipes {
	return &Pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects to l. It fits [http.Transport.DialContext].
func (l *Pipes) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l *Pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *Pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *Pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }
