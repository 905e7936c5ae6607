package debug

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cachetrip/cachetrip/internal/duration"
)

// This file formats values for people.

func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n), []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	for _, unit := range units {
		if f /= 1000; f < 999.5 {
			return fmt.Sprintf("%.3g %s", f, unit)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// span formats a duration by the two largest of its units.
func span(d time.Duration) string {
	if d >= 100*365*24*time.Hour {
		return "ever"
	}
	return duration.Format(d, " ")
}

// seconds is a duration in whole seconds, which is how JSON has it.
type seconds int64

func inSeconds(d time.Duration) seconds { return seconds(d / time.Second) }

// Text formats a duration; a negative one as its amount.
func (s seconds) Text() string {
	return span(time.Duration(max(s, -s)) * time.Second)
}

// elided is a URL in three parts. If there is no room for all, the query is cut
// first, and then the end of Head. So the host and the end of the path stay in
// sight.
type elided struct{ Head, Tail, Query string }

// tailRunes is how much of the end of a path always stays in sight.
const tailRunes = 16

func elide(text string) elided {
	path, query := text, ""
	if i := strings.IndexByte(text, '?'); i >= 0 {
		path, query = text[:i], text[i:]
	}
	cut := len(path)
	for n := 0; n < tailRunes && cut > 0; n++ {
		_, width := utf8.DecodeLastRuneInString(path[:cut])
		cut -= width
	}
	if cut < 2*tailRunes {
		cut = len(path)
	}
	return elided{path[:cut], path[cut:], query}
}

// class returns the name of a style class for a text.
func class(text string) string { return strings.ReplaceAll(text, " ", "-") }

// query returns a link with the given names and values in its query. It leaves
// out empty values.
func query(pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return "?" + values.Encode()
}
