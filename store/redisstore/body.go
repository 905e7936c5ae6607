package redisstore

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// Reading bodies from the server. A body is a hash of chunks. Each chunk begins
// with its checksum.

const (
	// chunkSize is the number of body bytes in one chunk. A round trip costs
	// little beside it, and it does not occupy the server for long. With
	// checksum and header it fits exactly into an allocation of the server, 256
	// KiB.
	chunkSize = 256<<10 - 64

	// wholeSize is the largest body that Open fetches whole, before the
	// response is served. A failure of the server then no longer matters.
	wholeSize = 4 * chunkSize
)

// chunksOf returns the number of chunks of a body.
func chunksOf(size int64) int64 { return (size + chunkSize - 1) / chunkSize }

// Open implements [store.Store]. It transfers a body of up to 1 MiB before it
// returns. A larger body is transferred chunk by chunk while it is read. Each
// chunk must arrive within ten times LookupTimeout, and at least a second.
func (s *Store) Open(ctx context.Context, key string, blob store.Blob) (store.Body, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	b := &body{s: s, key: key, name: s.blobName(key, blob.ID), size: blob.Size, ctx: context.WithoutCancel(ctx)}
	switch {
	case blob.Inline != nil:
		b.whole = blob.Inline
		return b, nil
	case len(blob.ID) != idLen || !entryset.IsHex(blob.ID) || blob.Size <= 0:
		return nil, opError("open body", store.ErrDamaged)
	}
	chunks := chunksOf(blob.Size)
	first := chunks
	if blob.Size > wholeSize {
		first = 1
	}
	pieces, err := run(s, s.bodies, ctx, key, s.opts.LookupTimeout, func(ctx context.Context, c *connection) ([][]byte, error) {
		cmds := rueidis.Commands{c.bodies.B().Hlen().Key(b.name).Build()}
		for i := range first {
			cmds = append(cmds, c.bodies.B().Hget().Key(b.name).Field(strconv.FormatInt(i, 10)).Build())
		}
		resps := c.bodies.DoMulti(ctx, cmds...)
		if n, err := resps[0].AsInt64(); err != nil {
			return nil, err
		} else if n != chunks {
			return nil, errDamaged
		}
		pieces := make([][]byte, first)
		for i := range pieces {
			var err error
			if pieces[i], err = b.verified(resps[1+i], int64(i)); err != nil {
				return nil, err
			}
		}
		return pieces, nil
	})
	if err != nil {
		if cerr := ctx.Err(); cerr != nil {
			err = cerr
		}
		return nil, opError("open body", err)
	}
	if first == 1 && chunks == 1 {
		b.whole = pieces[0]
		return b, nil
	}
	if first == chunks {
		b.whole = make([]byte, 0, blob.Size)
		for _, piece := range pieces {
			b.whole = append(b.whole, piece...)
		}
		return b, nil
	}
	b.recent[0] = loaded{0, pieces[0]}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alive = time.AfterFunc(0, b.keepAlive) // at once the first time, because the body may be about to expire
	return b, nil
}

// errDamaged reports a damaged body. It counts as an answer of a working
// server.
var errDamaged = errors.Join(store.ErrDamaged, errAnswer)

// body is an open body.
type body struct {
	s     *Store
	ctx   context.Context // for its values
	key   string
	name  string
	size  int64
	whole []byte // the whole body; nil if it is read in chunks

	alive *time.Timer // keeps the chunks from expiring while the body is open

	mu     sync.Mutex
	closed bool
	recent [2]loaded // the two chunks that were used last, the latest first
	ahead  *fetch    // the chunk after the one that was read last
}

type loaded struct {
	index int64
	data  []byte // nil if the element is unused
}

// fetch is the transfer of one chunk.
type fetch struct {
	index int64
	done  chan struct{}
	data  []byte
	err   error
}

