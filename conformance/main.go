// Conformance runs cache-tests, the public test suite for HTTP caches, against
// the cache of this module. It has its own origin and its own client in one
// process, connected by real sockets. Between them is only the
// [http.RoundTripper] under test.
//
//	go run ./conformance -data cache-tests.json
//
// The program prints how many tests of each suite passed, and which did not and
// why. It exits with 1 if a required test did not pass, and with 2 if it could
// not run.
//
// The tests are not part of this module. They are at
// https://github.com/http-tests/cache-tests, under the BSD 3-Clause licence.
// The program reads them in the form that the repository exports (npm run
// --silent export > cache-tests.json). It leaves out tests marked browser_only,
// cdn_only or browser_skip, because they do not apply to a private cache in a
// client.
//
// The program does not use the suite's engine, but judges in the same way, with
// two differences:
//
//   - It checks that a field does not have a forbidden value. The suite's engine
//     never finds one.
//   - Where a test expects interim responses, it allows no others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

const dataVariable = "CACHE_TESTS"

const noData = `no test data: name the file with -data FILE or in the environment variable ` + dataVariable + `.
` + getData

const getData = `To get the file, with git and npm:
    git clone https://github.com/http-tests/cache-tests
    cd cache-tests && npm install && npm run --silent export > cache-tests.json`

const about = `Usage: go run ./conformance [flags]

Runs the public test suite for HTTP caches (https://github.com/http-tests/cache-tests) against
the cache. Exits with 1 if a required test fails or has no verdict. Exceptions are tests that
-allow names, and tests that depend on another test that did not pass.

One required test cannot pass in Go. In headers-store-Transfer-Encoding the origin sends an
unknown transfer coding. net/http then returns an error, and no cache sees the response.
Use -allow headers-store-Transfer-Encoding.

A run takes less than a minute, and mostly waits. ` + getData + `

Flags:
`

// staleIfError lets the caches under test serve stale responses when the origin
// fails, for longer than a run takes. Tests that use stale-close show nothing
// about a cache that does not.
const staleIfError = time.Hour

// A subject is a cache to test. It is made over base, and closed after the
// tests.
type subject func(base http.RoundTripper) (client http.RoundTripper, close func() error, err error)

