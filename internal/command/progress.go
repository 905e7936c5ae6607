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
	out    *screen
	bodies bool // bodies are shown; otherwise only waiting for them
	stop   chan struct{}
	done   sync.WaitGroup

	mu    sync.Mutex
	bars  []*download
	drawn int // lines on the screen
}

const (
	// progressAfter is how long a download must take before it is shown. The
	// line of a shorter one would vanish before it can be read.
	progressAfter = 300 * time.Millisecond
	progressEvery = 100 * time.Millisecond

	// waitingAfter is how long a server may be silent before the user is told.
	waitingAfter = time.Second
)

// newProgress returns a progress. It draws only if draws is true, and bodies
// only if bodies is true, too.
func newProgress(out *screen, draws, bodies bool) *progress {
	p := &progress{out: out, bodies: bodies}
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
	out := p.out.current()
	for _, d := range p.bars {
		line := ""
		switch {
		case d.w == nil && now.Sub(d.began) >= waitingAfter:
			line = d.waiting(out, now)
		case d.w != nil && p.bodies && now.Sub(d.began) >= progressAfter:
			line = d.line(out, now)
		}
		if line != "" {
			b.WriteString(line + "\n")
			p.drawn++
		}
	}
	io.WriteString(p.out, b.String())
}

// download is a body that is awaited, or that is being written to w.
type download struct {
	p          *progress
	name, host string

	// The lock of p protects what follows.
	w      io.Writer // nil while the response is awaited
	length int64     // -1 if unknown
	began  time.Time // the waiting, or the body
	got    int64     // bytes of the body, from the cache and from the network
	meter  *meter    // the bytes from the network
}

// follow shows that a response is awaited, until the download begins or is
// closed.
func (p *progress) follow(name, host string) *download {
	d := &download{p: p, name: name, host: host, began: time.Now()}
	p.mu.Lock()
	p.bars = append(p.bars, d)
	p.mu.Unlock()
	return d
}

// begin makes d a writer to w that shows how much of length bytes has arrived.
func (d *download) begin(w io.Writer, length int64, count *meter) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.w, d.length, d.began, d.got, d.meter = w, length, time.Now(), 0, count
	d.p.erase() // before the body is written to the same terminal
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

// waiting returns the line of a response that is awaited.
func (d *download) waiting(out *screen, now time.Time) string {
	return out.fit(fmt.Sprintf("waiting for %s (%s)", printable(d.host), span(now.Sub(d.began))), out.width-1)
}

// line returns the line of a body. Its rate is that of the network: what the
// cache already has is there at once.
func (d *download) line(out *screen, now time.Time) string {
	const (
		columns = 16
		narrow  = 68 // terminals with fewer have no room for the bar
	)
	rate := float64(d.meter.bytes.Load()) / now.Sub(d.began).Seconds()
	if out.width < narrow {
		text := size(d.got)
		if d.length > 0 {
			text = fmt.Sprintf("%d%%", 100*min(d.got, d.length)/d.length)
		}
		if out.width >= narrow/2 {
			text += fmt.Sprintf(" %s/s", size(int64(rate)))
		}
		return out.fit(out.fit(printable(d.name), max(out.width-len(text)-2, 3))+" "+text, out.width-1)
	}
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
