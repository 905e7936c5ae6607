package redisstore_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store/redisstore"
)

func TestCommand(t *testing.T) {
	server := startServer(t, "--requirepass", "geheim")
	url := strings.Replace(server.url(), "redis://", "redis://default:geheim@", 1)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Authorization")
		w.Write(large)
	}))
	defer origin.Close()
	s := open(t, url, patient(redisstore.Options{Prefix: "app"}))
	client := (&cachetrip.Transport{Store: s}).Client()
	for _, path := range []string{"/a?token=hidden", "/b"} {
		if _, _, err := fetch(client, origin.URL+path); err != nil {
			t.Fatal(err)
		}
	}

	program := filepath.Join(t.TempDir(), "cachetrip-redis.exe")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/cachetrip-redis").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(code int, want string, args ...string) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Env = append(cmd.Environ(), "CACHETRIP_STORE="+url+"?prefix=app", "NO_COLOR=1")
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(string(out), want) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s", args, got, code, want, out)
		}
		for _, secret := range []string{"geheim", "hidden"} {
			if strings.Contains(string(out), secret) {
				t.Errorf("%v shows a secret:\n%s", args, out)
			}
		}
	}
	run(0, origin.URL+"/b", "ls")
	run(0, "max-age=60", "show", origin.URL+"/b")
	run(0, "2 responses for 2 URLs", "stats")
	run(2, "does not tell", "purge", "--unused-for", "1d")
	run(0, "1 response removed", "purge", origin.URL+"/b")
	run(3, "nothing", "show", origin.URL+"/b")
	run(0, "1 response invalidated", "purge", "--invalidate", "*/a*")
	run(0, "1 response removed", "purge", "--host", strings.TrimPrefix(origin.URL, "http://"))
	run(0, "nothing is stored in redis://default:xxxxx@", "ls")
	server.kill()
	run(1, "redisstore: connect", "ls")
}
