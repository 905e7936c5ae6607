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

// Entries and how they change: one value for each key of the store, replaced by comparing and setting.

const (
	// memoryTime is for how long at most a value is used without asking the server, which takes what is asked
	// for as used, and evicts what is not. It also bounds what a server that is cut off, and replaced by
	// another, can keep from being told.
	memoryTime = time.Minute

	// minTime is what everything is kept for at least, so that it is there when a body has arrived.
	minTime = time.Second

	// maxTime is what freshness and Options.Keep count for at most: longer than what is cached is of use, and
	// short enough that when something may go fits the 32 bits that a value has for it.
	maxTime = 10 * 365 * 24 * time.Hour

	// releasedTime is for how long a body that no entry names any more can still be read by those who had
	// opened it, and by which they say that they still do.
	releasedTime = 2 * time.Minute

	// maxAttempts bounds how often an update begins again because of others. Each time one of them has got
	// through; more than this would take part in one update of one key only if something is badly wrong.
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

// lookUp returns the value of key, empty if there is none, from the memory of the process if it can be, and
// whether it is from there.
func (s *Store) lookUp(ctx context.Context, key string) (value string, remembered bool, err error) {
	if err := s.usable(ctx); err != nil {
		return "", false, err
	}
	if err := checkKey(key); err != nil {
		return "", false, err
	}
	s.keepSecret()
	value, err = run(s, s.heads, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
		// Without asking for the time to live besides, which takes a transaction, and those a full server refuses.
		get := c.heads.B().Hget().Key(s.urlName(key)).Field(key[urlLen:]).Cache().ToStaticTTL()
		resp := c.heads.DoCache(ctx, get, memoryTime)
		value, err := orEmpty(resp)
		if err == nil && resp.IsCacheHit() {
			err = errNotAsked // or a server that is gone would not count as broken while something is in memory
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

// ask returns the value of key that the server has, empty if there is none.
func (s *Store) ask(ctx context.Context, key string) (string, error) {
	return run(s, s.heads, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) (string, error) {
		return orEmpty(c.heads.Do(ctx, c.heads.B().Hget().Key(s.urlName(key)).Field(key[urlLen:]).Build()))
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
	// What was looked up before is as good to begin with: if it is outdated, the server says so.
	value, remembered, err := s.lookUp(ctx, key)
	if err != nil {
		return err
	}
	for range maxAttempts {
		current, err := s.decoded.entries(key, value)
		if err != nil {
			current = nil // what does not prove itself is replaced
		}
		next := change(slices.Clone(current))
		if slices.Equal(current, next) {
			if !remembered {
				return nil
			}
			// Nobody says whether it is outdated if nothing is written.
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
	return opError("update", errors.New("others change the entries all the time"))
}

// update is one attempt to replace a value.
type update struct {
	key      string
	revision string // of the value to be replaced, empty if there is none
	value    []byte // nil to remove it
	ttl      time.Duration
	added    []store.Blob // that entries name and did not before: they have to be there
	kept     []store.Blob // that they named before as well
	released []store.Blob // that none names any more
}

func (s *Store) newUpdate(key, value string, current, next []*store.Entry) (u update, err error) {
	u = update{key: key, ttl: max(minTime, s.ttl(next))}
	if len(value) >= revisionLen {
		u.revision = value[:revisionLen]
	} else if value != "" {
		u.revision = value // of something else; the script compares as much as there is
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

// ttl returns for how long entries are to be kept, from now on: while one of them is fresh, and Keep beyond.
func (s *Store) ttl(entries []*store.Entry) time.Duration {
	var fresh time.Duration
	now := time.Now()
	for _, e := range entries {
		fresh = max(fresh, cachetrip.FreshnessOf(e, now).TTL())
	}
	return min(maxTime, fresh) + min(maxTime, max(0, s.opts.Keep))
}

// blobsOf returns the blobs that entries name and that are kept apart from them.
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

// compareAndSetScript makes an update, or nothing if it fails. It returns an empty string if the update was
// made, else the value that is there, or false if there is none.
//
//	KEYS  the hash of the URL; pairs of a blob that is newly named and its name if it was released; blobs
//	      that are named as before; pairs of a blob that is released and its name then
//	ARGV  field; revision; value or ”; TTL in ms; how many blobs are newly named; how many as before; for how
//	      long what is released stays, in ms; for each that is newly named, how many chunks it has
//
// A blob that was released and is still there, as somebody reads it, is taken back if it is named again. The
// first command that writes is the one that a full server refuses. What expires with the URL as a whole goes by itself; where there are many identities, three others are looked at each time, so that what
// may go does not become more than what may not.
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
      return redis.error_reply('MISSING a body is not there any more')
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
	sum := sha1.Sum([]byte(compareAndSetScript)) // as the protocol wants it
	return hex.EncodeToString(sum[:])
}()

// compareAndSet tries an update. If the value is another one by now, it returns that.
func (s *Store) compareAndSet(ctx context.Context, u update) (done bool, now string, err error) {
	name := s.urlName(u.key)
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
	got, err := run(s, s.heads, ctx, u.key, s.opts.WriteTimeout, func(ctx context.Context, c *connection) (answer, error) {
		b := c.heads.B()
		script := b.Evalsha().Sha1(compareAndSetSHA).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
		// The answer to what is asked behind the script comes after the server has said that the value changed,
		// on the same connection: from then on this process, too, sees the new one.
		resps := c.heads.DoMulti(ctx, script, c.heads.B().Exists().Key(name).Build())
		if err := resps[0].Error(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			whole := c.heads.B().Eval().Script(compareAndSetScript).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build()
			resps = c.heads.DoMulti(ctx, whole, c.heads.B().Exists().Key(name).Build())
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
