package harness

import (
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// LeavesNothing has t fail if goroutines or descriptors are left when t and its
// parallel cases have ended.
func LeavesNothing(t *testing.T) {
	before, descriptors := running(t), Descriptors()
	t.Cleanup(func() { noneLeft(t, before, descriptors) })
}

// longest is how long a test waits for what must happen. A busy machine may need
// some of it.
const longest = time.Minute

// Soon waits until a condition holds. Its time limit is longer than any machine
// needs.
func Soon(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still waiting: %s", what)
		}
	}
}

// Within waits until a channel is closed, as long as Soon does.
func Within(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(longest):
		t.Fatalf("still waiting: %s\n%s", what, allStacks())
	}
}

// Followers returns how many callers of all caches wait for the response to the
// request of another caller.
func Followers(t testing.TB) int { return Calls(t, "cachetrip.(*exchange).follow(") }

// Calls returns how many goroutines are in all of the given functions, each
// named as in a stack: "cachetrip.(*Transport).RoundTrip(".
func Calls(t testing.TB, functions ...string) (n int) {
	for _, stack := range running(t) {
		if !slices.ContainsFunc(functions, func(name string) bool { return !strings.Contains(stack, name) }) {
			n++
		}
	}
	return n
}

// allStacks returns the stacks of all goroutines.
func allStacks() string {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return string(buf[:n])
		}
	}
}

// running returns the stacks of all goroutines, by the line that names them.
func running(t testing.TB) map[string]string {
	stacks := make(map[string]string)
	for stack := range strings.SplitSeq(allStacks(), "\n\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		stacks[name] = stack
	}
	return stacks
}

// Descriptors returns how many files are open, -1 if that can't be known.
func Descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil || runtime.GOOS == "windows" { // under wine, these are also wine's own
		return -1
	}
	return len(entries)
}

// noneLeft checks that every goroutine and descriptor that was not there before
// has ended.
func noneLeft(t testing.TB, before map[string]string, files int) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // finalizers would close the files that were left open
	var left []string
	var open int
	for deadline := time.Now().Add(longest); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left = left[:0]
		for name, stack := range running(t) {
			if _, was := before[name]; !was && !strings.Contains(stack, "testing.") && !strings.Contains(stack, "harness.(*RawOrigin)") {
				left = append(left, stack)
			}
		}
		if open = Descriptors(); len(left) == 0 && open <= files {
			return
		}
	}
	if len(left) > 0 {
		t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
	}
	if open > files {
		t.Errorf("%d descriptors are open, %d were before", open, files)
	}
}
