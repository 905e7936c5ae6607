// Package redisstore keeps a cache on a Redis or Valkey server, Sentinel group
// or cluster. All replicas of a program can share it.
//
// The server does expiry, eviction, replication and failover by itself. A
// process keeps metadata that it has looked up in memory until the server
// reports a change ("client-side caching"). So a repeated hit needs no round
// trip.
//
// # On the server
//
// All names begin with a prefix. A URL has up to 64 hashes with metadata and
// small bodies, with a field for each identity. Processes remember a hash as a
// whole, so a new identity makes them forget few others. Each larger body has a
// hash with its chunks. Everything about one URL is in the same slot of a
// cluster:
//
//	cachetrip:v1:{<URL>}:m:<group>  <identity> → metadata and bodies up to 16 KiB, as CBOR
//	cachetrip:v1:{<URL>}:b:<blob>   0, 1, 2, … → chunks of 256 KiB, each with its CRC-32C
//	cachetrip:secret                the secret key of all digests
//
// Two kinds of names exist for seconds or minutes only: those of leases, and those
// of released bodies whose readers must finish. docs/redis.md lists all names.
//
// <URL> and <identity> are the halves of the store's key. They are keyed
// digests, so no name reveals a URL. All keys on the server expire. An entry
// expires when its freshness and [Options].Keep have passed since its last
// update. Until then it can be validated. A body is written before an entry
// names it. If no entry names it within ten minutes, it expires. So a process
// that dies leaves nothing behind.
//
// # When the server fails
//
// A lookup waits for the server for at most [Options].LookupTimeout. Time in
// which a busy process gets no processor does not count. After three failures in a
// row, the store does not use the server for a second. On an error, a Transport
// continues as without a cache. For the same reason, Open succeeds without a
// server.
//
// The package needs Redis 6.2 or later, or Valkey. docs/redis.md tells how to
// set up a server, and how large it must be.
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
	// DefaultPrefix is the default of Options.Prefix.
	DefaultPrefix = "cachetrip"

	// DefaultKeep is the default of Options.Keep. Nearly all responses that are
	// used again are used within a week.
	DefaultKeep = 7 * 24 * time.Hour

	// DefaultMemoryBytes is the default of Options.MemoryBytes: 32 MiB.
	DefaultMemoryBytes = 32 << 20

	// DefaultMaxBodyBytes is the default of Options.MaxBodyBytes: 64 MiB.
	DefaultMaxBodyBytes = 64 << 20

	// DefaultLookupTimeout and DefaultWriteTimeout are the defaults of the options of that name.
	DefaultLookupTimeout = 50 * time.Millisecond
	DefaultWriteTimeout  = 250 * time.Millisecond
)

// Options are the options of a [Store]. The zero value suits most programs.
type Options struct {
	// Prefix is the beginning of the names of all keys on the server.
	// Applications that share a server but not a cache need different prefixes.
	// A prefix consists of letters, digits and the characters "._-:". If empty,
	// DefaultPrefix is used.
	Prefix string

	// Keep is how long a response is kept after it becomes stale, so that it
	// can be validated. If 0, DefaultKeep is used. If negative, stale responses
	// are not kept. Everything is kept for at least a second.
	Keep time.Duration

	// MemoryBytes limits the memory for metadata and small bodies that were
	// looked up. The limit applies twice: for the received values of each
	// server of a cluster, and for all decoded ones. If 0, DefaultMemoryBytes
	// is used. If negative, the process keeps nothing.
	MemoryBytes int

	// MaxBodyBytes limits the size of one body. If 0, DefaultMaxBodyBytes is
	// used.
	MaxBodyBytes int64

	// LookupTimeout limits how long a lookup waits for the server, and opening a
	// body, too. Time in which this process gets no processor does not count. A
	// server that does not answer delays a request by this much for each of the
	// two. It must be long enough for a body of 1 MiB. A connection that is made
	// again after it was lost may take longer. Until it is there, lookups fail.
	// If 0, DefaultLookupTimeout is used.
	LookupTimeout time.Duration

	// WriteTimeout limits how long storing may delay the end of a response. A
	// body is sent to the server while it arrives. The limit is for the part
	// that is then missing. If 0, DefaultWriteTimeout is used.
	WriteTimeout time.Duration

	// Secret is the secret key of all digests. It has at least 32 bytes. If
	// empty, the first process with a prefix makes a secret and puts it on the
	// server, where the others find it. If that process starts without a
	// server, it has a cache of its own until it is restarted.
	Secret []byte

	// TempDir is the directory for bodies of more than 256 KiB while they
	// arrive, so that readers do not depend on the server. If empty, os.TempDir
	// is used. If no file can be made there, such bodies are not stored.
	TempDir string

	// Lease is how long a process waits at most for another process that
	// fetches the same response; see [Store.Lease]. If 0, there are no leases,
	// and each process fetches for itself.
	Lease time.Duration

	// Configure, if not nil, can change how the store connects to servers: TLS,
	// rotating credentials, addresses. It is called once for the connection for
	// metadata, and once for the one for bodies.
	Configure func(*rueidis.ClientOption)
}

