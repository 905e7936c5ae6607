package download

import (
	"context"
	"io"
	"runtime/debug"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

// The end of a download, after the last reader has left.

// idleShare divides the time limit of Drain. A source of unknown length may be
// idle for this part of it. Mostly only its end is missing, which arrives at
// once. If it stays idle, it is probably a stream that waits for an event.
const idleShare = 4

// closeTime is how long Close waits for storing after the context of its reader
// has ended. A healthy store takes less.
const closeTime = 100 * time.Millisecond

// Drain fetches a remainder of at most budget bytes, if it comes within the
// time limit. So a reader that stops a little before the end, as a json.Decoder
// does, leaves complete content.
func (d *Download) Drain(budget int64, limit time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.config.Endless || limit <= 0 || d.limit >= 0 && d.limit-d.arrived > budget {
		return
	}
	deadline, last := time.Now().Add(limit), d.arrived+budget
	for d.end == nil && d.ending == nil && d.refused == nil && d.arrived <= last {
		before, idle := d.arrived, time.Until(deadline)
		if d.limit < 0 {
			idle = min(idle, limit/idleShare)
		}
		came := d.wait(idle, func() bool {
			if d.end != nil || d.ending != nil || d.refused != nil || d.arrived > before {
				return false
			}
			d.advance(false, longestWait)
			return true
		})
		if !came {
			return
		}
	}
}

// Close ends the download after the last reader has left. cancel ends the
// request to the source. Close waits until the content is stored, but no longer
// than that reader waits. After that, storing continues in the background.
func (d *Download) Close(cancel func()) {
	d.abandoned.Store(true)
	d.mu.Lock()
	over := d.end != nil && !d.writing && d.config.Draft.AtOnce()
	ctx, limit := context.Background(), closeTime
	if d.lastContext != nil && d.lastContext.Err() == nil {
		ctx, limit = d.lastContext, d.lastWait
	}
	d.mu.Unlock()
	if over {
		d.close(cancel)
		return
	}
	d.config.Stragglers.Add()
	done := make(chan struct{})
	go func() {
		defer d.config.Stragglers.Done()
		defer close(done)
		d.close(cancel)
	}()
	_ = patience.Wait(ctx, done, limit)
}

// close stores the content, unless that was done, and closes everything.
func (d *Download) close(cancel func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.writing {
		d.changed.Wait()
	}
	if d.end == nil {
		d.end = ErrAbandoned
		if !d.finished {
			d.finish(ErrAbandoned)
		}
	}
	fetching, source := d.fetching, d.source
	if d.interrupted = fetching; fetching {
		d.config.Stragglers.Add() // until fetched
		d.config.Stragglers.Add() // until interrupt has returned
	}
	d.window.stopWaiting()
	d.unlocked(func() {
		cancel()
		if fetching {
			go d.interrupt(source)
		} else {
			source.Close()
		}
		d.config.Draft.Close()
		if d.config.Held != nil {
			d.config.Held.Close()
		}
	})
}

// interrupt closes a source that is being read. Bodies of net/http allow that.
// Others may not notice that their request has ended, or may wait for their
// reader.
func (d *Download) interrupt(source io.Closer) {
	defer d.config.Stragglers.Done()
	defer func() {
		if p := recover(); p != nil {
			d.config.Panicked(p, debug.Stack())
		}
	}()
	source.Close()
}
