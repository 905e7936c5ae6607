package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"time"
)

// Each subject of each workload runs in its own process, so that no subject
// pays for another's memory. The process is this program again. It reads
// commands as lines of JSON, and measures only when it is told to, because the
// subjects take turns.

// childVariable tells the program that it is a child.
const childVariable = "CACHETRIP_BENCH_CHILD"

// job tells a child which workload to run with which subject.
type job struct {
	Kind    string // of workload
	Subject string
	Dir     string // for its files
	Origin  string // address of the origin
	Tag     string // under which the origin counts its requests
	Roots   string `json:",omitempty"` // certificate of the origin, if it has one
	Profile string // prefix of the names of profiles to be written, if any
	Params
	program  string // that the child runs; empty: this one
	straceTo string // file for a summary of the child's system calls; empty: they are not traced
}

// Params are the sizes of a workload.
type Params struct {
	Size    int64         `json:",omitempty"` // of a body
	Count   int           `json:",omitempty"` // of entries, or of requests at a time
	Clients int           `json:",omitempty"` // goroutines, or processes
	Bound   int64         `json:",omitempty"` // of the cache
	Time    time.Duration `json:",omitempty"` // of one measurement, if it does not end after N operations
	First   int           `json:",omitempty"` // the number of the first body
	Name    string        `json:",omitempty"` // of a trace
	Hosts   int           `json:",omitempty"` // that entries are spread over; 0: all are of the origin
	Timeout bool          `json:",omitempty"` // requests go through an http.Client with a timeout
	TLS     bool          `json:",omitempty"` // the origin speaks HTTP/2 over TLS
	User    string        `json:",omitempty"` // the user that all requests belong to, whatever credentials they have
	Now     int64         `json:",omitempty"` // when the run of a tool begins, in nanoseconds since 1970
	Kept    bool          `json:",omitempty"` // stored responses are not removed to make room
}

// command tells a child to measure N operations, or to end.
type command struct {
	Do string // "measure" or "end"
	N  int
}

// sample is the result of a measurement.
type sample struct {
	Values    map[string]float64 `json:",omitempty"` // by metric
	Forwarded int                `json:",omitempty"` // requests that should have reached the origin
	Wrong     int                `json:",omitempty"` // wrong bodies
	Outdated  int                `json:",omitempty"` // bodies
	Errors    int                `json:",omitempty"`
	First     string             `json:",omitempty"` // the first error
	Failure   string             `json:",omitempty"` // why there is no sample
}

// fault counts a failed operation.
func (s *sample) fault(err error) {
	if err == nil {
		return
	}
	if s.First == "" {
		s.First = err.Error()
	}
	if errors.As(err, new(wrongError)) {
		s.Wrong++
	} else {
		s.Errors++
	}
}

// wrongError reports a wrong body that a subject returned without an error.
type wrongError struct{ error }

// contestant runs a workload with a subject.
type contestant interface {
	// measure does n operations.
	measure(n int) sample
	close() error
}

// contestants has a constructor for each kind of workload. Construction is not
// measured.
var contestants = map[string]func(*job) (contestant, error){}

// runChild runs a child process until in ends.
func runChild(in io.Reader, out io.Writer) error {
	var j job
	commands := json.NewDecoder(in)
	answers := json.NewEncoder(out)
	if err := commands.Decode(&j); err != nil {
		return err
	}
	run := func() error { return serveChild(j, commands, answers) }
	if j.Kind == "tool" {
		inBubble(run) // does not return
	}
	return run()
}

// serveChild does the job of a child process.
func serveChild(j job, commands *json.Decoder, answers *json.Encoder) error {
	fail := func(err error) error { return answers.Encode(sample{Failure: err.Error()}) }
	start := contestants[j.Kind]
	if start == nil {
		return fail(fmt.Errorf("unknown kind of workload %q", j.Kind))
	}
	c, err := start(&j)
	if err != nil {
		return fail(err)
	}
	stop, err := profile(j.Profile)
	if err != nil {
		return fail(err)
	}
	if err := answers.Encode(sample{}); err != nil {
		return err
	}
	for {
		var do command
		if err := commands.Decode(&do); err != nil {
			return err // the parent is gone
		}
		if do.Do == "end" {
			if err := errors.Join(c.close(), stop()); err != nil {
				return fail(err)
			}
			return answers.Encode(sample{})
		}
		if err := answers.Encode(c.measure(do.N)); err != nil {
			return err
		}
	}
}

// profile starts CPU and allocation profiles, unless prefix is empty.
func profile(prefix string) (stop func() error, err error) {
	if prefix == "" {
		return func() error { return nil }, nil
	}
	cpu, err := os.Create(prefix + ".cpu.pprof")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(prefix + ".allocs.pprof")
		if err != nil {
			return err
		}
		err = pprof.Lookup("allocs").WriteTo(allocs, 0)
		return errors.Join(err, allocs.Close(), cpu.Close())
	}, nil
}

