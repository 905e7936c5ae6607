//go:build unix

package redisstore_test

import (
	"bytes"
	"encoding/json"
	"fmt"
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
	"github.com/cachetrip/cachetrip/store/redisstore"
)

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

const resources = 30

// tally is what a process has seen.
type tally struct {
	Requests, Hits, Broken, Bytes int64
	Slowest                       time.Duration
	Wrong                         []string
}

// childEnv has the test binary be one of several processes, on the server and the origin that it names.
const childEnv = "REDISSTORE_TEST_CHILD"

func init() {
	if env := os.Getenv(childEnv); env != "" {
		server, origin, _ := strings.Cut(env, " ")
		json.NewEncoder(os.Stdout).Encode(readAll(server, origin))
		os.Exit(0)
	}
}

// readAll is what a process does: for a while it reads, several at a time, and compares.
func readAll(server, origin string) (sum tally) {
	s, err := redisstore.Open(server, redisstore.Options{Lease: 500 * time.Millisecond})
	if err != nil {
		return tally{Wrong: []string{err.Error()}}
	}
	defer s.Close()
	cache := &cachetrip.Transport{Store: s}
	defer cache.Close()
	var mu sync.Mutex
	var wg sync.WaitGroup
	stop := time.Now().Add(runTime)
	for range 3 {
		wg.Go(func() {
			for time.Now().Before(stop) {
				path := "/" + strconv.Itoa(rand.IntN(resources))
				begin := time.Now()
				body, resp, err := fetch(cache.Client(), origin+path)
				took := time.Since(begin)
				mu.Lock()
				sum.Requests++
				sum.Slowest = max(sum.Slowest, took)
				sum.Bytes += int64(len(body))
				switch {
				case resp == nil:
					sum.Wrong = append(sum.Wrong, fmt.Sprintf("%s: %v", path, err))
				case !bytes.HasPrefix(content(path, resp.Header.Get("X-Version")), body):
					sum.Wrong = append(sum.Wrong, fmt.Sprintf("%s: %d wrong bytes", path, len(body)))
				case err == nil && len(body) != len(content(path, resp.Header.Get("X-Version"))):
					sum.Wrong = append(sum.Wrong, fmt.Sprintf("%s: only %d bytes", path, len(body)))
				case err != nil && len(content(path, "")) < 1<<20:
					sum.Wrong = append(sum.Wrong, fmt.Sprintf("%s: %v after %d bytes", path, err, len(body)))
				case err != nil: // the rest of a body over 1 MiB that is being read only the server has
					sum.Broken++
				case cachetrip.StatusOf(resp).Hit:
					sum.Hits++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return sum
}

const runTime = 6 * time.Second

// TestProcesses lets eight processes read the same changing resources.
// Meanwhile the server is killed and comes back empty. Later it is stopped for
// a while.
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
		w.Header().Set("Cache-Control", "max-age=1")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content(r.URL.Path, version)))
	}))
	defer origin.Close()

	var wg sync.WaitGroup
	tallies := make([]tally, 8)
	for i := range tallies {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childEnv+"="+server.url()+" "+origin.URL)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err == nil {
				err = json.Unmarshal(out, &tallies[i])
			}
			if err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	time.Sleep(runTime / 4)
	server.kill()
	time.Sleep(runTime / 8)
	server.start(t)
	time.Sleep(runTime / 4)
	server.signal(syscall.SIGSTOP)
	time.Sleep(runTime / 8)
	server.signal(syscall.SIGCONT)
	wg.Wait()

	var sum tally
	for _, one := range tallies {
		sum.Requests += one.Requests
		sum.Hits += one.Hits
		sum.Broken += one.Broken
		sum.Bytes += one.Bytes
		sum.Slowest = max(sum.Slowest, one.Slowest)
		for _, wrong := range one.Wrong {
			t.Error(wrong)
		}
	}
	t.Logf("%d requests, %d hits, %d asked of the origin, %d bodies over 1 MiB cut, %d MiB, the slowest took %v", sum.Requests, sum.Hits, asked.Load(), sum.Broken, sum.Bytes>>20, sum.Slowest)
	if sum.Hits < sum.Requests/20 || sum.Requests < 50 { // a fifth are where all else is busy
		t.Errorf("%d hits of %d requests", sum.Hits, sum.Requests)
	}
	if sum.Slowest > 15*time.Second {
		t.Errorf("a request took %v", sum.Slowest)
	}
}
