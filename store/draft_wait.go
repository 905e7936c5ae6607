package store

import (
	"context"
	"time"
)

// This file limits how long a draft waits for other callers and processes. Its
// own caller mostly reads the body along, and gets the next bytes only after
// Write has returned.

// lock locks the draft's shard.
func (dr *diskDraft) lock() (*locked, error) {
	wait := lockWait
	if !dr.until.IsZero() {
		wait = max(0, min(wait, time.Until(dr.until)))
	}
	return dr.d.lock(dr.ctx, shardOf(dr.key), wait)
}

// LimitWait limits how long the calls of the draft from now on wait for locks,
// altogether. A caller that reads the body along waits for the next Write. If
// most is negative, there is no limit beyond that of each lock.
func (dr *diskDraft) LimitWait(most time.Duration) {
	dr.until = time.Time{}
	if most >= 0 {
		dr.until = time.Now().Add(most)
	}
}

// context returns the context for making room. It ends with the limit of
// LimitWait.
func (dr *diskDraft) context() (context.Context, context.CancelFunc) {
	if dr.until.IsZero() {
		return dr.ctx, func() {}
	}
	return context.WithDeadline(dr.ctx, dr.until)
}

func (dr *diskDraft) grant(full *fullError, r *room) error {
	ctx, cancel := dr.context()
	defer cancel()
	return dr.d.grant(ctx, full, r)
}

func (dr *diskDraft) makeSpace(round uint64) bool {
	ctx, cancel := dr.context()
	defer cancel()
	return dr.d.makeSpace(ctx, round, int64(len(dr.buf)))
}
