//go:build unix

package redisstore_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

const resources = 30

// content returns the body of a resource in one of its versions: sizes are such that all ways to keep one
// occur.
func content(path, version string) []byte {
	n, _ := strconv.ParseUint(strings.TrimPrefix(path, "/"), 10, 64)
	v, _ := strconv.ParseUint(version, 10, 64)
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%d %d", n, v))
	b := make([]byte, []int{10, 5_000, 40_000, 300_000, 900_000, 3_000_000}[n%6])
	rand.NewChaCha8(seed).Read(b)
	return b
}

// reading is how a process got a response.
type reading struct {
	Path  string
	Bytes int
	Hit   bool
	Cut   bool   // the body ended early, and may
	Wrong string // why the response is wrong, if it is
}

// read makes a request, and compares the response.
func read(client *http.Client, origin, path string) reading {
	body, resp, err := fetch(client, origin+path)
	if err != nil && resp == nil {
		return reading{Path: path, Wrong: err.Error()}
	}
	r := reading{Path: path, Bytes: len(body), Hit: cachetrip.StatusOf(resp).Hit}
	switch want := content(path, resp.Header.Get("X-Version")); {
	case !bytes.HasPrefix(want, body):
		r.Wrong = fmt.Sprintf("%d wrong bytes", len(body))
	case err == nil && len(body) != len(want):
		r.Wrong = fmt.Sprintf("only %d bytes", len(body))
	case err != nil && len(want) < 1<<20:
		r.Wrong = fmt.Sprintf("%v after %d bytes", err, len(body))
	case err != nil: // the rest of a body over 1 MiB that is being read only the server has
		r.Cut = true
	}
	return r
}

// childEnv has the test binary be one of several processes, on the server and the origin that it names.
const childEnv = "REDISSTORE_TEST_CHILD"

func init() {
	if env := os.Getenv(childEnv); env != "" {
		server, origin, _ := strings.Cut(env, " ")
		if err := readAll(server, origin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// readAll is what a process does: it reads, several responses at a time, and
// writes to stdout what it got, until the end of stdin.
func readAll(server, origin string) error {
	s, err := redisstore.Open(server, redisstore.Options{
		Lease: 500 * time.Millisecond,
		// The server stops for longer. A server that only is slow answers earlier.
		LookupTimeout: time.Second, WriteTimeout: time.Second,
	})
	if err != nil {
		return err
	}
	defer s.Close()
	cache := &cachetrip.Transport{Store: s}
	defer cache.Close()
	readings := make(chan reading)
	var ended atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for !ended.Load() {
				readings <- read(cache.Client(), origin, "/"+strconv.Itoa(rand.IntN(resources)))
			}
		})
	}
	go func() {
		wg.Wait()
		close(readings)
	}()
	for out := json.NewEncoder(os.Stdout); ; {
		r, ok := <-readings
		if !ok {
			return nil
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
}

// process is a process that reads, and what it has read so far.
type process struct {
	requests, cut, bytes atomic.Int64
	served               atomic.Int64 // hits with bodies that only the server has
}

// TestProcesses lets four processes read the same changing resources.
// Meanwhile the server is killed and comes back empty. Then it is stopped for
// a while. The processes go on reading without the server, and use it again
// when it is back.
func TestProcesses(t *testing.T) {
	server := startServer(t)
	var asked atomic.Int64
	var versions [resources]atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil || n >= resources {
			http.NotFound(w, r)
			return
		}
		if rand.IntN(20) == 0 {
			versions[n].Add(1)
		}
		version := strconv.FormatInt(versions[n].Load(), 10)
		w.Header().Set("X-Version", version)
		w.Header().Set("Etag", `"`+version+`"`)
		if n < resources/2 {
			w.Header().Set("Cache-Control", "max-age=1")
		} else {
			w.Header().Set("Cache-Control", "max-age=3600") // for hits on a busy machine, too
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content(r.URL.Path, version)))
	}))
	defer origin.Close()

	var running sync.WaitGroup
	processes := make([]process, 4)
	stop := make(chan struct{})
	stopAll := sync.OnceFunc(func() {
		close(stop)
		running.Wait()
	})
	defer stopAll()
	for i := range processes {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+server.url()+" "+origin.URL)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		running.Go(func() {
			<-stop
			in.Close()
			select {
			case <-ended:
			case <-time.After(hanging):
				t.Errorf("process %d does not end", i)
				cmd.Process.Signal(syscall.SIGQUIT) // it tells where it hangs
			}
		})
		running.Go(func() {
			defer close(ended)
			p := &processes[i]
			for lines := json.NewDecoder(out); ; {
				var r reading
				if err := lines.Decode(&r); err != nil {
					if err != io.EOF {
						t.Errorf("process %d: %v", i, err)
					}
					break
				}
				if r.Wrong != "" {
					t.Errorf("process %d, %s: %s", i, r.Path, r.Wrong)
				}
				p.requests.Add(1)
				p.bytes.Add(int64(r.Bytes))
				if r.Cut {
					p.cut.Add(1)
				}
				if r.Hit && !r.Cut && r.Bytes > 16<<10 {
					p.served.Add(1)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	// each waits until a count of each process has grown by so many.
	each := func(what string, more int64, count func(*process) *atomic.Int64) {
		t.Helper()
		begin := make([]int64, len(processes))
		for i := range processes {
			begin[i] = count(&processes[i]).Load()
		}
		began := time.Now()
		eventually(t, what, func() bool {
			for i := range processes {
				if count(&processes[i]).Load() < begin[i]+more {
					return false
				}
			}
			return true
		})
		t.Logf("%s: %v", what, time.Since(began).Round(time.Millisecond))
	}
	requests := func(p *process) *atomic.Int64 { return &p.requests }
	served := func(p *process) *atomic.Int64 { return &p.served }
	each("each process gets hits", 1, served)
	for range testtier.Pick(1, 2) {
		server.kill()
		each("each process goes on without a server", 5, requests)
		server.start(t)
		each("each process gets hits from a server that started again", 1, served)
		server.signal(syscall.SIGSTOP)
		each("each process goes on without an answer of the server", 5, requests)
		server.signal(syscall.SIGCONT)
		each("each process gets hits from a server that was stopped", 1, served)
	}
	stopAll()

	var sum process
	for i := range processes {
		sum.requests.Add(processes[i].requests.Load())
		sum.served.Add(processes[i].served.Load())
		sum.cut.Add(processes[i].cut.Load())
		sum.bytes.Add(processes[i].bytes.Load())
	}
	t.Logf("%d requests, %d bodies from the server, %d requests at the origin, %d bodies over 1 MiB cut, %d MiB",
		sum.requests.Load(), sum.served.Load(), asked.Load(), sum.cut.Load(), sum.bytes.Load()>>20)
}
