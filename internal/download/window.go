package download

import (
	"sync"
	"time"
)

// The last piece in memory, and which readers are waited for until they have taken
// it.

// pieceSize is how much is asked of the source at once: large enough that handing
// a piece over costs little beside its transfer, small enough to hold one for each
// of many downloads.
const pieceSize = 128 << 10

type piece = [pieceSize]byte

var pieces = sync.Pool{New: func() any { return new(piece) }}

func takePiece() *piece { return pieces.Get().(*piece) }

// longestWait is how long readers wait for one that does not read, once the draft
// takes no more: longer than programs pause while they read, and much less than
// they wait for a response.
const longestWait = 3 * time.Second

// window is the piece that has come last. It is empty if all readers have taken
// that, or can read it from the draft.
type window struct {
	bytes   []byte      // of piece
	piece   *piece      // nil if the window is empty
	overdue *time.Timer // runs while readers wait for others to take the piece
}

// fill puts the first n bytes of a piece into the window, which owns it then.
func (w *window) fill(piece *piece, n int) {
	w.drop()
	w.bytes, w.piece = piece[:n], piece
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

// awaitsReaders reports whether some reader still has to take what only the window
// holds. After a while, at most longestWait, such readers are left behind. If there
// are none, it empties the window. The lock is held.
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

// leaveBehind lets the readers go on that have waited at a position for readers
// that joined. Those are then alone.
func (d *Download) leaveBehind(at int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arrived != at {
		return
	}
	d.window.overdue = nil
	if !d.someoneAt(at) {
		return // who waited has left
	}
	for r := range d.readers {
		// The reader whose request it is never is left behind.
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
