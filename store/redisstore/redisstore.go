// Package redisstore keeps a cache on a Redis or Valkey server, Sentinel group or cluster, for the replicas
// of a program to share.
//
// A [Store] asks little of the server that the server does not do by itself: expiry, eviction, replication
// and failover are its own. What a process has looked up it keeps in memory until the server tells it that
// it changed ("client-side caching"), so that a repeated hit costs no round trip.
//
// # On the server
//
// Under a prefix, for each URL one hash with the heads and small bodies, a field for each identity, and
// for each larger body a hash with its chunks, all in one slot of a cluster:
//
//	cachetrip:{<URL>}            <identity> → heads and bodies up to 16 KiB, as CBOR
//	cachetrip:{<URL>}:b:<blob>   0, 1, 2, … → chunks of 256 KiB, each with its CRC-32C
//	cachetrip:secret             what digests are keyed with
//
// URL and identity are the halves of the store's key, and so keyed digests: no name tells a URL. All keys
// expire. An entry does when it was not updated for as long as it was fresh then, and [Options].Keep beyond,
// so that it can be validated. A body is written before any entry names it and is dropped if none does
// within ten minutes: a writer that dies leaves nothing else.
//
// # When the server fails
//
// Whatever happens to it, lookups end within [Options].LookupTimeout, and after a few failures in a row
// nothing is asked of it for a second at a time. The errors make a Transport go on as without a cache. Open
// therefore succeeds without a server, too.
//
// Redis 6.2 or later is needed, or Valkey. docs/redis.md says how to set a server up, and how large it has
// to be.
package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip/store"
)

const (
	// DefaultPrefix is what the names of all keys begin with if Options do not say otherwise.
	DefaultPrefix = "cachetrip"

	// DefaultKeep is the default of Options.Keep: nearly all of what is used again is so within a week.
	DefaultKeep = 7 * 24 * time.Hour

	// DefaultMemoryBytes is the default of Options.MemoryBytes: 32 MiB.
	DefaultMemoryBytes = 32 << 20

	// DefaultMaxBodyBytes is the default of Options.MaxBodyBytes: 64 MiB.
	DefaultMaxBodyBytes = 64 << 20

	// DefaultLookupTimeout and DefaultWriteTimeout are the defaults of the options of that name.
	DefaultLookupTimeout = 50 * time.Millisecond
	DefaultWriteTimeout  = 250 * time.Millisecond
)

// Options are the options of a [Store]. Their zero value is fit for most programs.
type Options struct {
	// Prefix is what the names of all keys begin with: applications that are to share a server and not a
	// cache each have their own. Letters, digits and the characters "._-:" are allowed. If it is empty,
	// DefaultPrefix is meant.
	Prefix string

	// Keep is for how long what is not fresh any more is kept, to be validated. If it is 0, DefaultKeep is
	// meant; if it is negative, nothing is kept beyond its freshness, nor for less than a second.
	Keep time.Duration

	// MemoryBytes bounds the memory for heads and small bodies that were looked up, for each server of a
	// cluster, and once more for what was made of them. If it is 0, DefaultMemoryBytes is meant; if it is negative, nothing is kept in the process.
	MemoryBytes int

	// MaxBodyBytes bounds one body. If it is 0, DefaultMaxBodyBytes is meant.
	MaxBodyBytes int64

	// LookupTimeout bounds the time until a lookup, or opening a body, fails: what a server that does not
	// answer costs a request, for each of the two. Connections that were lost are made anew within it, too: it
	// has to last for two round trips at least, for four with TLS, and for a body of 1 MiB. If it is 0,
	// DefaultLookupTimeout is meant.
	LookupTimeout time.Duration

	// WriteTimeout bounds the time for which storing may hold up the end of a response. Bodies are
	// transferred while they arrive; what is missing then has this time. If it is 0, DefaultWriteTimeout is
	// meant.
	WriteTimeout time.Duration

	// Secret, if it has 32 bytes at least, is what digests are keyed with. Otherwise the first process to
	// use a prefix makes one, which all keep on the server: should one start while it is not there, that one
	// and those after it have a cache apart from that of the others.
	Secret []byte

	// TempDir is where bodies of more than 256 KiB are kept while they arrive, so that those who read along
	// do not depend on the server. If it is empty, os.TempDir is meant. Where no file can be made there, such
	// bodies are not stored.
	TempDir string

	// Lease is for how long, at most, one process may be waited for by others of the fleet that want to
	// fetch the same; see [Store.Lease]. If it is 0, there are no leases: each process fetches for itself.
	Lease time.Duration

	// Configure, if not nil, may change how servers are connected to: TLS, credentials that rotate,
	// addresses. It is called once for lookups and once for bodies.
	Configure func(*rueidis.ClientOption)
}

