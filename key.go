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

// The primary key: the normalised target URI, then the identity. GET and HEAD share it.
// RFC 9111, section 2.

// urlDigits is the number of hexadecimal digits of a key that stand for the URL: 128 bits, so that
// even an origin that chooses its URLs can't find two with one key. As many stand for the identity.
const urlDigits = 32

// primaryURL returns the form of u under which requests are the same to every origin: scheme and
// host in lower case, no default port, no empty path, no user information, no fragment; a host with
// other letters than ASCII in the form that net/http sends. All else an origin can tell apart. host
// is the request's Host, if it differs from that of the URL.
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
		b = append(b, connect...) // whose zone says which machine it is, and is not sent
	} else {
		// The server that is connected to answers for another name: neither is enough alone. No
		// host contains a blank, while the rest may.
		b = append(b, effective...)
		b = append(b, ' ')
		b = append(b, connect...)
	}
	uri := u.RequestURI()
	if !strings.HasPrefix(uri, "/") {
		b = append(b, '\n') // must not go on where the host ends; net/http sends no URI that contains it
	}
	return append(b, uri...)
}

// storedURL returns the form of u under which it is listed: without user information and fragment.
func storedURL(u *url.URL, host string) string {
	if host == "" {
		host = u.Host
	}
	stored := lower(u.Scheme) + "://" + authority(u.Scheme, host) + u.RequestURI()
	if u.Opaque != "" && !strings.HasPrefix(u.Opaque, "/") || strings.HasPrefix(u.Opaque, "//") {
		return redact.URL(stored, true) // it may be a whole URL, with all that belongs into one
	}
	return stored
}

// authority returns host and port in lower case, without the scheme's default port.
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

// asciiHost returns a host as net/http sends it, in lower case. It alone knows which form
// internationalised names get, so that it is asked, and not a package that may see it otherwise.
func asciiHost(host string) string {
	if bracket := strings.LastIndexByte(host, ']'); bracket >= 0 {
		if zone := strings.IndexByte(host[:bracket], '%'); zone >= 0 {
			return lower(host[:zone]) + host[zone:] // zones are names of interfaces, case and all
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

// withoutZone returns a host without the zone of an IPv6 address. RFC 6874, section 4.
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

// digester makes digests that tell nothing to who does not have the secret of the store, which it is.
type digester []byte

// digestSize is the size of a digest as text.
const digestSize = urlDigits

// buffer is room for what most digests are made of, so that making them allocates nothing.
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

// identity returns the digest of an identity, given in the form that appendIdentity makes: all zero if there is
// none. As text it is the identity's part of a key.
func (d digester) identity(form []byte) sum {
	if len(form) == 0 {
		return sum{}
	}
	return d.sum("identity", form)
}

// appendIdentity appends a form of the identity of a request: the given name, or else the credentials
// that the request carries; nothing if there is neither.
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
			b = append(append(b, line...), '\n') // which no field value contains
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
