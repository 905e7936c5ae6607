package cachetrip

import "net/http"

// Requests that belong to a chain of redirects, which the caller or Base follows.

// comesBackTo reports whether r is a redirect that the caller has followed
// before in this chain. r would send it around the circle again, although the
// origin's response may have changed, for example because of a cookie. Browsers
// validate in this case, too.
func (x *exchange) comesBackTo(r *response) bool {
	if x.req.Response == nil || r.status < 300 || r.status > 399 || r.header["Location"] == nil || x.rules.cc.OnlyIfCached {
		return false
	}
	before := x.req.Response
	for range maxRedirects {
		if before == nil || before.Request == nil {
			return false
		}
		if sameTarget(before.Request, x.req) {
			return true
		}
		before = before.Request.Response
	}
	return true
}

// maxRedirects limits how many redirects comesBackTo looks at. Few clients
// follow more.
const maxRedirects = 50

// sameTarget reports whether two requests have the same target URI.
func sameTarget(a, b *http.Request) bool {
	return a.URL != nil && b.URL != nil && primaryURL(a.URL, a.Host) == primaryURL(b.URL, b.Host)
}

// firstAnswer returns the response to req itself. resp is the response to the
// last redirect that Base has followed, if any.
func firstAnswer(req *http.Request, resp *http.Response) *http.Response {
	for range maxRedirects {
		actual := resp.Request
		if actual == nil || actual.Response == nil || actual.Response == req.Response {
			break
		}
		resp = actual.Response
	}
	return resp
}