// child is a running child process, seen from the parent.
type child struct {
	job     job
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
	errors  bytes.Buffer
}

// patience is the time limit for one command, in addition to the time for
// filling a cache. A child that takes longer is killed.
const patience = 10 * time.Minute

// patienceEach is the time limit for storing one entry when a cache is filled.
const patienceEach = 2 * time.Millisecond

// startChild starts a child and waits until it is ready.
func startChild(ctx context.Context, j job) (*child, error) {
	c := &child{job: j}
	var err error
	if c.cmd, err = childCommand(ctx, j.program, "job"); err != nil {
		return nil, err
	}
	if j.straceTo != "" {
		plain := c.cmd
		c.cmd = exec.CommandContext(ctx, "strace", "-f", "-c", "-o", j.straceTo, plain.Path)
		c.cmd.Env = plain.Env
	}
	c.cmd.Stderr = &c.errors
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.answers = json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := c.ask(j); err != nil {
		c.kill()
		return nil, err
	}
	return c, nil
}

// childCommand returns the command that runs a program as a child. An empty
// name is that of this program.
func childCommand(ctx context.Context, program, how string) (*exec.Cmd, error) {
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), childVariable+"="+how)
	return cmd, nil
}

// ask sends a line and waits for the answer.
func (c *child) ask(line any) (sample, error) {
	name := c.job.Kind + ": " + c.job.Subject
	timer := time.AfterFunc(patience+time.Duration(c.job.Count)*patienceEach, func() { c.cmd.Process.Kill() })
	defer timer.Stop()
	var s sample
	err := json.NewEncoder(c.in).Encode(line)
	if err == nil {
		err = c.answers.Decode(&s)
	}
	if err != nil {
		c.cmd.Wait() // the child has ended or was killed; c.errors is complete now
		return s, fmt.Errorf("%s: %w: %s", name, err, tail(c.errors.Bytes()))
	}
	if s.Failure != "" {
		return s, fmt.Errorf("%s: %s", name, s.Failure)
	}
	return s, nil
}

// tail shortens the error output of a child to 2000 bytes.
func tail(b []byte) []byte { return bytes.TrimSpace(b[:min(len(b), 2000)]) }

func (c *child) measure(n int) (sample, error) { return c.ask(command{Do: "measure", N: n}) }

// end tells the child to close its subject and to exit, and waits for that.
func (c *child) end() error {
	_, err := c.ask(command{Do: "end"})
	c.in.Close()
	if err != nil {
		c.kill()
		return err
	}
	return c.cmd.Wait()
}

func (c *child) kill() {
	c.in.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// meter measures the costs of operations other than time.
type meter struct {
	mallocs, bytes uint64
	written        int64
}

func startMeter() meter {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return meter{m.Mallocs, m.TotalAlloc, writtenBytes()}
}

// stop records in s the costs per operation since the meter was started.
func (m meter) stop(s *sample, n int) {
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	s.Values["allocs"] = float64(now.Mallocs-m.mallocs) / float64(n)
	s.Values["allocated"] = float64(now.TotalAlloc-m.bytes) / float64(n)
	if m.written >= 0 {
		s.Values["written"] = float64(writtenBytes()-m.written) / float64(n)
	}
}

// writtenBytes returns how many bytes this process has passed to system calls
// that write, for files and sockets together. It returns -1 if the system does
// not tell.
func writtenBytes() int64 { return procValue("/proc/self/io", "wchar:") }

// peakMemory returns the largest resident size of this process so far. It
// returns -1 if the system does not tell.
func peakMemory() int64 {
	if kib := procValue("/proc/self/status", "VmHWM:"); kib >= 0 {
		return kib << 10
	}
	return -1
}

func procValue(file, name string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) >= 2 && string(f[0]) == name {
			if n, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
				return n
			}
		}
	}
	return -1
}

// watch is a stopwatch.
type watch struct {
	sum     time.Duration
	started time.Time

	processor time.Duration // time on processors, between startBoth and stopBoth
	busy      time.Duration
}

func (w *watch) start() { w.started = time.Now() }
func (w *watch) stop()  { w.sum += time.Since(w.started) }

// startBoth and stopBoth measure processor time as well, which takes a system
// call.
func (w *watch) startBoth() { w.busy = processorTime(); w.start() }
func (w *watch) stopBoth()  { w.stop(); w.processor += processorTime() - w.busy }

// note records in s the time per operation for n operations.
func (w *watch) note(s *sample, n int) {
	s.Values["time"] = float64(w.sum) / float64(n)
	if w.processor > 0 {
		s.Values["processor"] = float64(w.processor) / float64(n)
	}
}

// makeDirs makes the directories that shardPath uses.
func makeDirs(dir string) error {
	for i := range 256 {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%02x", i)), 0o700); err != nil {
			return err
		}
	}
	return nil
}
