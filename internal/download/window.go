package download

import (
	"sync"
	"time"
)

// The window: the last piece in memory, and the readers that have not taken it
// yet.

// pieceSize is how much is read from the source at once. Passing on a piece of
// this size costs little beside its transfer. It is small enough for many
// downloads at a time.
const pieceSize = 128 << 10

type piece = [pieceSize]byte

var pieces = sync.Pool{New: func() any { return new(piece) }}

func takePiece() *piece { return pieces.Get().(*piece) }

// longestWait is how long the other readers wait for a reader that does not
// read, once the draft has failed. Programs pause less while they read, and
// wait much longer for a response.
const longestWait = 3 * time.Second

// window is the last piece that arrived. It is empty if all readers have taken
// the piece, or can read it from the draft.
type window struct {
	bytes   []byte      // the used part of piece
	piece   *piece      // nil if the window is empty
	overdue *time.Timer // runs while readers wait for others to take the piece
}

// fill puts the first n bytes of a piece into the window, which owns it then.
// If piece is nil, the window is empty.
func (w *window) fill(piece *piece, n int) {
	w.drop()
	if piece != nil {
		w.bytes, w.piece = piece[:n], piece
	}
}

// drop empties the window.
func (w *window) drop() {
	if w.piece != nil {
		pieces.Put(w.piece)
	}
	w.bytes, w.piece = nil, nil
}

// stopWaiting ends the wait for readers.
func (w *window) stopWaiting() {
	if w.overdue != nil {
		w.overdue.Stop()
		w.overdue = nil
	}
}

// awaitsReaders reports whether a reader still has to take content that only
// the window holds. If there is none, it empties the window. Such a reader is
// left behind after a while, at most longestWait. The lock is held.
func (d *Download) awaitsReaders(late time.Duration) bool {
	if d.refused == nil || len(d.window.bytes) == 0 {
		return false
	}
	for r := range d.readers {
		if r.position < d.arrived {
			if d.window.overdue == nil {
				at := d.arrived
				d.window.overdue = time.AfterFunc(min(late, longestWait), func() { d.leaveBehind(at) })
			}
			return true
		}
	}
	d.window.stopWaiting()
	d.window.drop()
	return false
}

// leaveBehind leaves behind the joined readers that are not at the position at.
// The readers at that position have waited for them. Readers that are left
// behind continue alone.
func (d *Download) leaveBehind(at int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arrived != at {
		return
	}
	d.window.overdue = nil
	if !d.someoneAt(at) {
		return // the reader that waited has left
	}
	for r := range d.readers {
		// The first reader is never left behind.
		if r.joined && r.position != at {
			r.goAlone(max(r.position, d.staged), errLate)
		}
	}
	d.changed.Broadcast()
}

func (d *Download) someoneAt(position int64) bool {
	for r := range d.readers {
		if r.position == position {
			return true
		}
	}
	return false
}
