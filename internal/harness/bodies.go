package harness

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip"
)

// WantBody checks a body without printing megabytes.
func WantBody(t testing.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Errorf("got a body of %d bytes, want one of %d; they differ from byte %d on", len(got), len(want), at)
}

// WantStatus checks parts of the Status of a response, in the words of RFC
// 9211: "hit", "fwd=stale", "stored". A part that begins with an exclamation
// mark must not be there.
func WantStatus(t testing.TB, resp *http.Response, want ...string) {
	t.Helper()
	got := words(cachetrip.StatusOf(resp))
	for _, w := range want {
		no := strings.HasPrefix(w, "!")
		if slices.Contains(got, strings.TrimPrefix(w, "!")) == no {
			t.Errorf("got the Status %q, want %q in it", got, w)
		}
	}
}

// words returns what a Status says, but for times.
func words(s cachetrip.Status) (said []string) {
	for _, part := range []struct {
		said bool
		text string
	}{
		{s.Hit, "hit"},
		{s.Fwd != "", "fwd=" + s.Fwd},
		{s.FwdStatus != 0, fmt.Sprintf("fwd-status=%d", s.FwdStatus)},
		{s.Stored, "stored"},
		{s.Collapsed, "collapsed"},
		{s.Detail != "", "detail=" + s.Detail},
		{s.Generated, "generated"},
	} {
		if part.said {
			said = append(said, part.text)
		}
	}
	return said
}

// Noise returns bytes in which no two stretches are alike, others for each
// seed.
func Noise(size int, seed uint64) []byte {
	b := make([]byte, size)
	x := seed*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return b
}

// PageOf returns the page of a user. It does not contain what identifies the
// user, which must not lie in the store.
func PageOf(user string) string { return fmt.Sprintf("page %x", crc32.ChecksumIEEE([]byte(user))) }
