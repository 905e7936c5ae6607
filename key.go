package cachetrip

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// The primary key: a digest of the normalised target URI, then a digest of the
// identity. GET and HEAD share it. RFC 9111, section 2.

// urlDigits is the number of hexadecimal digits of a key that stand for the
// URL. They hold 128 bits, so that no origin can find two URLs with one key. As
// many digits stand for the identity.
const urlDigits = 32

// primaryURL returns the normalised form of u. Two URLs with the same form are
// the same to every origin. The form has scheme and host in lower case, and no
// default port, empty path, user information or fragment. A host with non-ASCII
// letters has the form that net/http sends. Nothing else is normalised, because
// an origin can tell it apart.
//
// host is the Host of the request, if it differs from the host of the URL.
func primaryURL(u *url.URL, host string) string { return string(appendPrimaryURL(nil, u, host)) }

func appendPrimaryURL(b []byte, u *url.URL, host string) []byte {
	b = append(b, lower(u.Scheme)...)
	b = append(b, "://"...)
	connect := authority(u.Scheme, u.Host)
	effective := connect
	if host != "" && host != u.Host {
		effective = authority(u.Scheme, host)
	}
	if withoutZone(effective) == withoutZone(connect) {
		b = append(b, connect...) // with its zone, which selects the machine but is not sent
	} else {
		// The request connects to one host and asks for another. The key needs
		// both. A blank separates them, because no host contains one.
		b = append(b, effective...)
		b = append(b, ' ')
		b = append(b, connect...)
	}
	uri := u.RequestURI()
	if !strings.HasPrefix(uri, "/") {
		b = append(b, '\n') // separates host and URI; net/http sends no URI with a newline
	}
	return append(b, uri...)
}

// primaryOrigin returns the beginning of a primary URL, which names its origin.
func primaryOrigin(primary string) string {
	authority := strings.Index(primary, "://") + len("://")
	return primary[:authority+strings.IndexAny(primary[authority:], "/\n")]
}

// storedURL returns the form of u that tools list: without user information and
// fragment.
func storedURL(u *url.URL, host string) string {
	if host == "" {
		host = u.Host
	}
	stored := lower(u.Scheme) + "://" + authority(u.Scheme, host) + u.RequestURI()
	if u.Opaque != "" && !strings.HasPrefix(u.Opaque, "/") || strings.HasPrefix(u.Opaque, "//") {
		return redact.URL(stored, true) // the opaque part may be a whole URL, with user information
	}
	return stored
}

// authority returns host and port in lower case, without the scheme's default
// port.
func authority(scheme, host string) string {
	host = asciiHost(host)
	switch lower(scheme) {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":")
}

// asciiHost returns a host as net/http sends it, in lower case. For an
// internationalised name it asks net/http itself, because another package might
// encode the name differently.
func asciiHost(host string) string {
	if bracket := strings.LastIndexByte(host, ']'); bracket >= 0 {
		if zone := strings.IndexByte(host[:bracket], '%'); zone >= 0 {
			return lower(host[:zone]) + host[zone:] // a zone names an interface, and is case-sensitive
		}
	}
	if !strings.ContainsFunc(host, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return lower(host)
	}
	var sent strings.Builder
	if err := (&http.Request{URL: &url.URL{Path: "/"}, Host: host}).Write(&sent); err != nil {
		return host // it can't be sent
	}
	_, line, _ := strings.Cut(sent.String(), "\r\nHost: ")
	line, _, _ = strings.Cut(line, "\r\n")
	if line == "" {
		return host
	}
	return lower(line)
}

// withoutZone returns a host without the zone of an IPv6 address. RFC 6874,
// section 4.
func withoutZone(host string) string {
	bracket := strings.LastIndexByte(host, ']')
	if bracket < 0 {
		return host
	}
	zone := strings.IndexByte(host[:bracket], '%')
	if zone < 0 {
		return host
	}
	return host[:zone] + host[bracket:]
}

// digester is the secret of a store, as the key of a hash. Without the secret
// nobody can learn anything from the digests.
type digester []byte

// digestSize is the size of a digest as text.
const digestSize = urlDigits

