package command

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip"
)

// mostRedirects limits the redirects of one request, as net/http does.
const mostRedirects = 10

// badRedirect is the error of a redirect that is not followed.
type badRedirect string

func (b badRedirect) Error() string { return string(b) }

// checkRedirect is the CheckRedirect of get's client.
func (g *getting) checkRedirect(next *http.Request, via []*http.Request) error {
	from, to := g.shown(via[len(via)-1]), g.shown(next)
	repeats := func(r *http.Request) bool { return r.URL.String() == next.URL.String() }
	switch {
	case next.URL.Scheme != "http" && next.URL.Scheme != "https":
		return badRedirect("redirected to " + to + ", which is not an http or https URL")
	case len(via) < mostRedirects:
		g.log.handedOut(next.Response)
		return nil
	case slices.ContainsFunc(via, repeats):
		return badRedirect(fmt.Sprintf("the redirects go in a circle: %s redirects to %s again", from, to))
	}
	return badRedirect(fmt.Sprintf("stopped after %d redirects; the next one leads to %s", len(via), to))
}

// reason says in words why a request got no response.
func (g *getting) reason(err error) string {
	failed, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err.Error()
	}
	if bad, ok := errors.AsType[badRedirect](err); ok {
		return bad.Error()
	}
	text := failed.Err.Error()
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		text = fmt.Sprintf("there is no host %q", name.Name)
	case errors.As(err, &certificate):
		text += "; -k does without verification, and stores nothing"
	case errors.Is(err, http.ErrSchemeMismatch):
		text = "the server speaks http, not https; write http:// before the host"
	}
	return text
}

// errorText is an error with another text.
type errorText struct {
	text string
	error
}

func (e errorText) Error() string { return e.text }
func (e errorText) Unwrap() error { return e.error }

// chain returns the redirects that led to resp, and resp itself as the last.
func chain(resp *http.Response) []*http.Response {
	var all []*http.Response
	for r := resp; r != nil; r = r.Request.Response {
		all = append(all, r)
	}
	slices.Reverse(all)
	return all
}

// redirects says which redirects led to resp, and where they came from. It
// returns "" if there were none.
func (g *getting) redirects(resp *http.Response) string {
	hops := chain(resp)
	n, fromCache := len(hops)-1, 0
	for _, r := range hops[:n] {
		if cachetrip.StatusOf(r).Hit {
			fromCache++
		}
	}
	from := "from the origin"
	switch {
	case n == 0:
		return ""
	case fromCache == n:
		from = "from the cache"
	case fromCache > 0:
		from = fmt.Sprintf("%d of them from the cache", fromCache)
	}
	return fmt.Sprintf("%s after %s (%s): ", g.shown(resp.Request), count(n, "redirect", "redirects"), from)
}

// writeHeaders writes the status lines and the fields of a response and of the
// redirects that led to it, as they came.
func writeHeaders(w io.Writer, resp *http.Response) error {
	var b strings.Builder
	for _, r := range chain(resp) {
		fmt.Fprintf(&b, "%s %s\r\n", r.Proto, r.Status)
		for _, name := range sortedNames(r.Header) {
			for _, value := range r.Header[name] {
				fmt.Fprintf(&b, "%s: %s\r\n", name, printable(value))
			}
		}
		b.WriteString("\r\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
