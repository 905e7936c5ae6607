package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/redis/rueidis"
)

// Leases: one process of a fleet fetches, others that want the same wait for what it stores.

const (
	// alone is the value of a lease that tells that the answer could not be shared, and aloneTime for how
	// long nobody waits for the like then: as long as a Transport remembers that for itself.
	alone     = "alone"
	aloneTime = 10 * time.Second

	// firstLook and lastLook are the pauses between looks at a lease that another process has: at first what
	// a fast origin takes, later what is little beside a slow one.
	firstLook = 2 * time.Millisecond
	lastLook  = 30 * time.Millisecond
)

// Lease asks to be the one, of all processes that share the store, to fetch what is to be stored under key
// for the given variant of requests. A Transport calls it when it would ask an origin, if Options.Lease is
// set.
//
// If granted, the caller fetches, and calls release when the response is stored, or with shared false when
// it turned out to be of no use to others, who then do not wait for the like for a while. If not, another
// process was fetching and has ended: the caller looks again. It waits for that for Options.Lease at most,
// and is granted the lease, without having it, when that has passed or the server does not answer: nobody
// waits for longer because of another, and a process that dies holds up others for no longer. Once ctx has
// ended it does not wait at all, but can still have the lease.
func (s *Store) Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool) {
	none := func(bool) {}
	if s.opts.Lease <= 0 || s.usable(context.WithoutCancel(ctx)) != nil || checkKey(key) != nil {
		return none, true
	}
	sum := sha256.Sum256([]byte(variant))
	name := s.urlName(key) + ":l:" + key[urlLen:] + ":" + hex.EncodeToString(sum[:8])
	token := rand.Text()
	timer := time.NewTimer(s.opts.Lease)
	defer timer.Stop()
	pause := firstLook
	for waited := false; ; waited = true {
		holder, err := run(s, s.heads, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
			get := c.heads.B().Get().Key(name).Build()
			if waited {
				return orEmpty(c.heads.Do(ctx, get))
			}
			set := c.heads.B().Set().Key(name).Value(token).Nx().Px(s.opts.Lease).Build()
			resps := c.heads.DoMulti(ctx, set, get)
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
				if !s.closed { // else it expires
					s.background.Go(func() { s.endLease(ctx, key, name, token, shared) })
				}
			}, true
		case holder == "":
			return nil, false
		}
		if ctx.Err() != nil {
			return none, true
		}
		select {
		case <-time.After(pause):
			pause = min(lastLook, pause*3/2)
		case <-timer.C:
			return none, true
		case <-ctx.Done():
			return none, true
		}
	}
}

// endLeaseScript ends a lease unless it has passed to another process.
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
	run(s, s.heads, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (struct{}, error) {
		args := []string{token, value, formatMilliseconds(aloneTime)}
		return struct{}{}, endLeaseLua.Exec(ctx, c.heads, []string{name}, args).Error()
	})
}
