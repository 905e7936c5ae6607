package redisstore

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/rueidis"
	"github.com/sony/gobreaker/v2"
)

// Talking to the server: connections, time budgets, and leaving it alone when it fails.

const (
	// openTime is how long Open waits for a server: longer than a lookup, as it costs a start and no request.
	openTime = time.Second

	// brokenFailures is how many failures in a row make a server count as broken, and brokenTime for how long
	// nothing is asked of it then. The first lookup after that is one more that may take its whole budget.
	brokenFailures = 3
	brokenTime     = time.Second

	// brokenParts is how many parts of a cluster are told apart, by slot, so that one dead server of it does
	// not make others count as broken, nor their answers make it count as well.
	brokenParts = 32

	// silence is after how long without an answer a connection is given up. A server that was only held up
	// may take as long without costing more than timeouts.
	silence = 5 * time.Second

	// maxRunning is how much is asked at once: a quarter of the commands without an answer that the client has
	// room for. Where it has none it makes those who come wait until it has given the connection up, for
	// seconds, whatever their budget is.
	maxRunning = 256
)

// connection is what a store talks through. Bodies have connections of their own, so that lookups do not
// wait behind them.
type connection struct {
	heads  rueidis.Client
	bodies rueidis.Client
}

func (c *connection) close() {
	c.heads.Close()
	c.bodies.Close()
}

// connected returns the connection, made if need be, by when ctx ends.
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
			c, err := s.dial()
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
	option.DisableRetry = true     // a request can better do without the cache than wait
	option.AlwaysPipelining = true // otherwise a timeout closes the connection, and forgets what was cached
	setDefault(&option.ConnWriteTimeout, silence)
	setDefault(&option.Dialer.Timeout, silence)
	setDefault(&option.ClientName, "cachetrip")
	heads, bodies := option, option
	heads.PipelineMultiplex = -1 // one connection, with one memory
	heads.DisableCache = heads.DisableCache || s.opts.MemoryBytes < 0
	heads.CacheSizeEachConn = s.opts.MemoryBytes
	bodies.DisableCache = true
	if s.opts.Configure != nil {
		s.opts.Configure(&heads)
		s.opts.Configure(&bodies)
	}
	c := &connection{}
	var err error
	if c.heads, err = rueidis.NewClient(heads); err != nil {
		return nil, err
	}
	if c.bodies, err = rueidis.NewClient(bodies); err != nil {
		c.heads.Close()
		return nil, err
	}
	return c, nil
}

// places are taken by what is being asked, apart for heads and bodies, as their connections are.
type places chan struct{}

// run has op done within a time budget on the connection, for a key or, if that is empty, for none. While
// the server counts as broken it fails at once. The end of ctx ends only the waiting of those who look for it:
// others may be waiting for the same answer.
func run[T any](s *Store, in places, ctx context.Context, key string, budget time.Duration, op func(context.Context, *connection) (T, error)) (T, error) {
	var result T
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), budget)
	defer cancel()
	select {
	case in <- struct{}{}:
	case <-ctx.Done():
		return result, errCrowded
	}
	defer func() { <-in }()
	done, err := s.breakers.of(s.conn.Load(), key).Allow() // which those before have told what they found
	if err != nil {
		return result, errBroken
	}
	panicked := true
	defer func() {
		if panicked {
			done(errNotAsked)
		}
	}()
	c, err := s.connected(ctx)
	if err == nil {
		result, err = op(ctx, c)
	}
	panicked = false
	done(err)
	return result, err
}

var (
	errBroken  = errors.New("the server does not answer, and is left alone for a moment")
	errCrowded = errors.New("too much is being asked of the server at once")
	errClosed  = errors.New("closed")

	// errNotAsked tells that nothing was asked of the server, which says nothing about it.
	errNotAsked = errors.New("not asked")
)

// breakers tell for which parts of the keys the server is broken.
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

// of returns the breaker for a key. Only a cluster has parts.
func (b *breakers) of(c *connection, key string) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	if c == nil || key == "" || c.heads.Mode() != rueidis.ClientModeCluster {
		return b[0]
	}
	return b[int(slot(key[:urlLen]))*brokenParts/slots]
}

// answered reports whether err, or nil, is the answer of a server that works.
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

// errAnswer marks errors that say something about what is stored, not about the server.
var errAnswer = errors.New("answered")

const slots = 16384

// slot returns the slot of a cluster that keys with the given hash tag are in: CRC-16/XMODEM.
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
