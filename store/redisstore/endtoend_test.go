package redisstore_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestEndToEnd runs the tests of a whole cache, with a store on a server where they have one in memory.
// It adds a file to the package that all of them use, and makes a workspace. So the module of the library needs to
// know nothing of this one.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(filepath.Dir(here))
	dir := t.TempDir()
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(root, "internal", "harness", "redisstore.go"): filepath.Join(here, "testdata", "endtoend.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"overlay.json": string(overlay),
		"go.work":      fmt.Sprintf("go 1.26.0\n\nuse (\n\t%q\n\t%q\n)\n", root, here),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// It skips tests about a directory, and long tests that need no store. The
	// names of tests come first: of several patterns the first that fits a
	// beginning counts. TestHeaderTooLarge needs a store that tells beforehand
	// what fits. TestSoak and TestResume count store errors and connections,
	// which a busy server has more of. TestDigestOfAJoinedBody counts goroutines
	// and descriptors, of which the client has some.
	cmd := exec.Command("go", "test", "-overlay", filepath.Join(dir, "overlay.json"), "-count=1", "-short", "-timeout", "24m",
		"-p", "1", "-skip", "Disk|Director|Files|Flipped|Disagreement|NotContinued|HeaderTooLarge|Soak|^TestResume$|DigestOfAJoinedBody|^Fuzz|^Example|/^disk$|/.*/^disk$|/.*/.*/^disk$",
		".", "./tests/bodies", "./tests/contract", "./tests/origins", "./tests/sharing", "./tests/stores", "./tests/users", "./tests/validation")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(dir, "go.work"), "GOFLAGS=-mod=readonly", "REDISSTORE_URL="+server.url())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if n := commands(t, server, "hset"); n < 2000 {
		t.Errorf("%d things were stored on the server: were its stores used?", n)
	}
}