// Store is a [store.Store] on a server. It is safe for concurrent use.
type Store struct {
	opts   Options
	option rueidis.ClientOption

	conn     atomic.Pointer[connection]
	breakers breakers
	metadata permits
	bodies   permits

	mu      sync.Mutex
	dialing chan struct{} // closed when the current attempt to connect has ended
	dialErr error         // of the last attempt
	closed  bool
	secret  []byte

	secretDue atomic.Int64 // when the secret on the server must be used again, in Unix nanoseconds; 0 if there is none

	decoded    decoded
	background sync.WaitGroup
	operations sync.WaitGroup // whose callers may have left; each began with a permit
}

var _ store.Store = (*Store)(nil)

// Open returns a store on the server that url names. It waits up to a second
// for a connection. If there is none by then, the store connects later. It
// returns an error only if the arguments are invalid. The forms of url are
//
//	redis://user:password@host:6379/0                             one server, or a cluster that it belongs to
//	rediss://host:6379                                            with TLS
//	unix:///run/redis.sock                                        one server on this machine
//	redis://host:6379?addr=host2:6379&addr=host3:6379             a cluster, by several of its servers
//	redis://host:26379?addr=host2:26379&master_set=mymaster       Sentinels
//
// and the other forms of [rueidis.ParseURL].
func Open(url string, opts Options) (*Store, error) {
	option, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, errors.New("cachetrip: redisstore: the URL of the server is invalid") // the text of err may contain a password
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
		return nil, fmt.Errorf("cachetrip: redisstore: the secret has %d bytes; it needs at least 32", n)
	}
	setDefault(&opts.Keep, DefaultKeep)
	setDefault(&opts.MemoryBytes, DefaultMemoryBytes)
	setDefault(&opts.MaxBodyBytes, DefaultMaxBodyBytes)
	setDefault(&opts.LookupTimeout, DefaultLookupTimeout)
	setDefault(&opts.WriteTimeout, DefaultWriteTimeout)
	s := &Store{opts: opts, option: option, breakers: newBreakers(), decoded: decoded{max: opts.MemoryBytes}}
	s.metadata, s.bodies = make(permits, maxRunning), make(permits, maxRunning)
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

// Close closes the connections. Operations that are in progress fail. If the
// server does not answer, Close can take some seconds.
func (s *Store) Close() error {
	s.mu.Lock()
	before := s.closed
	s.closed = true
	s.mu.Unlock()
	if before {
		return nil
	}
	s.background.Wait()
	// The client would leave connections open that it is still making. So wait
	// until no operation runs.
	for _, in := range []permits{s.metadata, s.bodies} {
		for range cap(in) {
			in.take(nil)
			defer in.giveBack()
		}
	}
	s.operations.Wait()
	if c := s.conn.Swap(nil); c != nil {
		c.close()
	}
	return nil
}

// Ping returns an error if the server cannot be reached.
func (s *Store) Ping(ctx context.Context) error {
	c, err := s.connected(ctx)
	if err != nil {
		return opError("connect", err)
	}
	_, err = step(s, ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.metadata.Do(ctx, c.metadata.B().Ping().Build()).Error()
	})
	return opError("ping", err)
}

