package command

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress shows a line on the terminal for each current download.
type progress struct {
	out  *screen
	stop chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	bars  []*download
	drawn int // lines on the screen
}

const (
	// progressAfter is how long a download must take before it is shown. The
	// line of a shorter one would vanish before it can be read.
	progressAfter = 300 * time.Millisecond
	progressEvery = 100 * time.Millisecond
)

// newProgress returns a progress. It draws only if draws is true.
func newProgress(out *screen, draws bool) *progress {
	p := &progress{out: out}
	if draws && out.moves {
		p.stop = make(chan struct{})
		p.done.Go(p.run)
	}
	return p
}

func (p *progress) run() {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-ticker.C:
			p.mu.Lock()
			p.erase()
			p.draw()
			p.mu.Unlock()
		}
	}
}

// close stops drawing, and removes the drawn lines.
func (p *progress) close() {
	if p.stop == nil {
		return
	}
	close(p.stop)
	p.done.Wait()
	p.erase()
}

// say writes a line above the drawn ones.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintf(p.out, format, args...)
	p.draw()
}

func (p *progress) erase() {
	if p.drawn > 0 {
		fmt.Fprintf(p.out, "\x1b[%dA\r\x1b[J", p.drawn)
		p.drawn = 0
	}
}

func (p *progress) draw() {
	if p.stop == nil {
		return
	}
	var b strings.Builder
	now := time.Now()
	for _, d := range p.bars {
		if now.Sub(d.began) >= progressAfter {
			b.WriteString(d.line(p.out, now) + "\n")
			p.drawn++
		}
	}
	io.WriteString(p.out, b.String())
}

// download is a body that is being written to w.
type download struct {
	w      io.Writer
	p      *progress
	name   string
	length int64 // -1 if unknown
	began  time.Time
	got    int64
}

// follow returns a writer to w that shows how much of length bytes has arrived,
// until it is closed.
func (p *progress) follow(w io.Writer, name string, length int64) *download {
	d := &download{w: w, p: p, name: name, length: length, began: time.Now()}
	p.mu.Lock()
	p.bars = append(p.bars, d)
	p.mu.Unlock()
	return d
}

func (d *download) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	d.p.mu.Lock()
	d.got += int64(n)
	d.p.mu.Unlock()
	return n, err
}

func (d *download) close() {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	for i, other := range d.p.bars {
		if other == d {
			d.p.bars = append(d.p.bars[:i], d.p.bars[i+1:]...)
			return
		}
	}
}

func (d *download) line(out *screen, now time.Time) string {
	const columns = 16
	rate := float64(d.got) / now.Sub(d.began).Seconds()
	name := out.fit(printable(d.name), 20)
	text := fmt.Sprintf("%-20s %9s %9s/s", name, size(d.got), size(int64(rate)))
	if d.length > 0 {
		done := min(d.got, d.length)
		filled := int(float64(done) / float64(d.length) * columns)
		left := ""
		if rate > 0 {
			left = span(time.Duration(float64(d.length-done)/rate*float64(time.Second))) + " left"
		}
		text = fmt.Sprintf("%-20s %3d%% [%s%s] %9s %9s/s %s", name, 100*done/d.length,
			strings.Repeat("=", filled), strings.Repeat(" ", columns-filled), size(d.got), size(int64(rate)), left)
	}
	return out.fit(text, out.width-1)
}
