package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// The network as get uses it, below the cache: get counts the bytes of bodies,
// and gives up on a server that sends nothing.

// network is an [http.RoundTripper] for the requests that reach the origin.
type network struct {
	base    http.RoundTripper
	timeout time.Duration // how long the origin may send nothing; 0: without a limit
}

// newNetwork returns a network over connections of net/http.
func newNetwork(insecure bool, timeout time.Duration) *network {
	base := http.DefaultTransport
	if insecure {
		own := http.DefaultTransport.(*http.Transport).Clone()
		own.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		base = own
	}
	return &network{base, timeout}
}

// meter counts the bytes of bodies that came from the network for one request.
type meter struct{ bytes atomic.Int64 }

type meterKey struct{}

func withMeter(ctx context.Context, m *meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	idle := startIdle(ctx, cancel, n.timeout)
	resp, err := n.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		err = idle.explain(err)
		cancel(nil)
		return nil, err
	}
	idle.stop()
	count, _ := req.Context().Value(meterKey{}).(*meter)
	resp.Body = &networkBody{ReadCloser: resp.Body, idle: idle, meter: count}
	return resp, nil
}

// networkBody is a body on its way from the origin.
type networkBody struct {
	io.ReadCloser
	idle  *idleTimer
	meter *meter // may be nil
}

func (b *networkBody) Read(p []byte) (int, error) {
	b.idle.start() // a reader that pauses is not the origin's fault
	n, err := b.ReadCloser.Read(p)
	b.idle.stop()
	if b.meter != nil {
		b.meter.bytes.Add(int64(n))
	}
	if err != nil && err != io.EOF {
		err = b.idle.explain(err)
	}
	return n, err
}

func (b *networkBody) Close() error {
	err := b.ReadCloser.Close()
	b.idle.stop()
	b.idle.cancel(nil)
	return err
}

// idleTimer ends a request whose origin sends nothing for limit. A body may be
// closed while it is read, so its methods may be called at the same time.
type idleTimer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	timer  *time.Timer // nil without a limit
}

// startIdle returns an idleTimer that is running.
func startIdle(ctx context.Context, cancel context.CancelCauseFunc, limit time.Duration) *idleTimer {
	t := &idleTimer{ctx: ctx, cancel: cancel, limit: limit}
	if limit > 0 {
		t.timer = time.AfterFunc(limit, func() { cancel(silence{limit}) })
	}
	return t
}

// silence is the cause with which an idleTimer ends a request. It is a timeout,
// as errors of net are.
type silence struct{ limit time.Duration }

func (s silence) Error() string { return fmt.Sprintf("the server sent nothing for %s", s.limit) }
func (silence) Timeout() bool   { return true }
func (silence) Temporary() bool { return true }

func (t *idleTimer) start() {
	if t.timer != nil {
		t.timer.Reset(t.limit)
	}
}

func (t *idleTimer) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// explain returns the error of a request. If the timer has ended it, that is an
// error of the connection: then the cache keeps what has arrived, and may serve
// a stale response.
func (t *idleTimer) explain(err error) error {
	t.stop()
	if cause, ok := errors.AsType[silence](context.Cause(t.ctx)); ok {
		return &net.OpError{Op: "read", Net: "tcp", Err: cause}
	}
	return err
}
