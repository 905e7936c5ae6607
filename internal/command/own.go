package command

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// The values in queries are hidden in what is shown about the store, because
// such text ends up in bug reports. In the URLs that the user has just typed
// they are shown: hiding them helps nobody, and tells the user less than the
// shell does.

// own are the URLs that the user gave to this run. It is safe for concurrent
// use.
type own struct {
	mu   sync.Mutex
	urls []string // in all spellings in which messages may have them, the longest first
}

type ownKey struct{}

// withOwn returns a context with the URLs among the arguments of a command.
func withOwn(ctx context.Context, args []string) context.Context {
	o := new(own)
	for _, arg := range args {
		o.add(arg)
	}
	return context.WithValue(ctx, ownKey{}, o)
}

// ownOf returns the user's own URLs.
func ownOf(ctx context.Context) *own {
	if o, ok := ctx.Value(ownKey{}).(*own); ok {
		return o
	}
	return new(own)
}

// add adds a URL of the user. Any other text has no effect.
func (o *own) add(raw string) {
	if !strings.ContainsAny(raw, "?#") {
		return
	}
	spellings := []string{raw}
	if u, err := parseURL(raw); err == nil {
		spellings = append(spellings, u.String(), u.Redacted())
		for _, strip := range []func(*url.URL){func(u *url.URL) { u.User = nil }, func(u *url.URL) { u.Fragment, u.RawFragment = "", "" }} {
			strip(u)
			spellings = append(spellings, u.String())
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.urls = append(o.urls, spellings...)
	slices.SortFunc(o.urls, func(a, b string) int { return len(b) - len(a) })
	o.urls = slices.Compact(o.urls)
}

// url returns a URL as it may be shown. Without user information in any case.
func (o *own) url(raw string, showQuery bool) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return redact.URL(raw, showQuery || slices.Contains(o.urls, raw))
}

// text returns a text in which the URLs are shown as by url.
func (o *own) text(text string, showQuery bool) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var marks []string
	for i, u := range o.urls {
		// A mark has no character of a URL with a query, so that redact keeps it.
		mark := "\x00" + strconv.Itoa(i) + "\x00"
		var b strings.Builder
		rest := text
		for {
			before, after, found := strings.Cut(rest, u)
			b.WriteString(before)
			if !found {
				break
			}
			if endsURL(after) {
				b.WriteString(mark)
			} else {
				b.WriteString(u) // the beginning of another URL
			}
			rest = after
		}
		text = b.String()
		marks = append(marks, mark, redact.URL(u, true))
	}
	return strings.NewReplacer(marks...).Replace(redact.Text(text, showQuery))
}

// endsURL reports whether a URL ends before the text.
func endsURL(text string) bool {
	text = strings.TrimLeft(text, ":,;.)") // punctuation of the sentence
	return text == "" || strings.ContainsRune(" \t\r\n\"'<>\\", rune(text[0]))
}
