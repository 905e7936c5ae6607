package stored_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
)

// TestCheck: a body that is checked ends in an error before its last piece if
// it is wrong, however it is read. Bytes that the store has lost, and that come
// from the origin instead, are checked, too.
func TestCheck(t *testing.T) {
	for way, read := range ways {
		for _, copies := range []bool{false, true} {
			for _, hashed := range []string{whole, "another body"} {
				for _, fails := range []bool{false, true} {
					f := open(t, copies)
					if fails {
						f.first.fails, f.first.err = 7, errors.New("input/output error")
					}
					sum := sha256.Sum256([]byte(hashed))
					d, ok := digest.Of(digest.ReprField, []string{"sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"})
					if !ok {
						t.Fatal("no digest")
					}
					all := span.Of(0, int64(len(whole)))
					var told []error
					b := stored.NewBody(&f.Content, all, stored.Options{
						Count: &f.count, Check: (*digest.Check)(nil).With(d, all), Checked: func(wrong error) { told = append(told, wrong) },
						Rest: func(_ context.Context, s span.Span) io.ReadCloser {
							return io.NopCloser(strings.NewReader(whole[s.Start:s.End]))
						},
					})
					got, err := read(b)
					_, again := b.Read(make([]byte, 1))
					b.Close()
					right := hashed == whole
					switch {
					case len(told) != 1 || (told[0] == nil) != right:
						t.Errorf("%s: told %v", way, told)
					case right && (got != whole || err != nil || again != io.EOF):
						t.Errorf("%s: got %q, %v, then %v", way, got, err, again)
					case !right && (len(got) >= len(whole) || !errors.Is(err, io.ErrUnexpectedEOF) || again != err):
						t.Errorf("%s: got %q, %v, then %v", way, got, err, again)
					}
					f.wantClosed(true)
				}
			}
		}
	}
}
