package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"github.com/sony/gobreaker/v2"
)

// Connections to the server, time limits, and a pause after failures.

const (
	// openTime is how long Open waits for a server. It is longer than a lookup,
	// because no request waits for it.
	openTime = time.Second

	// brokenFailures is the number of consecutive failures after which a server
	// counts as broken. It is then not used for brokenTime. The first lookup
	// after that may take its whole time limit again.
	brokenFailures = 3
	brokenTime     = time.Second

	// brokenParts is the number of groups of slots in a cluster that can be
	// broken independently. So one dead server does not stop the use of others,
	// and their answers do not hide that it is dead.
	brokenParts = 32

	// silence is how long a connection may be without an answer before it is
	// closed. A server that is only busy may take as long, and costs nothing
	// but timeouts.
	silence = 5 * time.Second

	// maxRunning is the number of concurrent operations. It is a quarter of the
	// unanswered commands that the client can hold. If the client is full,
	// callers wait for seconds until it gives up the connection, whatever their
	// time limit.
	maxRunning = 256
)

// connection has the clients of a store. Bodies have connections of their own,
// so that lookups do not wait behind them.
type connection struct {
	metadata rueidis.Client
	bodies   rueidis.Client
}

func (c *connection) close() {
	c.metadata.Close()
	c.bodies.Close()
}

