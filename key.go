package cachetrip

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
)

// The primary key: the normalised target URI, then the identity. GET and HEAD share it.
// RFC 9111, section 2.

// urlDigits is the number of hexadecimal digits of a key that stand for the URL: 128 bits, so that
// even an origin that chooses its URLs can't find two with one key. As many stand for the identity.
const urlDigits = 32

// anonymous is the identity's part of a key of requests without credentials.
var anonymous = strings.Repeat("0", urlDigits)

// primaryURL returns the form of u under which requests are the same to every origin: scheme and
// host in lower case, no default port, no empty path, no user information, no fragment. All else
// an origin can tell apart. host is the request's Host, if it differs from that of the URL.
func primaryURL(u *url.URL, host string) string {
	var b strings.Builder
	b.WriteString(lower(u.Scheme))
	b.WriteString("://")
	connect := authority(u)
	if host != "" && host != u.Host {
		effective := authority(&url.URL{Scheme: u.Scheme, Host: host})
		b.WriteString(effective)
		b.WriteString(u.RequestURI())
		if effective != connect {
			// The server that is connected to answers for another name: neither is enough alone.
			b.WriteByte(' ')
			b.WriteString(connect)
		}
		return b.String()
	}
	b.WriteString(connect)
	b.WriteString(u.RequestURI())
	return b.String()
}

// storedURL returns the form of u under which it is listed: without user information and fragment.
func storedURL(u *url.URL, host string) string {
	if host == "" {
		host = u.Host
	}
	return lower(u.Scheme) + "://" + authority(&url.URL{Scheme: u.Scheme, Host: host}) + u.RequestURI()
}

// authority returns host and port of u in lower case, without the scheme's default port.
func authority(u *url.URL) string {
	host := lower(u.Host)
	switch lower(u.Scheme) {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":")
}

// digester makes digests that tell nothing to who does not have the secret of the store.
type digester []byte

// sum returns the first n hexadecimal digits of the digest of the parts, each ended so that moving
// text from one to the next changes it.
func (d digester) sum(n int, parts ...string) string {
	b := make([]byte, 0, 512)
	b = append(b, d...)
	for _, part := range parts {
		b = append(b, part...)
		b = append(b, 0)
	}
	sum := sha256.Sum256(b)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return string(digits[:n])
}

// value returns the digest that stands for a secret selecting field.
func (d digester) value(s string) string { return d.sum(urlDigits, "value", s) }

// url returns the part of a key that stands for a URL.
func (d digester) url(primary string) string { return d.sum(urlDigits, "url", primary) }

// identity returns the part of a key that stands for an identity: the given one, or else the
// credentials that the request carries.
func (d digester) identity(req *http.Request, identify func(*http.Request) string) string {
	if identify != nil {
		if name := identify(req); name != "" {
			return d.sum(urlDigits, "identity", name)
		}
		return anonymous
	}
	credentials, proxy := req.Header["Authorization"], req.Header["Proxy-Authorization"]
	if len(credentials) == 0 && len(proxy) == 0 {
		return anonymous
	}
	return d.sum(urlDigits, "credentials", strings.Join(credentials, "\n"), strings.Join(proxy, "\n"))
}

func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}
