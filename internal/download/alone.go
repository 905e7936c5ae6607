package download

import (
	"context"
	"hash/maphash"
	"io"

	"github.com/cachetrip/cachetrip/internal/prefix"
)

// Readers that continue alone. A reader does so if the others did not wait for
// it, if the shared source has stalled or ended early, or if the draft has lost
// content.

// alone is the state of a Reader that continues alone.
type alone struct {
	from   int64 // the position from which r reads alone; -1 while it shares
	why    error // the error of the reader if no rest can be had
	whole  bool  // see Shared.Whole
	begun  bool  // begin was called, and the fields below are set
	ask    Rest  // nil if the rest cannot be requested
	stop   context.CancelFunc
	source io.ReadCloser
	until  int64 // where source ends; -1 if only its end tells
}

func (r *Reader) isAlone() bool { return r.alone.from >= 0 && r.position >= r.alone.from }

// goAlone makes r read alone from a position on. The lock is held.
func (r *Reader) goAlone(from int64, why error) {
	r.alone.from, r.alone.why = from, why
	delete(r.d.readers, r) // no reader waits for it any more
}

// readAlone reads from a source of r's own. done is false if there is none, and
// r continues with a shared source that has only stalled. The lock is held,
// except during requests and reads.
func (r *Reader) readAlone(p []byte) (n int, done bool, err error) {
	a := &r.alone
	r.begin()
	for a.until < 0 || r.position < a.until {
		if a.source == nil {
			if found, err := r.askRest(); !found {
				return 0, err != nil, err
			}
		}
		n, err := r.readSource(p)
		switch {
		case n > 0 || err == nil:
			return n, true, nil
		case r.err != nil:
			return 0, true, r.err
		case err == io.EOF && a.until < 0:
			a.until = r.position
		case err != io.EOF:
			a.why = err
		}
		if !r.d.config.Broken(err) {
			return 0, true, err
		}
		source := a.source
		a.source = nil
		r.d.unlocked(func() { source.Close() })
	}
	if r.position < r.d.length {
		n, err = r.readStored(p) // the held content after the source
		return n, true, err
	}
	return 0, true, io.EOF
}

// begin prepares r for requesting the rest.
func (r *Reader) begin() {
	if r.alone.begun {
		return
	}
	r.alone.begun, r.alone.until = true, r.d.limit
	if r.d.wrong != nil {
		r.alone.until = -1 // the length may be wrong, too
	}
	if r.caller.Alone == nil {
		return
	}
	var ctx context.Context
	ctx, r.alone.stop = context.WithCancel(r.caller.Context)
	r.alone.ask = r.caller.Alone(Shared{Context: ctx, Begins: r.begins, Whole: r.alone.whole})
}

// askRest requests the rest, and reports whether there is a source of it. If
// there is none and no error, r continues with the shared source.
func (r *Reader) askRest() (found bool, err error) {
	a, d, position := &r.alone, r.d, r.position
	var source io.ReadCloser
	var until int64
	if a.ask != nil {
		r.reading = true // Begins reads what the caller got
		d.unlocked(func() { source, until = a.ask(position) })
		r.reading = false
		d.changed.Broadcast()
	}
	switch {
	case r.err != nil:
		if source != nil {
			d.unlocked(func() { source.Close() })
		}
		return false, r.err
	case source == nil && a.why == errStalled:
		a.from, a.ask, r.caller.Alone = -1, nil, nil
		d.readers[r] = struct{}{}
		return false, nil
	case source == nil:
		return false, a.why
	}
	a.source, a.until = source, until
	a.why = io.ErrUnexpectedEOF // in case the source ends early
	return true, nil
}

// readSource reads from r's own source.
func (r *Reader) readSource(p []byte) (n int, err error) {
	source := r.alone.source
	if r.alone.until >= 0 {
		p = p[:min(int64(len(p)), r.alone.until-r.position)]
	}
	r.d.unlocked(func() { n, err = source.Read(p) })
	r.d.config.Received.Add(int64(n))
	r.position += int64(n)
	return n, err
}

// begins reports whether a body begins with the bytes that r has returned, up
// to a position.
func (r *Reader) begins(body io.Reader, position int64) bool {
	if r.sum == nil {
		return prefix.Same(body, reading{r}, position)
	}
	// The draft may not have the bytes from sumFrom on.
	if !prefix.Same(body, reading{r}, r.sumFrom) {
		return false
	}
	var sum maphash.Hash
	sum.SetSeed(r.sum.Seed())
	_, err := io.CopyN(&sum, body, position-r.sumFrom)
	return err == nil && sum.Sum64() == r.sum.Sum64()
}

// reading reads the bytes that a reader has returned before.
type reading struct{ r *Reader }

func (g reading) ReadAt(p []byte, position int64) (int, error) {
	return g.r.d.readAt(g.r.caller.Context, p, position)
}
