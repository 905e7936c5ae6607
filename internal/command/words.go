package command

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/duration"
)

// describe says in words how resp was obtained. It ends with the word for the
// reason, if there is one.
func describe(resp *http.Response) string {
	how, detail := manner(resp)
	if detail == "" {
		return how
	}
	return how + " (" + detail + ")"
}

// tell says in words how resp was obtained, and why.
func tell(resp *http.Response) string {
	how, detail := manner(resp)
	if text := cachetrip.ReasonText(detail); text != "" {
		return how + ", because " + text
	} else if detail == "" {
		return how
	}
	return how + " (" + detail + ")"
}

// manner says in words how resp was obtained. detail is the word for the
// reason, as the standards spell it. If a flag was the reason, it is the flag.
func manner(resp *http.Response) (how, detail string) {
	s := cachetrip.StatusOf(resp)
	if mode, found := strings.CutPrefix(s.Detail, "mode-"); found {
		s.Detail = "--" + mode
		if mode == cachetrip.ModeOnlyIfCached.String() {
			s.Detail = "--offline"
		}
	}
	fromCache := resp.Header.Get("X-From-Cache") != ""
	say := func(format string, args ...any) { how = fmt.Sprintf(format, args...) }

	switch {
	case s.Generated:
		return "not usable from the cache, and only-if-cached forbids asking the origin", ""
	case s.Hit && s.TTL < 0:
		say("stale by %s: served from the cache anyway", span(-s.TTL))
	case s.Hit && s.TTL == 0:
		say("at the end of its lifetime: served from the cache")
	case s.Hit:
		say("fresh for another %s: served from the cache", span(s.TTL))
	case s.Revalidated:
		say("%s: the origin confirmed it (304), served from the cache", reason(s.Fwd))
	case s.FwdStatus == http.StatusPartialContent && resp.StatusCode == http.StatusOK:
		say("%s: the rest fetched", reason(s.Fwd))
	case fromCache && s.FwdStatus != 0:
		say("%s: the origin answered %d, served from the cache", reason(s.Fwd), s.FwdStatus)
	case fromCache:
		say("%s: the origin could not be reached, served from the cache", reason(s.Fwd))
	case s.Collapsed:
		say("%s: shared another request's download", reason(s.Fwd))
	case s.Stored:
		say("%s: fetched and stored", reason(s.Fwd))
	default:
		say("%s: fetched, not stored", reason(s.Fwd))
	}
	return how, s.Detail
}

// reason says in words why a request was forwarded: the parameter fwd of RFC
// 9211, section 2.2.
func reason(fwd string) string {
	switch fwd {
	case "uri-miss":
		return "not in the cache"
	case "vary-miss":
		return "only other variants in the cache"
	case "miss":
		return "nothing usable in the cache"
	case "stale":
		return "stale"
	case "partial":
		return "only a part in the cache"
	case "request":
		return "the request required validation"
	case "method":
		return "the cache does not answer this method"
	case "bypass":
		return "past the cache"
	case "":
		return "not forwarded"
	}
	return fwd
}

// span formats a duration for tables and sentences.
func span(d time.Duration) string { return duration.Format(d, "") }

// size formats a number of bytes in powers of 1000, such as "12.3 kB".
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1000, 0
	for f >= 999.95 && unit < 4 { // a value that would be rounded to 1000.0
		f /= 1000
		unit++
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTP"[unit])
}

// count formats n with the singular or plural of its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
