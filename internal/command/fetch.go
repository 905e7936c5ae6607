package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
)

// fetch fetches one URL, writes its body, and returns the message for the user.
// It tries again if the user wants that.
func (g *getting) fetch(to *target) (said string, err error) {
	out, err := createOutput(to.output, g.stdout)
	if err != nil {
		return "", err
	}
	defer out.discard()
	for failed := 1; ; failed++ {
		a := &attempt{getting: g, to: to, out: out, last: failed > g.retries}
		said, err = a.run()
		if a.retry == "" {
			return said, err
		}
		pause, ok := pauseBefore(failed, a.retryAfter, time.Now())
		if !ok {
			// Only a response can ask for that.
			return said, &failure{exitHTTP, fmt.Errorf("%s: the server asks to wait %s, which is too long; run it again then", a.retry, span(pause))}
		}
		if !g.quiet {
			when := "at once"
			if pause >= time.Second {
				when = "in " + span(pause)
			}
			g.progress.say("%s: %s; trying again %s (%d of %d)\n", g.shown(to.req), g.own.text(a.retry, g.showQuery), when, failed, g.retries)
		}
		select {
		case <-time.After(pause):
		case <-to.req.Context().Done():
			return "", context.Cause(to.req.Context())
		}
		if err := out.reset(); err != nil {
			return "", err
		}
	}
}

// attempt is one attempt to fetch a URL.
type attempt struct {
	*getting
	to   *target
	out  *output
	last bool // no other attempt follows

	retry      string // why another attempt may succeed; empty if none is needed
	retryAfter string
}

func (a *attempt) run() (said string, err error) {
	bar := a.progress.follow(path.Base(a.to.req.URL.Path), a.to.req.URL.Host)
	defer bar.close()
	count := new(meter)
	resp, err := a.client.Do(a.to.req.WithContext(withMeter(a.to.req.Context(), count)))
	if err != nil {
		return "", a.noResponse(err)
	}
	defer resp.Body.Close()
	a.log.handedOut(resp)
	if cachetrip.StatusOf(resp).Generated {
		return "", a.notCached(resp)
	}
	if retriedStatus(resp.StatusCode) && !a.last {
		a.retry, a.retryAfter = resp.Status, resp.Header.Get("Retry-After")
		return "", &failure{code: exitHTTP}
	}
	return a.write(resp, bar, count)
}

// noResponse returns the error of a request that got no response.
func (a *attempt) noResponse(err error) error {
	if !a.last && a.to.req.Context().Err() == nil && worthRetrying(err) {
		a.retry = a.reason(err)
	}
	text := a.shown(a.to.req) + ": "
	_, bad := errors.AsType[badRedirect](err)
	failed, ok := errors.AsType[*url.Error](err)
	moved := ok && !bad && !isURL(failed.URL, a.to.req.URL)
	if moved {
		text += "redirected to " + a.own.url(failed.URL, a.showQuery) + ": "
	}
	text += a.reason(err)
	if !moved && !bad && a.retry == "" && a.usableStale(a.to.req) {
		text += "; add --offline to get the stored response"
	}
	return errorText{text, err}
}

// isURL reports whether raw, from an error of net/http, is the URL u.
func isURL(raw string, u *url.URL) bool {
	other, err := url.Parse(raw)
	if err != nil {
		return false
	}
	bare := *u
	bare.User, other.User = nil, nil // the error hides the password
	return other.String() == bare.String()
}

// notCached returns the error for a response that only says that the cache has
// nothing usable.
func (a *attempt) notCached(resp *http.Response) error {
	if resp.Request.URL.String() == a.to.req.URL.String() && a.usableStale(a.to.req) {
		return notCached("%s is stored, but older than the request allows; --offline alone accepts any age", a.shown(a.to.req))
	}
	return notCached("%s is not in the cache, or may not be used without asking the origin; omit --offline to ask it, or see 'cachetrip explain'", a.shown(a.to.req))
}