// connected returns the connection. If there is none, it makes one, and waits
// for it until ctx ends.
func (s *Store) connected(ctx context.Context) (*connection, error) {
	if c := s.conn.Load(); c != nil {
		return c, nil
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errClosed
	}
	if c := s.conn.Load(); c != nil {
		s.mu.Unlock()
		return c, nil
	}
	dialing := s.dialing
	if dialing == nil {
		dialing = make(chan struct{})
		s.dialing = dialing
		s.background.Add(1)
		go func() {
			defer s.background.Done()
			c, err := recovered(s.dial)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.dialing, s.dialErr = nil, err; err == nil {
				s.conn.Store(c)
			}
			close(dialing)
		}()
	}
	s.mu.Unlock()
	select {
	case <-dialing:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := s.conn.Load(); c != nil {
		return c, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return nil, s.dialErr
}

func (s *Store) dial() (*connection, error) {
	option := s.option
	option.DisableRetry = true     // a request had better continue without the cache than wait
	option.AlwaysPipelining = true // otherwise a timeout would close the connection, and clear its memory
	setDefault(&option.ConnWriteTimeout, silence)
	setDefault(&option.Dialer.Timeout, silence)
	setDefault(&option.ClientName, "cachetrip")
	metadata, bodies := option, option
	metadata.PipelineMultiplex = -1 // one connection, with one memory
	metadata.DisableCache = metadata.DisableCache || s.opts.MemoryBytes < 0
	metadata.CacheSizeEachConn = s.opts.MemoryBytes
	bodies.DisableCache = true
	if s.opts.Configure != nil {
		s.opts.Configure(&metadata)
		s.opts.Configure(&bodies)
	}
	shield(&metadata)
	shield(&bodies)
	c := &connection{}
	var err error
	if c.metadata, err = rueidis.NewClient(metadata); err != nil {
		return nil, err
	}
	if err := checkServer(c.metadata); err != nil {
		c.metadata.Close()
		return nil, err
	}
	if c.bodies, err = rueidis.NewClient(bodies); err != nil {
		c.metadata.Close()
		return nil, err
	}
	return c, nil
}

// checkServer returns an error if the server is too old. A server that does not tell its version
// is taken for a new one.
func checkServer(c rueidis.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	info, err := c.Do(ctx, c.B().Info().Section("server").Build()).ToString()
	if err != nil {
		return nil
	}
	return checkVersion(info)
}

// checkVersion returns an error if the answer to INFO names a version before 6.2.
func checkVersion(info string) error {
	for line := range strings.Lines(info) {
		version, ok := strings.CutPrefix(strings.TrimSpace(line), "redis_version:") // Valkey also has this line
		if !ok {
			continue
		}
		var major, minor int
		if n, _ := fmt.Sscanf(version, "%d.%d", &major, &minor); n == 2 && (major < 6 || major == 6 && minor < 2) {
			return fmt.Errorf("the server is Redis %s, but version 6.2 or later is needed", version)
		}
	}
	return nil
}

// permits limits concurrent operations. Metadata and bodies have separate
// permits, because their connections are separate.
type permits chan struct{}

// take waits for a permit. It reports false if done is closed before there is one.
func (p permits) take(done <-chan struct{}) bool {
	select {
	case p <- struct{}{}:
		return true
	case <-done:
		return false
	}
}

func (p permits) giveBack() { <-p }

// run calls op with the connection. Once the time limit has passed, which counts
// the waiting for the server, run fails, and op goes on alone. While the server
// counts as broken, run fails at once. The end of ctx does not end op, because
// other callers may be waiting for the same answer.
func run[T any](s *Store, in permits, ctx context.Context, key string, limit time.Duration, op func(context.Context, *connection) (T, error)) (result T, err error) {
	return permitted(in, limit, func(done <-chan struct{}) (result T, err error) {
		report, err := s.breakers.of(s.conn.Load(), key).Allow()
		if err != nil {
			return result, errBroken
		}
		result, err = ask(s, done, ctx, op)
		report(err)
		return result, err
	})
}

// runAnyway is run, but also if the server counts as broken.
func runAnyway[T any](s *Store, in permits, ctx context.Context, limit time.Duration, op func(context.Context, *connection) (T, error)) (T, error) {
	return permitted(in, limit, func(done <-chan struct{}) (T, error) { return ask(s, done, ctx, op) })
}

// permitted calls f with a permit. done is closed when the time limit, which
// counts the waiting, has passed.
func permitted[T any](in permits, limit time.Duration, f func(done <-chan struct{}) (T, error)) (result T, err error) {
	waiting := newBudget(limit)
	defer waiting.end()
	if !in.take(waiting.done) {
		return result, errCrowded
	}
	defer in.giveBack()
	return f(waiting.done)
}

// ask calls op with the connection, until done is closed.
func ask[T any](s *Store, done <-chan struct{}, ctx context.Context, op func(context.Context, *connection) (T, error)) (T, error) {
	ctx = context.WithoutCancel(ctx)
	return orLeave(s, done, func() (result T, err error) {
		c, err := s.connected(ctx)
		if err != nil {
			return result, err
		}
		return op(ctx, c)
	})
}

// orLeave calls op in another goroutine. If done is closed before op ends, it
// fails, and op goes on alone. The caller has a permit.
//
// To cancel the context of op would not be enough. If a connection is missing,
// the client makes it in the goroutine that needs it first, and the others wait
// there. On a server that hangs, that ends after silence and not before. And
// where a connection takes longer than one operation may take, as TLS does over
// a long way, it must be completed for the operations that follow.
func orLeave[T any](s *Store, done <-chan struct{}, op func() (T, error)) (result T, err error) {
	type outcome struct {
		result T
		err    error
	}
	ended := make(chan outcome, 1)
	s.operations.Go(func() {
		result, err := recovered(op)
		ended <- outcome{result, err}
	})
	select {
	case o := <-ended:
		return o.result, o.err
	case <-done:
		return result, context.DeadlineExceeded
	}
}

// shield makes a panic in a function of the program an error. The client calls
// them while other operations wait for it to return.
func shield(o *rueidis.ClientOption) {
	if dial := o.DialCtxFn; dial != nil {
		o.DialCtxFn = func(ctx context.Context, to string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
			return recovered(func() (net.Conn, error) { return dial(ctx, to, d, c) })
		}
	}
	if dial := o.DialFn; dial != nil {
		o.DialFn = func(to string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
			return recovered(func() (net.Conn, error) { return dial(to, d, c) })
		}
	}
	if credentials := o.AuthCredentialsFn; credentials != nil {
		o.AuthCredentialsFn = func(c rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			return recovered(func() (rueidis.AuthCredentials, error) { return credentials(c) })
		}
	}
}

// recovered calls f. A panic in it becomes an error.
func recovered[T any](f func() (T, error)) (result T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

var (
	errBroken  = errors.New("the server has failed repeatedly, and is not used for a second")
	errCrowded = errors.New("too many concurrent operations on the server")
	errClosed  = errors.New("closed")

	// errNotAsked says that the server was not used, so the result tells
	// nothing about it.
	errNotAsked = errors.New("not asked")
)

// breakers says for which groups of keys the server is broken.
type breakers [brokenParts]*gobreaker.TwoStepCircuitBreaker[struct{}]

func newBreakers() (b breakers) {
	for i := range b {
		b[i] = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:      brokenTime,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= brokenFailures },
			IsSuccessful: answered,
			IsExcluded:   func(err error) bool { return err == errNotAsked },
		})
	}
	return b
}

// of returns the breaker for a key. Only a cluster has more than one.
func (b *breakers) of(c *connection, key string) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	if c == nil || key == "" || c.metadata.Mode() != rueidis.ClientModeCluster {
		return b[0]
	}
	return b[int(slot(key[:urlLen]))*brokenParts/slots]
}

// answered reports whether err shows that the server works: it is nil or an
// answer of the server.
func answered(err error) bool {
	if err == nil {
		return true
	}
	e, ok := rueidis.IsRedisErr(err)
	if !ok {
		return errors.Is(err, errAnswer)
	}
	for _, state := range []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY "} {
		if strings.HasPrefix(e.Error(), state) {
			return false
		}
	}
	return true
}

// errAnswer marks errors that are about a stored value, not about the server.
var errAnswer = errors.New("answered")

const slots = 16384

// slot returns the cluster slot of keys with the given hash tag. It is a
// CRC-16/XMODEM.
func slot(tag string) uint16 {
	var crc uint16
	for i := 0; i < len(tag); i++ {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}
