package command

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	_ "github.com/cachetrip/cachetrip/internal/testtier" // temporary directories in memory
	"github.com/cachetrip/cachetrip/store"
)

// TestMain turns the test program into the command, for tests that need a
// process that ends.
func TestMain(m *testing.M) {
	if os.Getenv("CACHETRIP_TEST_COMMAND") != "" {
		Main(nil)
	}
	leaveTime = time.Minute // a busy machine may need more than two seconds
	os.Exit(m.Run())
}

// slowBehind starts an origin whose page may be served stale. The origin
// answers the second request only after let is called.
func slowBehind(t *testing.T) (url string, requests *atomic.Int64, let func()) {
	waiting := make(chan struct{})
	let = sync.OnceFunc(func() { close(waiting) })
	requests = new(atomic.Int64)
	url, _ = serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60, stale-while-revalidate=86400")
		if requests.Add(1) == 1 {
			w.Header().Set("Age", "100")
			io.WriteString(w, "old\n")
			return
		}
		<-waiting
		io.WriteString(w, "new\n")
	})
	t.Cleanup(let) // before the server is closed, because closing waits for the handler
	return url, requests, let
}

// TestLeavesSlowOrigin has the origin answer only after the program has ended.
// The programs run at the same time, because each waits for two seconds.
func TestLeavesSlowOrigin(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"get"}, {"get", "-q"}, {"explain", "--fetch"}} {
		url, requests, _ := slowBehind(t)
		command(t, "get", url)
		cmd := exec.CommandContext(t.Context(), self, append(args, url)...)
		cmd.Env = append(os.Environ(), "CACHETRIP_TEST_COMMAND=1")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%q: %v: %s", args, err, &stderr)
			}
			if n := requests.Load(); n > 2 { // on a busy machine, the second may come too late
				t.Errorf("%q: %d requests, want 2", args, n)
			}
			if args[0] == "get" && stdout.String() != "old\n" {
				t.Errorf("%q: stdout %q", args, &stdout)
			}
			const want = "revalidating the response that was served stale, for up to 2s\nthe origin has not answered yet; the next run asks it again\n"
			if quiet := len(args) > 1 && args[1] == "-q"; quiet && stderr.Len() > 0 || !quiet && !strings.HasSuffix(stderr.String(), want) {
				t.Errorf("%q: stderr:\n%s", args, &stderr)
			}
		}()
	}
}

// callingWriter calls a function for each text that is written.
type callingWriter struct {
	bytes.Buffer
	call func(text string)
}

func (w *callingWriter) Write(b []byte) (int, error) {
	w.call(string(b))
	return w.Buffer.Write(b)
}

// TestLeavesWithAnswer has the origin answer while the program waits.
func TestLeavesWithAnswer(t *testing.T) {
	url, _, let := slowBehind(t)
	command(t, "get", url)
	var stdout bytes.Buffer
	stderr := &callingWriter{call: func(text string) {
		if strings.HasPrefix(text, "revalidating") {
			let()
		}
	}}
	if code := run(t.Context(), []string{"cachetrip", "get", url}, &stdout, stderr); code != exitDone || stdout.String() != "old\n" {
		t.Errorf("exit code %d, stdout %q", code, &stdout)
	}
	if strings.Contains(stderr.String(), "has not answered") {
		t.Errorf("stderr:\n%s", stderr)
	}
	if code, stdout, stderr := command(t, "get", "--offline", url); code != exitDone || stdout != "new\n" {
		t.Errorf("afterwards: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// slowToClose is a store whose Close waits.
type slowToClose struct {
	*store.Memory
	wait chan struct{}
}

func (s slowToClose) Close() error {
	<-s.wait
	return nil
}

// TestLeavesInterrupted interrupts the program while it waits.
func TestLeavesInterrupted(t *testing.T) {
	kept := slowToClose{store.NewMemory(1 << 20), make(chan struct{})}
	defer close(kept.wait)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	stderr := &callingWriter{call: func(string) { interrupt() }}
	(&cache{Transport: &cachetrip.Transport{Store: kept}, kept: kept}).leave(ctx, stderr, false)
	if got, want := stderr.String(), fmt.Sprintf("revalidating the response that was served stale, for up to %s\n", leaveTime); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}
