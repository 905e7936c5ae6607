package cachetrip

import (
	"time"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/store"
)

// Checkpoints of a long download: from time to time, the bytes that have
// arrived are stored. If this process is killed, the next one can request the
// rest. RFC 9111, section 3.3.

// checkpointBytes and checkpointPause limit what is lost. A checkpoint is made
// after so many bytes, but not more often than once in the pause: bytes that
// came within it are soon fetched again.
var (
	checkpointBytes int64 = 8 << 20
	checkpointPause       = time.Second
)

// checkpoints is a draft whose content is stored from time to time, while it is
// written.
type checkpoints struct {
	*guard.Draft
	reply  *originReply
	rests  *rests
	beside []store.Part // the stored parts beside the draft
	begins int64        // the position where the content in the draft begins

	fresh  int64 // bytes since the last checkpoint
	last   time.Time
	stored *store.Entry // the entry of the last one; nil if there was none
}

// Write implements [download.Draft].
func (c *checkpoints) Write(p []byte) (int, error) {
	n, err := c.Draft.Write(p)
	if c.fresh += int64(n); err == nil && c.fresh >= checkpointBytes {
		if now := time.Now(); now.Sub(c.last) >= checkpointPause {
			c.make()
			c.fresh, c.last = 0, now
		}
	}
	return n, err
}

// make stores what has arrived. If that fails, the next attempt or the end of
// the download stores it.
func (c *checkpoints) make() {
	e, forbidden := c.rests.joined()
	if part := newResponse(e); forbidden != "" || part.mustNotStore() || c.reply.x.t.guard.IsShut() {
		return
	}
	blob, length, err := c.Draft.Checkpoint()
	if err != nil || length == 0 {
		return
	}
	e = e.Clone()
	e.Parts = joinParts(c.beside, store.Part{Offset: c.begins, Length: length, Blob: blob})
	if e, outdated, err := c.reply.put(c.Waiting(), e, blob.ID); err != nil || !outdated { // what failed may still take effect
		c.stored = e
	}
}

// forget removes what the checkpoints have stored of content that must not be
// stored.
func (c *checkpoints) forget() {
	if c != nil && c.stored != nil {
		c.reply.x.drop(c.stored, "dropped the beginning of a response")
	}
}
