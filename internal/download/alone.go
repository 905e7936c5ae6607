package download

import (
	"context"
	"hash/maphash"
	"io"

	"github.com/cachetrip/cachetrip/internal/prefix"
)

// A reader that goes on alone: the others did not wait for it, or the source that
// it shares has stalled or ended early, or the draft has lost what it had.

// alone is the part of a Reader that goes on alone.
type alone struct {
	from   int64 // the position from which r reads alone; -1 if it does not
	why    error // the error of the reader if no rest can be had
	whole  bool  // see Shared.Whole
	begun  bool  // what follows is set
	ask    Rest  // nil if there is none
	stop   context.CancelFunc
	source io.ReadCloser
	until  int64 // where source ends; -1 if only its end tells
}

func (r *Reader) isAlone() bool { return r.alone.from >= 0 && r.position >= r.alone.from }

// goAlone has r read alone from a position on. The lock is held.
func (r *Reader) goAlone(from int64, why error) {
	r.alone.from, r.alone.why = from, why
	delete(r.d.readers, r) // nobody waits for it any more
}

// readAlone reads what r asks the origin for. done is false if the origin does not
// give that, and r goes on with a source that has only stalled. The lock is held,
// but for the while of asking and reading.
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
		n, err = r.readStored(p) // what is held behind the source
		return n, true, err
	}
	return 0, true, io.EOF
}

// begin prepares r for asking.
func (r *Reader) begin() {
	if r.alone.begun {
		return
	}
	r.alone.begun, r.alone.until = true, r.d.limit
	if r.caller.Alone == nil {
		return
	}
	var ctx context.Context
	ctx, r.alone.stop = context.WithCancel(r.caller.Context)
	r.alone.ask = r.caller.Alone(Shared{Context: ctx, Begins: r.begins, Whole: r.alone.whole})
}

// askRest asks for a source of the rest, and reports whether there is one. If there
// is none and no error, r goes on with what it shares.
func (r *Reader) askRest() (found bool, err error) {
	a, d, position := &r.alone, r.d, r.position
	var source io.ReadCloser
	var until int64
	if a.ask != nil {
		r.reading = true // what the caller has
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
	a.why = io.ErrUnexpectedEOF // should it end early
	return true, nil
}

// readSource reads from the source of r alone.
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

// begins reports whether a body begins with what r was given up to a position.
func (r *Reader) begins(body io.Reader, position int64) bool {
	if r.sum != nil { // the draft may not give it again
		var sum maphash.Hash
		sum.SetSeed(r.sum.Seed())
		_, err := io.CopyN(&sum, body, position)
		return err == nil && sum.Sum64() == r.sum.Sum64()
	}
	return prefix.Same(body, reading{r}, position)
}

// reading reads again what a reader was given.
type reading struct{ r *Reader }

func (g reading) ReadAt(p []byte, position int64) (int, error) {
	return g.r.d.readAt(g.r.caller.Context, p, position)
}