// verified returns the bytes of chunk i from resp, if they have the right
// length and checksum.
func (b *body) verified(resp rueidis.RedisResult, i int64) ([]byte, error) {
	raw, err := resp.AsBytes()
	switch {
	case rueidis.IsRedisNil(err):
		return nil, errDamaged
	case err != nil:
		return nil, err
	case int64(len(raw)) != 4+min(chunkSize, b.size-i*chunkSize) || crc32.Checksum(raw[4:], castagnoli) != binary.BigEndian.Uint32(raw):
		return nil, errDamaged
	}
	return raw[4:], nil
}

// get fetches chunk i from the server. The body may have been released since it
// was opened.
func (b *body) get(i int64) ([]byte, error) {
	// The caller has part of the response already, and only the server has the
	// rest. So wait longer than for a lookup, and ask a server for which lookups
	// do not wait any more.
	budget := max(time.Second, 10*b.s.opts.LookupTimeout)
	return runAnyway(b.s, b.s.bodies, b.ctx, budget, func(ctx context.Context, c *connection) ([]byte, error) {
		field := strconv.FormatInt(i, 10)
		data, err := b.verified(c.bodies.Do(ctx, c.bodies.B().Hget().Key(b.name).Field(field).Build()), i)
		if errors.Is(err, store.ErrDamaged) {
			data, err = b.verified(c.bodies.Do(ctx, c.bodies.B().Hget().Key(releasedName(b.name)).Field(field).Build()), i)
		}
		return data, err
	})
}

// chunk returns chunk i. If chunks are read in order, it also starts the
// transfer of the next one.
func (b *body) chunk(i int64) ([]byte, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, opError("read body", fs.ErrClosed)
	}
	for n, l := range b.recent {
		if l.data != nil && l.index == i {
			b.recent[0], b.recent[n] = l, b.recent[0]
			b.mu.Unlock()
			return l.data, nil
		}
	}
	f := b.ahead
	if f == nil || f.index != i {
		f = b.fetch(i)
	}
	b.ahead = nil
	if last := b.recent[0]; last.data != nil && last.index == i-1 && i+1 < chunksOf(b.size) {
		b.ahead = b.fetch(i + 1)
	}
	b.mu.Unlock()
	<-f.done
	if f.err != nil {
		return nil, opError("read body", f.err)
	}
	b.mu.Lock()
	b.recent[1], b.recent[0] = b.recent[0], loaded{i, f.data}
	b.mu.Unlock()
	return f.data, nil
}

func (b *body) fetch(i int64) *fetch {
	f := &fetch{index: i, done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.data, f.err = b.get(i)
	}()
	return f
}

// ReadAt implements io.ReaderAt.
func (b *body) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, opError("read body", errors.New("negative offset"))
	}
	for n < len(p) && off < b.size {
		piece, err := b.at(off)
		if err != nil {
			return n, err
		}
		m := copy(p[n:], piece)
		n += m
		off += int64(m)
	}
	if n < len(p) || len(p) == 0 && off >= b.size {
		return n, io.EOF
	}
	return n, nil
}

// at returns the bytes from an offset to the end of its chunk.
func (b *body) at(off int64) ([]byte, error) {
	if b.whole != nil {
		return b.whole[off:], nil
	}
	piece, err := b.chunk(off / chunkSize)
	if err != nil {
		return nil, err
	}
	return piece[off%chunkSize:], nil
}

// keepAlive keeps the open body from expiring, under either of its names.
func (b *body) keepAlive() {
	run(b.s, b.s.bodies, b.ctx, b.key, b.s.opts.LookupTimeout, func(ctx context.Context, c *connection) (struct{}, error) {
		script := c.bodies.B().Eval().Script(keepAliveScript).Numkeys(2).Key(b.name, releasedName(b.name)).
			Arg(formatMilliseconds(releasedTime)).Build()
		return struct{}{}, c.bodies.Do(ctx, script).Error()
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.alive.Reset(releasedTime / 3)
	}
}

const keepAliveScript = `
for _, name in ipairs(KEYS) do
  local left = redis.call('PTTL', name)
  if left >= 0 and left < tonumber(ARGV[1]) then redis.call('PEXPIRE', name, ARGV[1]) end
end
return 0
`

func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.alive != nil {
		b.alive.Stop()
	}
	return nil
}