// buffer is room on the stack for the input of most digests, so that hashing
// allocates nothing.
type buffer [512]byte

// sum is a digest as bytes.
type sum [digestSize / 2]byte

// String returns the digest as text.
func (s sum) String() string { return hex.EncodeToString(s[:]) }

// sum returns the digest of a text of some kind.
func (d digester) sum(kind string, text []byte) sum {
	var room buffer
	b := append(append(append(room[:0], d...), kind...), 0)
	whole := sha256.Sum256(append(b, text...))
	return sum(whole[:digestSize/2])
}

// digest returns the digest of a text of some kind, as text.
func (d digester) digest(kind string, text []byte) string { return d.sum(kind, text).String() }

// value returns the digest that stands for a secret selecting field.
func (d digester) value(s string) string { return d.digest("value", []byte(s)) }

// url returns the part of a key that stands for a URL.
func (d digester) url(primary string) string { return d.digest("url", []byte(primary)) }

// origin returns the digest that stands for the origin of a primary URL.
func (d digester) origin(primary string) string {
	return d.digest("origin", []byte(primaryOrigin(primary)))
}

// key returns a key: the digest of a text of some kind, and that of an
// identity.
func (d digester) key(kind string, text []byte, identity sum) string {
	var key [2 * digestSize]byte
	first := d.sum(kind, text)
	hex.Encode(key[:digestSize], first[:])
	hex.Encode(key[digestSize:], identity[:])
	return string(key[:])
}

// identity returns the digest of an identity in the form of appendIdentity, or
// all zero if form is empty. As text it is the second half of a key.
func (d digester) identity(form []byte) sum {
	if len(form) == 0 {
		return sum{}
	}
	return d.sum("identity", form)
}

// appendContent appends what takes the place of an identity in the key of a
// request whose content counts. RFC 10008, section 2.7: the key incorporates
// the content and the fields that describe it. identity is the digest of the
// identity, and content that of the content.
func appendContent(b []byte, identity sum, method string, h http.Header, content [sha256.Size]byte) []byte {
	b = append(append(append(b, "content\x00"...), identity[:]...), content[:]...)
	b = append(append(b, method...), 0)
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Location"} {
		for _, line := range h[name] {
			b = append(append(b, line...), '\n') // no field value contains a newline
		}
		b = append(b, 0)
	}
	return b
}

// appendIdentity appends the identity of a request: the name if there is one,
// or else the credentials in the header. It appends nothing if there is
// neither.
func appendIdentity(b []byte, req *http.Request, name string) []byte {
	if name != "" {
		return append(append(b, "name\x00"...), name...)
	}
	credentials, proxy := req.Header["Authorization"], req.Header["Proxy-Authorization"]
	if len(credentials) == 0 && len(proxy) == 0 {
		return b
	}
	b = append(b, "credentials\x00"...)
	for _, lines := range [][]string{credentials, proxy} {
		for _, line := range lines {
			b = append(append(b, line...), '\n') // no field value contains a newline
		}
		b = append(b, 0)
	}
	return b
}

func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}

// credentialField reports whether the name of a request field suggests that it
// identifies a user. Only Authorization and Proxy-Authorization are part of the
// key. A response that depends on another such field must say so in Vary.
func credentialField(name string) bool {
	switch name {
	case "Accept", "Accept-Encoding", "Accept-Language", "Origin", "User-Agent":
		return false // by far the most frequent fields
	case "Idempotency-Key", "X-Idempotency-Key":
		return false // differs for each request
	}
	name = strings.ToLower(name)
	if strings.HasSuffix(name, "user-agent") {
		return false
	}
	for _, part := range []string{"auth", "cookie", "token", "key", "secret", "session", "signature", "credential", "passw", "impersonate"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	for word := range strings.SplitSeq(name, "-") {
		switch word {
		case "assertion", "bearer", "cert", "dpop", "hmac", "jwt", "otp", "pass", "pin", "sid", "user":
			return true
		}
	}
	return false
}

// originOf names the origin of a URL.
func originOf(u *url.URL) string { return lower(u.Scheme) + "://" + authority(u.Scheme, u.Host) }
