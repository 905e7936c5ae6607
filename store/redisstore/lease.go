package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip/store/internal/leasewait"
)

// Leases. One process of a fleet fetches a response. Others that want the same
// wait until it is stored.

// alone is the value of a lease whose response turned out not to be shareable.
// For leasewait.UselessTime no process waits for such a response.
const alone = "alone"

// Lease asks for the right to fetch the response to be stored under key for the
// given variant. Of all processes that share the store, one has it at a time. A
// Transport calls Lease before it asks an origin, if Options.Lease is set.
//
// If granted is true, the caller fetches. It calls release when the response is
// stored. It calls release with shared false if other requests cannot use the
// response; then no process waits for the same for a while.
//
// If granted is false, another process had the lease and has ended it: the
// caller looks up again.
//
// Lease waits for another process for at most Options.Lease. After that, or if
// the server does not answer, it returns granted without holding the lease. So
// nobody waits longer because of another process, even if that process dies. If
// ctx has ended, Lease does not wait, but can still get the lease.
func (s *Store) Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool) {
	none := func(bool) {}
	if s.opts.Lease <= 0 || s.usable(context.WithoutCancel(ctx)) != nil || checkKey(key) != nil {
		return none, true
	}
	sum := sha256.Sum256([]byte(variant))
	name := s.urlName(key) + ":l:" + key[urlLen:] + ":" + hex.EncodeToString(sum[:8])
	token := rand.Text()
	last := time.Now().Add(s.opts.Lease)
	holder, err := run(s, s.metadata, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
		resps := c.metadata.DoMulti(ctx,
			c.metadata.B().Set().Key(name).Value(token).Nx().Px(s.opts.Lease).Build(),
			c.metadata.B().Get().Key(name).Build())
		if err := resps[0].Error(); err != nil && !rueidis.IsRedisNil(err) {
			return "", err
		}
		return orEmpty(resps[1])
	})
	switch {
	case err != nil || holder == alone:
		return none, true
	case holder == token:
		return func(shared bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.closed { // after Close the lease expires
				s.background.Go(func() { s.endLease(ctx, key, name, token, shared) })
			}
		}, true
	}
	ended := holder == "" || leasewait.ForEnd(ctx, last, func() (bool, error) {
		holder, err := run(s, s.metadata, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
			return orEmpty(c.metadata.Do(ctx, c.metadata.B().Get().Key(name).Build()))
		})
		if holder == alone {
			err = errAlone
		}
		return holder == "", err
	})
	if ended {
		return nil, false
	}
	return none, true
}

// errAlone ends the wait for a response that is of no use to others.
var errAlone = errors.New("of no use to others")

// endLeaseScript ends a lease, unless another process has it by now.
const endLeaseScript = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
`

var endLeaseLua = rueidis.NewLuaScript(endLeaseScript)

// endLease ends a lease. If that fails, it expires.
func (s *Store) endLease(ctx context.Context, key, name, token string, shared bool) {
	value := alone
	if shared {
		value = ""
	}
	run(s, s.metadata, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (struct{}, error) {
		args := []string{token, value, formatMilliseconds(leasewait.UselessTime)}
		return struct{}{}, endLeaseLua.Exec(ctx, c.metadata, []string{name}, args).Error()
	})
}
