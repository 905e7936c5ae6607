package redisstore

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// Entries, and how they are updated. Each key of the store has one value on the
// server, which a script compares and replaces.

const (
	// memoryTime is how long a value is used without asking the server. The
	// server sees a value as used only if it is asked, and evicts unused
	// values. The limit also matters after a failover, because a server that
	// was cut off cannot report changes.
	memoryTime = time.Minute

	// minTime is the shortest time for which anything is kept. It is long
	// enough for a body to arrive.
	minTime = time.Second

	// maxTime limits both freshness and Options.Keep. No response is useful for
	// longer, and the expiry time of a value must fit 32 bits.
	maxTime = 10 * 365 * 24 * time.Hour

	// releasedTime is how long a released body can still be read by those who
	// have opened it. They extend the time while they read.
	releasedTime = 2 * time.Minute

	// maxAttempts limits how often an update starts again because another
	// process changed the value. Each time one other update succeeded. So many
	// updates of one key at the same time mean that something is badly wrong.
	maxAttempts = 1000
)

// Entries implements [store.Store].
func (s *Store) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	value, _, err := s.lookUp(ctx, key)
	if err != nil {
		return nil, err
	}
	if value == "" {
		return nil, nil
	}
	entries, err := s.decoded.entries(key, value)
	if err != nil {
		return nil, opError("look up", err)
	}
	return slices.Clone(entries), nil
}

// lookUp returns the value of key, or "" if there is none. remembered reports
// whether the value comes from the memory of the process.
func (s *Store) lookUp(ctx context.Context, key string) (value string, remembered bool, err error) {
	if err := s.usable(ctx); err != nil {
		return "", false, err
	}
	if err := checkKey(key); err != nil {
		return "", false, err
	}
	s.keepSecret()
	value, err = run(s, s.metadata, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
		// ToStaticTTL avoids a query for the time to live. That query needs a
		// transaction, which a full server refuses.
		get := c.metadata.B().Hget().Key(s.metadataName(key)).Field(key[urlLen:]).Cache().ToStaticTTL()
		resp := c.metadata.DoCache(ctx, get, memoryTime)
		value, err := orEmpty(resp)
		if err == nil && resp.IsCacheHit() {
			err = errNotAsked // a hit in memory must not count as an answer of a server that may be gone
		}
		return value, err
	})
	if err == errNotAsked {
		return value, true, nil
	}
	if err != nil && ctx.Err() != nil {
		return "", false, ctx.Err()
	}
	return value, false, opError("look up", err)
}

// ask returns the value of key on the server, or "" if there is none.
func (s *Store) ask(ctx context.Context, key string) (string, error) {
	return run(s, s.metadata, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
		return orEmpty(c.metadata.Do(ctx, c.metadata.B().Hget().Key(s.metadataName(key)).Field(key[urlLen:]).Build()))
	})
}