// format is the part of the names of keys that tells the format of their values. Replicas
// with another format read and write other keys, so that none of them meets, or writes anew, a
// value that it does not know all of. A field of store.Entry that is added later needs another
// format, and so does any other change of a value. The secret is the same for all formats.
const format = "v1"

// The names of keys.

func (s *Store) urlName(key string) string {
	return s.opts.Prefix + ":" + format + ":{" + key[:urlLen] + "}"
}

// metadataName returns the name of the hash with the metadata of a key.
func (s *Store) metadataName(key string) string { return s.groupName(groupOf(key)) }

// groupName returns the name of the hash for a group of keys.
func (s *Store) groupName(group string) string {
	return s.urlName(group) + metadataPart + group[urlLen:]
}

const (
	metadataPart = ":m:"

	// groupLen is the length of the name of a group: the URL's half of its keys, and
	// two digits for the identities.
	groupLen = urlLen + 2
)

// groupOf returns the group of a key. The identities of a URL have 64 groups, by
// their first six bits.
func groupOf(key string) string {
	return key[:urlLen+1] + groupDigits(key[urlLen+1])
}

// groupDigits rounds a digit down to a multiple of four.
func groupDigits(digit byte) string {
	switch {
	case digit < '4':
		return "0"
	case digit < '8':
		return "4"
	case digit <= '9' || digit < 'c':
		return "8"
	}
	return "c"
}

// groupsOf returns the groups that can have keys that begin with prefix, which has
// at least the URL's half of a key.
func groupsOf(prefix string) (groups []string) {
	if len(prefix) >= groupLen {
		return []string{groupOf(prefix)}
	}
	for _, first := range "0123456789abcdef" {
		for _, second := range "048c" {
			group := prefix[:urlLen] + string(first) + string(second)
			if strings.HasPrefix(group, prefix) {
				groups = append(groups, group)
			}
		}
	}
	return groups
}

func (s *Store) blobName(key, id string) string { return s.urlName(key) + ":b:" + id }

// releasedName returns the name of a blob after it was released: no entry names
// it, but readers may still have it open.
func releasedName(name string) string { return name + ":released" }

func (s *Store) secretName() string { return s.opts.Prefix + ":secret" }

const (
	// secretTime is how long the server keeps a secret after its last use.
	secretTime = 90 * 24 * time.Hour

	// secretRenew is how often a process that looks something up uses the
	// secret on the server. Without that, the server would evict the secret
	// first, because each process reads it only once. Processes that start
	// later would then have a cache of their own. The interval is short,
	// because a server that restarts empty must get the old secret before a new
	// process makes another.
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

// keepSecret uses the secret on the server in the background, if that is due.
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
		_, err := run(s, s.metadata, ctx, "", s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
			return c.metadata.Do(ctx, c.metadata.B().Getex().Key(s.secretName()).PxMilliseconds(secretTime.Milliseconds()).Build()).ToString()
		})
		if rueidis.IsRedisNil(err) {
			s.agreeOnSecret(ctx, known)
		}
	})
}

// agreeOnSecret puts a secret on the server unless there is one, and returns
// the secret that is then there.
func (s *Store) agreeOnSecret(ctx context.Context, known []byte) ([]byte, error) {
	mine := known
	if mine == nil {
		mine = make([]byte, 32)
		rand.Read(mine)
	}
	name := s.secretName()
	text, err := run(s, s.metadata, ctx, "", s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
		b := c.metadata.B()
		resps := c.metadata.DoMulti(ctx,
			b.Set().Key(name).Value(base64.StdEncoding.EncodeToString(mine)).Nx().Px(secretTime).Build(),
			b.Pexpire().Key(name).Milliseconds(secretTime.Milliseconds()).Build(),
			b.Get().Key(name).Build())
		text, err := resps[2].ToString()
		if err != nil && resps[0].NonRedisError() == nil && resps[0].Error() != nil && !rueidis.IsRedisNil(resps[0].Error()) {
			err = resps[0].Error() // the reason why there is no secret
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

// usable returns an error if ctx has ended or the store is closed.
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

// opError adds the operation to an error.
func opError(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cachetrip: redisstore: %s: %w", op, err)
}
