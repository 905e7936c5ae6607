package stores_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// TestStoreFaults has a store fail for several causes, many times a minute.
func TestStoreFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		broken := storefault.Wrap(store.NewMemory(0))
		cache := &cachetrip.Transport{
			Store: broken,
			Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 204, Header: http.Header{"Cache-Control": {"max-age=60"}}, Body: http.NoBody, Request: req}, nil
			}),
			Logger: slog.New(slog.NewTextHandler(&log, nil)), // from info level up
		}
		defer cache.Close()
		faults := []error{
			&fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC},
			fmt.Errorf("cachetrip: store: %w", syscall.EDQUOT),
			&fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES},
			&fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist},
			&fs.PathError{Op: "open", Path: "/x", Err: syscall.EMFILE},
			&fs.PathError{Op: "open", Path: "/x", Err: syscall.EISDIR},
			&fs.PathError{Op: "write", Path: "/x", Err: syscall.EFBIG},
			errors.New("strange"),
		}
		const rounds = 181 // one a second
		for i := range rounds {
			for j, err := range faults {
				broken.Inject(storefault.Fail(err), storefault.Entries)
				resp, err := cache.Client().Get(fmt.Sprintf("http://example.com/%d/%d", i, j))
				if err != nil || resp.StatusCode != 204 {
					t.Fatalf("%v, %v", resp, err)
				}
				resp.Body.Close()
			}
			time.Sleep(time.Second)
		}
		stats := cache.Stats()
		want := cachetrip.StoreFaults{Full: 2 * rounds, Denied: rounds, Vanished: rounds, Descriptors: rounds, Obstructed: rounds, TooLarge: rounds, Other: rounds}
		if stats.StoreFaults != want || stats.StoreErrors != 8*rounds {
			t.Errorf("%d errors, %+v, want %d, %+v", stats.StoreErrors, stats.StoreFaults, 8*rounds, want)
		}
		// At the beginning of each of four minutes, for each of seven causes.
		if n := strings.Count(log.String(), "level=WARN"); n != 4*7 || n != strings.Count(log.String(), "\n") {
			t.Errorf("%d warnings in three minutes, want %d:\n%s", n, 4*7, log.String())
		}
		if !strings.Contains(log.String(), `cause="disk full"`) {
			t.Errorf("the cause is not named:\n%s", log.String())
		}
	})
}