func orEmpty(result rueidis.RedisResult) (string, error) {
	value, err := result.ToString()
	if rueidis.IsRedisNil(err) {
		return "", nil
	}
	return value, err
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	// A remembered value is good enough to begin with. If it is outdated, the
	// server says so.
	value, remembered, err := s.lookUp(ctx, key)
	if err != nil {
		return err
	}
	for range maxAttempts {
		current, err := s.decoded.entries(key, value)
		if err != nil {
			current = nil // a damaged value is replaced
		}
		next := change(slices.Clone(current))
		if slices.Equal(current, next) {
			if !remembered {
				return nil
			}
			// Without a write the server does not say whether the value is
			// outdated.
			if value, err = s.ask(ctx, key); err != nil {
				return opError("update", err)
			}
			remembered = false
			continue
		}
		u, err := s.newUpdate(key, value, current, entryset.Arrange(current, next, responseTime))
		if err != nil {
			return opError("update", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		done, now, err := s.compareAndSet(ctx, u)
		if err != nil {
			return opError("update", err)
		}
		if done {
			return nil
		}
		value = now
	}
	return opError("update", errors.New("other processes kept changing the entries"))
}

// update is one attempt to replace a value.
type update struct {
	key      string
	revision string // the revision to be replaced; empty if there is no value
	value    []byte // nil to remove the value
	ttl      time.Duration
	added    []store.Blob // blobs that entries name now and did not before; they must be on the server
	kept     []store.Blob // blobs that entries name now and did before
	released []store.Blob // blobs that no entry names any more
}

func (s *Store) newUpdate(key, value string, current, next []*store.Entry) (u update, err error) {
	u = update{key: key, ttl: max(minTime, s.ttl(next))}
	if len(value) >= revisionLen {
		u.revision = value[:revisionLen]
	} else if value != "" {
		u.revision = value // not a value of this package; the script compares as many bytes as there are
	}
	for {
		for _, e := range next {
			if err := checkEntry(key, e); err != nil {
				return u, err
			}
		}
		if len(next) == 0 {
			u.value = nil
			break
		}
		encoded, err := encodeEntries(next)
		if err != nil {
			return u, err
		}
		if len(encoded) <= maxValue {
			u.value = newValue(encoded, time.Now().Add(u.ttl))
			break
		}
		if len(next) == 1 {
			return u, store.ErrTooLarge
		}
		next = entryset.DropOldest(current, next, responseTime)
	}
	before, after := blobsOf(current), blobsOf(next)
	for _, blob := range after {
		if contains(before, blob) {
			u.kept = append(u.kept, blob)
		} else {
			u.added = append(u.added, blob)
		}
	}
	for _, blob := range before {
		if !contains(after, blob) {
			u.released = append(u.released, blob)
		}
	}
	return u, nil
}

func contains(blobs []store.Blob, blob store.Blob) bool {
	return slices.ContainsFunc(blobs, func(b store.Blob) bool { return b.ID == blob.ID })
}

// ttl returns how long entries are kept from now on: as long as one of them is
// fresh, plus Keep.
func (s *Store) ttl(entries []*store.Entry) time.Duration {
	var fresh time.Duration
	now := time.Now()
	for _, e := range entries {
		fresh = max(fresh, cachetrip.FreshnessOf(e, now).TTL())
	}
	return min(maxTime, fresh) + min(maxTime, max(0, s.opts.Keep))
}

// blobsOf returns the blobs of entries that are not inline.
func blobsOf(entries []*store.Entry) (blobs []store.Blob) {
	for _, e := range entries {
		for _, p := range e.Parts {
			if p.Blob.Inline == nil && !contains(blobs, p.Blob) {
				blobs = append(blobs, p.Blob)
			}
		}
	}
	return blobs
}

// compareAndSetScript updates a value if its revision is still the given one.
// It returns an empty string if it did. Otherwise it returns the current value,
// or false if there is none.
//
//	KEYS  the hash with the metadata of the key;
//	      for each added blob its name, and its name if it was released;
//	      the names of kept blobs;
//	      for each released blob its name, and its name from now on
//	ARGV  field; revision; value or ”; TTL in ms; number of added blobs;
//	      number of kept blobs; how long released blobs stay, in ms;
//	      for each added blob its number of chunks
//
// If an added blob was released and is still there, the script takes it back. A
// full server refuses the first command that writes, so an update is made whole
// or not at all.
//
// A value expires with its hash. If a hash has many identities, each
// update looks at three others and removes those that have expired. So expired
// fields do not accumulate.
const compareAndSetScript = `
local name, field = KEYS[1], ARGV[1]
local value = redis.call('HGET', name, field)
if string.sub(value or '', 1, 16) ~= ARGV[2] then return value end
local added, kept = tonumber(ARGV[5]), tonumber(ARGV[6])
local back = {}
for i = 1, added do
  local chunks = tonumber(ARGV[7 + i])
  if redis.call('HLEN', KEYS[2 * i]) ~= chunks then
    if redis.call('HLEN', KEYS[2 * i + 1]) ~= chunks then
      return redis.error_reply('MISSING a body is gone from the server')
    end
    back[#back + 1] = i
  end
end
if ARGV[3] == '' then
  redis.call('HDEL', name, field)
else
  redis.call('HSET', name, field, ARGV[3])
end
local fields = redis.call('HLEN', name)
if fields > 8 then
  local now = tonumber(redis.call('TIME')[1])
  for _, other in ipairs(redis.call('HRANDFIELD', name, 3)) do
    local a, b, c, d = string.byte(redis.call('HGET', name, other) or '', 17, 20)
    if d == nil or ((a * 256 + b) * 256 + c) * 256 + d < now then
      redis.call('HDEL', name, other)
    end
  end
end
local ttl = tonumber(ARGV[4])
if ARGV[3] ~= '' and (fields == 1 or redis.call('PTTL', name) < ttl) then
  redis.call('PEXPIRE', name, ttl)
end
for _, i in ipairs(back) do redis.call('RENAME', KEYS[2 * i + 1], KEYS[2 * i]) end
for i = 1, added do redis.call('PEXPIRE', KEYS[2 * i], ttl) end
local rest = 2 + 2 * added
for i = rest, rest + kept - 1 do redis.call('PEXPIRE', KEYS[i], ttl) end
for i = rest + kept, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('RENAME', KEYS[i], KEYS[i + 1])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[7])
  end
end
return ''
`

var compareAndSetSHA = func() string {
	sum := sha1.Sum([]byte(compareAndSetScript)) // the protocol requires SHA-1
	return hex.EncodeToString(sum[:])
}()

// compareAndSet tries an update. If the value has changed meanwhile, it returns
// the new value.
func (s *Store) compareAndSet(ctx context.Context, u update) (done bool, now string, err error) {
	name := s.metadataName(u.key)
	keys := []string{name}
	args := []string{
		u.key[urlLen:], u.revision, rueidis.BinaryString(u.value), formatMilliseconds(u.ttl),
		strconv.Itoa(len(u.added)), strconv.Itoa(len(u.kept)), formatMilliseconds(releasedTime),
	}
	for _, blob := range u.added {
		keys = append(keys, s.blobName(u.key, blob.ID), releasedName(s.blobName(u.key, blob.ID)))
		args = append(args, strconv.FormatInt(chunksOf(blob.Size), 10))
	}
	for _, blob := range u.kept {
		keys = append(keys, s.blobName(u.key, blob.ID))
	}
	for _, blob := range u.released {
		keys = append(keys, s.blobName(u.key, blob.ID), releasedName(s.blobName(u.key, blob.ID)))
	}
	type answer struct {
		done bool
		now  string
	}
	// When this call has returned, nothing is sent any more: what u stores may be
	// invalidated by then, and an absent value has no revision that would tell.
	// Commands sent before arrive before later ones of this process.
	sending, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	got, err := run(s, s.metadata, ctx, u.key, s.opts.WriteTimeout, func(_ context.Context, c *connection) (answer, error) {
		b := c.metadata.B()
		script := b.Evalsha().Sha1(compareAndSetSHA).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
		// The connection delivers the answer to EXISTS after the notice that
		// the value changed. So when this process has the answer, it no longer
		// uses the old value.
		resps := c.metadata.DoMulti(sending, script, c.metadata.B().Exists().Key(name).Build())
		if err := resps[0].Error(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			whole := c.metadata.B().Eval().Script(compareAndSetScript).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
			resps = c.metadata.DoMulti(sending, whole, c.metadata.B().Exists().Key(name).Build())
		}
		text, err := resps[0].ToString()
		switch {
		case rueidis.IsRedisNil(err):
			return answer{}, nil
		case err != nil:
			return answer{}, err
		case text == "":
			return answer{done: true}, resps[1].NonRedisError()
		}
		return answer{now: text}, nil
	})
	if e, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(e.Error(), "MISSING") {
		err = fmt.Errorf("%w: %v", store.ErrDamaged, e)
	}
	return got.done, got.now, err
}

func formatMilliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