// Store is a [store.Store] on a server. It is safe for concurrent use.
type Store struct {
	opts   Options
	option rueidis.ClientOption

	conn     atomic.Pointer[connection]
	breakers breakers
	heads    places
	bodies   places

	mu      sync.Mutex
	dialing chan struct{} // closed when the attempt to connect that is under way has ended
	dialErr error         // of the last one
	closed  bool
	secret  []byte

	secretDue atomic.Int64 // when the secret has to be used on the server again, Unix ns; 0: there is none

	decoded    decoded
	background sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open returns a store on the server that url names, waiting for it for a second at most: a server that is
// not there is connected to when it is. The error is about the arguments. The forms of url are
//
//	redis://user:password@host:6379/0                             one server, or a cluster that it belongs to
//	rediss://host:6379                                            with TLS
//	unix:///run/redis.sock                                        one server on this machine
//	redis://host:6379?addr=host2:6379&addr=host3:6379             a cluster, by several of its servers
//	redis://host:26379?addr=host2:26379&master_set=mymaster       Sentinels
//
// and those that [rueidis.ParseURL] describes.
func Open(url string, opts Options) (*Store, error) {
	option, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, errors.New("cachetrip: redisstore: not the URL of a server") // its text may hold a password
	}
	if opts.Prefix == "" {
		opts.Prefix = DefaultPrefix
	}
	for _, c := range opts.Prefix {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:", c) {
			return nil, fmt.Errorf("cachetrip: redisstore: prefix %q: %q is not allowed", opts.Prefix, c)
		}
	}
	if n := len(opts.Secret); n > 0 && n < 32 {
		return nil, fmt.Errorf("cachetrip: redisstore: the secret has %d bytes, not 32 at least", n)
	}
	setDefault(&opts.Keep, DefaultKeep)
	setDefault(&opts.MemoryBytes, DefaultMemoryBytes)
	setDefault(&opts.MaxBodyBytes, DefaultMaxBodyBytes)
	setDefault(&opts.LookupTimeout, DefaultLookupTimeout)
	setDefault(&opts.WriteTimeout, DefaultWriteTimeout)
	s := &Store{opts: opts, option: option, breakers: newBreakers(), decoded: decoded{max: opts.MemoryBytes}}
	s.heads, s.bodies = make(places, maxRunning), make(places, maxRunning)
	ctx, cancel := context.WithTimeout(context.Background(), openTime)
	defer cancel()
	s.connected(ctx) // or later
	return s, nil
}

func setDefault[T comparable](option *T, value T) {
	var zero T
	if *option == zero {
		*option = value
	}
}

// Close releases the connections. What is being read or written fails. A server that does not answer may hold
// it up for some seconds.
func (s *Store) Close() error {
	s.mu.Lock()
	before := s.closed
	s.closed = true
	s.mu.Unlock()
	if before {
		return nil
	}
	s.background.Wait()
	// The client leaves connections open that are being made while it closes.
	for _, in := range []places{s.heads, s.bodies} {
		for range cap(in) {
			in <- struct{}{}
			defer func() { <-in }()
		}
	}
	if c := s.conn.Swap(nil); c != nil {
		c.close()
	}
	return nil
}