var subjects = map[string]subject{
	"cachetrip": func(base http.RoundTripper) (http.RoundTripper, func() error, error) {
		dir, err := os.MkdirTemp("", "cachetrip-conformance-")
		if err != nil {
			return nil, nil, err
		}
		remove := func() error { return os.RemoveAll(dir) }
		t, err := cachetrip.Open(dir)
		if err != nil {
			return nil, nil, errors.Join(err, remove())
		}
		t.Base, t.StaleIfError = base, staleIfError
		return t, func() error { return errors.Join(t.Close(), remove()) }, nil
	},
	"memory": func(base http.RoundTripper) (http.RoundTripper, func() error, error) {
		t := &cachetrip.Transport{Store: store.NewMemory(64 << 20), Base: base, StaleIfError: staleIfError}
		return t, t.Close, nil
	},
	"none": func(base http.RoundTripper) (http.RoundTripper, func() error, error) {
		return base, func() error { return nil }, nil
	},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program. It returns the exit status.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), about)
		flags.PrintDefaults()
	}
	data := flags.String("data", getenv(dataVariable), "read the suite from `FILE`; by default what "+dataVariable+" names")
	subjectName := flags.String("subject", "cachetrip", "test `WHAT`: cachetrip (on disk), memory (in memory), none (no cache, the floor)")
	pattern := flags.String("run", "", "report only tests whose id matches `REGEXP`; what they build on is run as well")
	suiteID := flags.String("suite", "", "report only tests of the suite called `ID`")
	parallel := flags.Int("j", 25, "run `N` tests at once; most of the time they wait")
	allow := flags.String("allow", "", "tolerate that the required tests called `ID,...` are not passed")
	verbose := flags.Bool("v", false, "also show what passed, and what went to and fro where something did not")
	asJSON := flags.Bool("json", false, "print one JSON object instead of text")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	results, err := func() ([]result, error) {
		if flags.NArg() > 0 {
			return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
		}
		matching, err := regexp.Compile(*pattern)
		if err != nil {
			return nil, fmt.Errorf("-run: %w", err)
		}
		if *data == "" {
			return nil, errors.New(noData)
		}
		content, err := os.ReadFile(*data)
		if err != nil {
			return nil, fmt.Errorf("test data: %w", err)
		}
		suites, err := parseSuites(content)
		if err != nil {
			return nil, fmt.Errorf("test data: %s: %w", *data, err)
		}
		report, needed := choose(suites, *suiteID, matching)
		if len(report) == 0 {
			return nil, errors.New("no test is called so")
		}
		outcomes, err := runSubject(ctx, *subjectName, suites, needed, max(*parallel, 1), betweenRequests)
		if err != nil {
			return nil, err
		}
		return withDeclined(*subjectName, judge(suites, report, outcomes)), nil
	}()
	if err != nil {
		fmt.Fprintln(stderr, "conformance:", err)
		return 2
	}
	if *asJSON {
		err = printJSON(stdout, *subjectName, results)
	} else {
		err = printText(stdout, results, *verbose)
	}
	if err != nil {
		fmt.Fprintln(stderr, "conformance:", err)
		return 2
	}
	if ids := refused(results, strings.Split(*allow, ",")); len(ids) > 0 {
		fmt.Fprintf(stderr, "conformance: required tests not passed: %s\n", strings.Join(ids, ", "))
		return 1
	}
	return 0
}

// newBase returns the transport below the subject.
func newBase() *http.Transport {
	return &http.Transport{
		// The suite checks the fields that the origin sent, but net/http
		// removes Content-Encoding when it decodes a body.
		DisableCompression: true,
		// On a reused connection, net/http itself repeats a request if the
		// origin hangs up. The tests must see only the cache's own repeats.
		DisableKeepAlives: true,
	}
}

// runSubject runs the needed tests through the subject called name, a limited
// number at the same time.
func runSubject(ctx context.Context, name string, suites []suite, needed map[string]bool, parallel int, pause time.Duration) (_ map[string]outcome, err error) {
	open, ok := subjects[name]
	if !ok {
		return nil, fmt.Errorf("-subject %q is not known", name)
	}
	o, err := newOrigin()
	if err != nil {
		return nil, err
	}
	defer o.Close()
	client, closeSubject, err := open(newBase())
	if err != nil {
		return nil, fmt.Errorf("subject %s: %w", name, err)
	}
	defer func() {
		if closeErr := closeSubject(); closeErr != nil && err == nil {
			err = fmt.Errorf("subject %s: %w", name, closeErr)
		}
	}()
	r := &runner{origin: o, client: client, pause: pause}
	outcomes := r.runAll(ctx, suites, needed, parallel)
	return outcomes, context.Cause(ctx)
}

func (r *runner) runAll(ctx context.Context, suites []suite, needed map[string]bool, parallel int) map[string]outcome {
	var tests []*test
	for _, s := range suites {
		tests = append(tests, slices.DeleteFunc(slices.Clone(s.Tests), func(t *test) bool { return !needed[t.ID] })...)
	}
	var (
		mu       sync.Mutex
		outcomes = map[string]outcome{}
		workers  sync.WaitGroup
		queue    = make(chan *test)
	)
	for range parallel {
		workers.Go(func() {
			for t := range queue {
				o := r.run(ctx, t)
				mu.Lock()
				outcomes[t.ID] = o
				mu.Unlock()
			}
		})
	}
	for _, t := range tests {
		queue <- t
	}
	close(queue)
	workers.Wait()
	return outcomes
}