// write writes a response to the output.
func (a *attempt) write(resp *http.Response, bar *download, count *meter) (said string, err error) {
	a.to.last = resp
	refused := resp.StatusCode >= 400
	var w io.Writer = a.out
	if refused && (a.fails || a.out.temporary != "") {
		w = io.Discard // do not overwrite the file with an error page
	}
	if a.withHeader {
		if err := writeHeaders(w, resp); err != nil {
			return "", err
		}
	}
	if w != io.Discard && a.to.output == "" && newScreen(a.stdout).terminal {
		w = &textOnly{w: w}
	}
	bar.begin(w, resp.ContentLength, count)
	n, err := io.Copy(bar, resp.Body)
	bar.close()
	switch {
	case errors.Is(err, errBinary):
		return "", fmt.Errorf("%s: %w; write it to a file with -o FILE or -O, or show it all the same with -o -", a.shown(a.to.req), errBinary)
	case err != nil:
		if !a.last && a.to.req.Context().Err() == nil && worthRetrying(err) && (n == 0 || a.out.temporary != "") {
			a.retry = fmt.Sprintf("after %s of the body: %v", size(n), err)
		}
		return "", fmt.Errorf("%s: after %s of the body: %w%s", a.shown(a.to.req), size(n), err, nextTime(resp, err))
	}
	a.to.last = nil
	if !refused {
		if err := a.out.commit(); err != nil {
			return "", err
		}
	}
	if resp.Request.Method == http.MethodHead {
		said = fmt.Sprintf("%s; %s%s", resp.Status, a.redirects(resp), tell(resp))
	} else {
		said = fmt.Sprintf("%s, %s; %s%s", resp.Status, size(n), a.redirects(resp), tell(resp))
	}
	if refused {
		return said, &failure{code: exitHTTP}
	}
	return said, nil
}

// errBinary is the error of a body that is not written to a terminal.
var errBinary = errors.New("the body is binary and could confuse your terminal")

// textOnly is a writer that refuses binary content. It decides by the first
// piece.
type textOnly struct {
	w       io.Writer
	decided bool
}

func (t *textOnly) Write(p []byte) (int, error) {
	if !t.decided && len(p) > 0 {
		t.decided = true
		if !strings.HasPrefix(http.DetectContentType(p), "text/") {
			return 0, errBinary
		}
	}
	return t.w.Write(p)
}

// usableStale reports whether --offline would get a body for a request.
func (g *getting) usableStale(req *http.Request) bool {
	patient := req.Clone(use{mode: cachetrip.ModeOnlyIfCached}.context(context.WithoutCancel(req.Context())))
	patient.Header.Del("Cache-Control")
	explained, err := g.cache.Explain(patient)
	if err != nil || req.Context().Err() != nil || explained.Action != "serve" || explained.Selected < 0 {
		return false
	}
	return explained.Stored[explained.Selected].Entry.Header.Get("Location") == "" // the target of a redirect may not be stored
}

// nextTime returns advice for the user after a transfer broke off.
func nextTime(resp *http.Response, err error) string {
	// If the output failed, the cache may store the whole body all the same.
	_, local := errors.AsType[*fs.PathError](err)
	if reason := whyNotKept(resp); reason != "" && !local {
		return "; nothing is kept, because " + reason + "; run it again"
	}
	if strings.EqualFold(resp.Header.Get("Accept-Ranges"), "bytes") && cachetrip.StatusOf(resp).Stored {
		return "; run it again to fetch the rest"
	}
	return "; run it again"
}

// whyNotKept says why the cache keeps nothing of a response whose transfer
// broke off. It returns "" if the cache may keep a part, or if the reason is
// not known.
func whyNotKept(resp *http.Response) string {
	s := cachetrip.StatusOf(resp)
	switch {
	case s.Fwd == "" || s.Collapsed || resp.Header.Get("X-From-Cache") != "" || s.FwdStatus == http.StatusPartialContent:
		return "" // all or a part was stored before, or the request was another's
	case !s.Stored:
		return "the response is not stored"
	case resp.StatusCode != http.StatusOK:
		return "" // errors are not continued, and nobody wants that
	case !strings.EqualFold(strings.Join(resp.Header["Accept-Ranges"], ","), "bytes"):
		return "the server does not announce ranges (Accept-Ranges: bytes)"
	case resp.Header.Get("ETag") == "" && resp.Header.Get("Last-Modified") == "":
		return "the response has neither ETag nor Last-Modified"
	}
	return ""
}
