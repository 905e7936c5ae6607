package redisstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/cachetrip/cachetrip/store/redisstore"
)

// server is a redis-server or valkey-server of a test's own, on a loopback port.
type server struct {
	port  int
	dir   string
	conf  string // a file with its configuration, if not empty
	args  []string
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
}

// hanging is how long tests wait for something that must happen. By then it
// hangs: a busy machine does not take as long.
const hanging = 3 * time.Minute

// program returns the path of the server's program, or skips the test.
func program(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("neither redis-server nor valkey-server is installed; 'apt-get install redis-server' does that")
	return ""
}

// startServer starts a server with further arguments, and stops it when the test has ended.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{args: args, dir: tempDir(t)}
	t.Cleanup(s.kill)
	s.startSomewhere(t)
	return s
}

// tempDir returns a directory with a path that is short enough for a socket.
func tempDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "redisstore")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// givenPorts has the ports that freePort has returned. Nobody listens on the port
// of a server that was killed, but it is to start there again.
var givenPorts sync.Map

// freePort returns a port that is free, as is that 10000 above, where the servers of a cluster talk to each
// other. No system takes either for outgoing connections, which would be in the way of a server that starts
// again.
func freePort(t testing.TB) int {
	for range 100 {
		port := 10_000 + rand.IntN(12_000)
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		free := true
		for _, p := range []int{port, port + 10_000} {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(p))
			if err != nil {
				free = false
				break
			}
			l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// startSomewhere starts the server on a free port. Another program can take a
// port after it was chosen. The server then ends, and gets another one.
func (s *server) startSomewhere(t testing.TB) {
	t.Helper()
	for tries := 0; ; tries++ {
		s.port = freePort(t)
		err := s.run(program(t))
		if err == nil {
			return
		}
		if tries == 5 || err != errEnded {
			s.reportStart(t, err)
		}
	}
}

// start starts the server on the port that it has.
func (s *server) start(t testing.TB) {
	t.Helper()
	if err := s.run(program(t)); err != nil {
		s.reportStart(t, err)
	}
}

func (s *server) reportStart(t testing.TB, err error) {
	t.Helper()
	log, _ := os.ReadFile(s.log())
	t.Fatalf("the server does not start: %v\n%s", err, log)
}

func (s *server) log() string { return filepath.Join(s.dir, "log") }

var errEnded = errors.New("it has ended")

// run starts the program of the server, and waits until it answers.
func (s *server) run(program string) error {
	var args []string
	if s.conf != "" {
		args = append(args, s.conf) // which must come first
	}
	args = append(args, "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", s.log())
	cmd, ended := exec.Command(program, append(args, s.args...)...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.ended = cmd, ended
	go func() {
		cmd.Wait()
		close(ended)
	}()
	itself := fmt.Sprintf("process_id:%d\r\n", cmd.Process.Pid)
	for begin := time.Now(); ; {
		answer, err := s.try("INFO", "server")
		if err == nil && (strings.Contains(answer, itself) || strings.Contains(answer, "NOAUTH")) {
			return nil
		}
		if time.Since(begin) > hanging {
			return fmt.Errorf("it answers %q, %v", answer, err)
		}
		select {
		case <-ended:
			return errEnded
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// startSentinel starts a Sentinel that knows a primary as "mine". It does not
// take the primary for dead by itself, because that may only be slow. It changes
// the primary on the command SENTINEL FAILOVER.
func startSentinel(t testing.TB, port int) *server {
	t.Helper()
	s := &server{dir: tempDir(t), args: []string{"--sentinel"}}
	s.conf = filepath.Join(s.dir, "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor mine 127.0.0.1 %d 1\nsentinel down-after-milliseconds mine 3600000\nsentinel failover-timeout mine 600000\n", port)
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	s.startSomewhere(t)
	return s
}

// kill ends the server at once, as a power cut does.
func (s *server) kill() {
	if s.cmd != nil {
		s.signal(os.Kill)
		<-s.ended
	}
}

// signal sends a signal to the server and to nothing else.
func (s *server) signal(sig os.Signal) { s.cmd.Process.Signal(sig) }

func (s *server) address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

func (s *server) url() string { return "redis://" + s.address() }

// do gives the server a command, past all that is tested.
func (s *server) do(t testing.TB, command ...string) string {
	t.Helper()
	answer, err := s.try(command...)
	if err != nil {
		t.Fatalf("%v: %v", command, err)
	}
	return answer
}

func (s *server) try(command ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.address(), hanging)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(hanging))
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(command))
	for _, arg := range command {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		return "", err
	}
	return readAnswer(bufio.NewReader(conn))
}

// readAnswer returns an answer as text, the elements of an array a line each.
func readAnswer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if n < 0 {
			return "", nil
		}
		b := make([]byte, n+2)
		for read := 0; read < len(b); {
			m, err := r.Read(b[read:])
			if err != nil {
				return "", err
			}
			read += m
		}
		return string(b[:n]), nil
	case '*':
		var elements []string
		for range n {
			element, err := readAnswer(r)
			if err != nil {
				return "", err
			}
			elements = append(elements, element)
		}
		return strings.Join(elements, "\n"), nil
	}
	return line[1:], nil
}

// shared is a server that many tests use, each with a prefix.
var shared struct {
	once sync.Once
	*server
	prefixes atomic.Int64
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.kill()
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

func sharedServer(t testing.TB) *server {
	program(t)
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "redisstore")
		if err != nil {
			t.Fatal(err)
		}
		s := &server{dir: dir}
		s.startSomewhere(t)
		shared.server = s
	})
	return shared.server
}

// patient has options for tests that must not take a busy machine for a broken
// server.
func patient(opts redisstore.Options) redisstore.Options {
	opts.LookupTimeout, opts.WriteTimeout = hanging, hanging
	if opts.Prefix == "" {
		opts.Prefix = fmt.Sprintf("test%d", shared.prefixes.Add(1))
	}
	return opts
}

// open returns a store that is closed when the test has ended. Its client waits
// for a silent server for so long that quick can tell.
func open(t testing.TB, url string, opts redisstore.Options) *redisstore.Store {
	t.Helper()
	configure := opts.Configure
	opts.Configure = func(o *rueidis.ClientOption) {
		o.ConnWriteTimeout, o.Dialer.Timeout = silence, silence
		if configure != nil {
			configure(o)
		}
	}
	s, err := redisstore.Open(url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// eventually waits until something holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hanging)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("it does not happen that %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// silence is how long the client of a store of open waits for a silent server.
const silence = 4 * hanging

// quick fails the test if f waits for a silent server. It does not fail because
// the machine is slow.
func quick(t testing.TB, what string, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if took := time.Since(begin); took > silence*3/4 {
		t.Errorf("%s took %v", what, took)
	}
}

// refused reports whether err says that a server was not asked at all, because
// it has failed repeatedly.
func refused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "is not used for a second")
}
