package command

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressBegins: a line is drawn only for a response, or a body, that takes
// a while.
func TestProgressBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var drawn bytes.Buffer
		p := newProgress(&screen{Writer: &drawn, moves: true, width: 80}, true, true)
		defer p.close()
		wants := func(what, want string) {
			t.Helper()
			p.mu.Lock()
			defer p.mu.Unlock()
			if got := drawn.String(); !strings.Contains(got, want) || want == "" && got != "" {
				t.Errorf("%s: drawn %q, want %q", what, got, want)
			}
			drawn.Reset()
		}
		d := p.follow("name", "origin.example")
		defer d.close()
		time.Sleep(waitingAfter - time.Millisecond)
		wants("just before a second", "")
		time.Sleep(progressEvery)
		synctest.Wait()
		wants("after a second", "waiting for origin.example (1s)")
		d.begin(io.Discard, 1000, new(meter))
		d.Write(make([]byte, 500))
		p.mu.Lock()
		drawn.Reset()
		p.mu.Unlock()
		time.Sleep(progressAfter - progressEvery)
		wants("of a body that has just begun", "")
		time.Sleep(2 * progressEvery)
		synctest.Wait()
		wants("of a body that takes a while", "50%")
	})
}

// TestProgressWidth draws a download on terminals of all widths: a line never
// wraps, and shows how far the download is if it can.
func TestProgressWidth(t *testing.T) {
	if got, want := (&screen{width: 80}).fit("文件文件", 5), "文件…"; got != want {
		t.Errorf("%q in 5 columns, want %q", got, want)
	}
	count := new(meter)
	count.bytes.Store(40 << 20)
	now := time.Now()
	for _, name := range []string{"x", "a-long-name-of-a-file.tar.gz", strings.Repeat("文件", 20), strings.Repeat("🎁", 20)} {
		for _, length := range []int64{100 << 20, -1} {
			d := &download{name: name, host: name + ".example", length: length, got: 50 << 20, meter: count, began: now.Add(-10 * time.Second)}
			for width := 1; width <= 140; width++ {
				out := &screen{width: width}
				for _, line := range []string{d.line(out, now), d.waiting(out, now)} {
					columns := 0
					for _, r := range line {
						columns += columnsOf(r)
					}
					if columns > max(width-1, 1) || strings.Contains(line, "\n") {
						t.Errorf("%d columns: %q has %d", width, line, columns)
					}
				}
				far := "50%"
				if length < 0 {
					far = size(d.got)
				}
				if line := d.line(out, now); width >= 16 && !strings.Contains(line, far) {
					t.Errorf("%d columns: %q lacks %s", width, line, far)
				}
			}
		}
	}
}
