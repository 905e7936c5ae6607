package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
)

// This file starts the processes of a round, and takes what they report.

// process is a worker, seen from the main process.
type process struct {
	name   string
	cmd    *exec.Cmd
	over   chan struct{} // closed when the worker has ended and all its output was read
	atWork atomic.Bool   // the worker has written an event
	mu     sync.Mutex
	killed bool
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	p.cmd.Process.Kill()
}

// start starts a worker. It calls ended when the worker has ended, unless the
// epoch is over.
func (r *round) start(ended func()) (*process, error) {
	r.names++
	p := &process{name: fmt.Sprintf("worker %d", r.names), over: make(chan struct{})}
	config, err := json.Marshal(workerConfig{
		Name: p.name, Dir: r.dir, MaxBytes: r.maxBytes, Origin: r.origin.url, Seed: r.rand.Uint64(), Clients: 4, Suicides: suicides,
	})
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program)
	p.cmd.Env = append(os.Environ(), workerVariable+"="+string(config))
	if _, err := p.cmd.StdinPipe(); err != nil { // the worker ends when this pipe closes, which it does when this process ends
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	p.cmd.Stderr = &said
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	r.counts.starts++
	go func() {
		r.listen(p, out)
		err := p.cmd.Wait()
		p.mu.Lock()
		killed := p.killed
		p.mu.Unlock()
		switch {
		case said.Len() > 0 || !killed && !diedByKill(err):
			r.violation("%s ended by itself: %v\n%s", p.name, err, tail(said.String()))
		case !killed:
			r.mu.Lock()
			r.counts.suicides++
			r.mu.Unlock()
		}
		close(p.over)
		ended()
	}()
	return p, nil
}

// diedByKill reports whether a worker that this process did not kill has killed
// itself.
func diedByKill(err error) bool {
	var exit *exec.ExitError
	// On systems with signals the state is "signal: killed"; on Windows a
	// killed process has exit code 1.
	return errors.As(err, &exit) && (strings.Contains(exit.Error(), "killed") || exit.ExitCode() == 1)
}

func tail(s string) string {
	if len(s) > 8<<10 {
		return s[:4<<10] + "\n…\n" + s[len(s)-4<<10:]
	}
	return s
}

// listen reads the events of a worker until it ends.
func (r *round) listen(p *process, out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), 64<<10)
	begun := make(map[uint64]change) // by ID
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			r.violation("%s told something unheard of: %v: %.200q", p.name, err, lines.Bytes())
			continue
		}
		p.atWork.Store(true)
		r.take(p, &e, begun)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range begun {
		r.history(c.key).changes = append(r.history(c.key).changes, c)
	}
}