// Ping returns whether the server can be talked to, and if not, why.
func (s *Store) Ping(ctx context.Context) error {
	c, err := s.connected(ctx)
	if err != nil {
		return opError("connect", err)
	}
	s.heads <- struct{}{}
	defer func() { <-s.heads }()
	return opError("ping", c.heads.Do(ctx, c.heads.B().Ping().Build()).Error())
}

// The names of keys.

func (s *Store) urlName(key string) string { return s.opts.Prefix + ":{" + key[:urlLen] + "}" }

func (s *Store) blobName(key, id string) string { return s.urlName(key) + ":b:" + id }

// releasedName is what a blob is called that no entry names any more, while it may still be read.
func releasedName(name string) string { return name + ":released" }

func (s *Store) secretName() string { return s.opts.Prefix + ":secret" }

const (
	// secretTime is for how long a secret is kept on the server after its last use.
	secretTime = 90 * 24 * time.Hour

	// secretRenew is how often it is used there while anything is looked up. Processes ask for it but once, and
	// a server would evict it first of all, so that those that start later make another and have a cache of
	// their own. One that has come back empty is to have it before that happens, too.
	secretRenew = 2 * time.Second
)

// Secret implements [store.Store].
func (s *Store) Secret(ctx context.Context) ([]byte, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if len(s.opts.Secret) > 0 {
		return append([]byte(nil), s.opts.Secret...), nil
	}
	s.mu.Lock()
	known := s.secret
	s.mu.Unlock()
	if known == nil {
		var err error
		if known, err = s.agreeOnSecret(ctx, nil); err != nil {
			return nil, opError("secret", err)
		}
		s.mu.Lock()
		s.secret = known
		s.mu.Unlock()
		s.secretDue.Store(time.Now().Add(secretRenew).UnixNano())
	}
	return append([]byte(nil), known...), nil
}

// keepSecret has the secret used on the server if that is due, in the background.
func (s *Store) keepSecret() {
	now := time.Now()
	due := s.secretDue.Load()
	if due == 0 || now.UnixNano() < due || !s.secretDue.CompareAndSwap(due, now.Add(secretRenew).UnixNano()) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	known := s.secret
	s.background.Go(func() {
		ctx := context.Background()
		_, err := run(s, s.heads, ctx, "", s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
			return c.heads.Do(ctx, c.heads.B().Getex().Key(s.secretName()).PxMilliseconds(secretTime.Milliseconds()).Build()).ToString()
		})
		if rueidis.IsRedisNil(err) {
			s.agreeOnSecret(ctx, known)
		}
	})
}

// agreeOnSecret puts a secret on the server unless there is one, and returns what is there then.
func (s *Store) agreeOnSecret(ctx context.Context, known []byte) ([]byte, error) {
	mine := known
	if mine == nil {
		mine = make([]byte, 32)
		rand.Read(mine)
	}
	name := s.secretName()
	text, err := run(s, s.heads, ctx, "", s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
		b := c.heads.B()
		resps := c.heads.DoMulti(ctx,
			b.Set().Key(name).Value(base64.StdEncoding.EncodeToString(mine)).Nx().Px(secretTime).Build(),
			b.Pexpire().Key(name).Milliseconds(secretTime.Milliseconds()).Build(),
			b.Get().Key(name).Build())
		text, err := resps[2].ToString()
		if err != nil && resps[0].NonRedisError() == nil && resps[0].Error() != nil && !rueidis.IsRedisNil(resps[0].Error()) {
			err = resps[0].Error() // why there is none
		}
		return text, err
	})
	if err != nil {
		return nil, err
	}
	secret, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(secret) < 32 {
		return nil, fmt.Errorf("%s: %w", name, store.ErrDamaged)
	}
	return secret, nil
}

// usable reports why nothing can be done, if so.
func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	return nil
}

// opError says what failed.
func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cachetrip: redisstore: %s: %w", op, err)
}
