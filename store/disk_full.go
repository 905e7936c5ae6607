package store

import (
	"context"
	"encoding/binary"
	"time"
)

// This file makes space on a full disk. If the system refuses to store more,
// the cache evicts its own oldest keys and tries again. For a while it then
// keeps below what has fitted, so that the user's own files fit as well. All
// processes learn that from the usage file.

const (
	// squeezeFor is how long the cache keeps below what has fitted.
	squeezeFor = 10 * time.Minute

	// squeezeShare is the part of its content that the cache gives up: one in so
	// many.
	squeezeShare = 10

	// squeezeNow is how many bytes, at most, are freed at once. The next calls
	// free the rest.
	squeezeNow = 1 << 20

	// squeezeMin is a size, in bytes, below which the limit is not lowered.
	squeezeMin = 256 << 10

	// spaceTries is how often a caller makes space and tries again.
	spaceTries = 3

	// squeezeAt is where the usage file has the lowered limit in bytes, the
	// time in nanoseconds since 1970 until when it holds, and a check of both.
	squeezeAt = 32
)

// diskFull reports whether err says that the disk or a quota is full.
func diskFull(err error) bool { return err != nil && CauseOf(err) == CauseFull }

// limit returns the size that the cache is to have at most: MaxBytes, or less
// after the disk was full.
func (d *Disk) limit() int64 {
	left := d.squeezed.until.Load() - time.Now().UnixNano()
	if left <= 0 || left > int64(squeezeFor) { // over, or the clock was set back
		return d.max
	}
	return min(d.max, d.squeezed.bytes.Load())
}

// makeSpace evicts on a full disk, so that at least need bytes become free if
// possible. round is what d.squeezed.rounds was before the caller failed: if
// another caller has made space since, there is nothing to do. makeSpace
// reports whether trying again makes sense.
func (d *Disk) makeSpace(ctx context.Context, round uint64, need int64) bool {
	e := &d.evictor
	if e.wait(ctx) != nil {
		return false
	}
	var told []any
	defer func() { // after the lock is released
		if told != nil {
			d.log.Debug("cachetrip: store: the disk is full", told...)
		}
	}()
	defer func() { <-e.mu }()
	if d.squeezed.rounds.Load() != round {
		return true
	}
	var page usagePage
	if d.readUsage(&page) != nil {
		return false
	}
	held := page.sum()
	now := max(need, min(held/squeezeShare, squeezeNow))
	bytes := held - max(now, held/squeezeShare)
	// While the cache still shrinks to an earlier limit, that one is low enough.
	if limit := d.limit(); held > limit && limit < d.max {
		bytes = min(limit, held-now)
	}
	d.squeeze(max(bytes, squeezeMin))
	done, err := d.evict(ctx, evictLimits{target: min(bytes, held-now), full: held - now, near: held, few: evictMany})
	d.squeezed.rounds.Add(1)
	told = []any{"held", held, "freed", done.freed, "limit", d.limit(), "error", err}
	return done.freed > 0
}

// squeeze lowers the limit for a while, for all processes.
func (d *Disk) squeeze(bytes int64) {
	until := time.Now().Add(squeezeFor).UnixNano()
	d.squeezed.bytes.Store(bytes)
	d.squeezed.until.Store(until)
	f, err := d.usageOpen()
	if err != nil {
		return
	}
	var b [20]byte
	binary.LittleEndian.PutUint64(b[:], uint64(bytes))
	binary.LittleEndian.PutUint64(b[8:], uint64(until))
	binary.LittleEndian.PutUint32(b[16:], slotCheck(uint64(bytes)^uint64(until), 0))
	f.WriteAt(b[:], squeezeAt)
}

// noteSqueeze takes over what another process has noted.
func (d *Disk) noteSqueeze(p *usagePage) {
	b := p[squeezeAt:]
	bytes, until := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	if until == 0 || binary.LittleEndian.Uint32(b[16:]) != slotCheck(bytes^until, 0) || int64(bytes) < 0 {
		return
	}
	d.squeezed.bytes.Store(int64(bytes))
	d.squeezed.until.Store(int64(until))
}
