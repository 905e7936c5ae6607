package cachetrip

import (
	"encoding/binary"
	"hash/maphash"
	"net/url"
	"strings"

	"github.com/cachetrip/cachetrip/internal/memo"
)

// A memory of recently used primary keys.

// keys computes the primary keys of requests, and remembers recent ones.
// Without it, digests would be a large part of the cost of a hit. Its zero
// value is ready for use.
type keys struct{ known memo.Table[knownKey] }

// knownKey is a remembered key, with its URL, Host and identity. It takes about
// the length of the URL. Most requests
// for a URL have the same spelling, which is faster to compare than to
// normalise. Only the digest of the identity is kept, because names and
// credentials must not stay in memory.
type knownKey struct {
	url      url.URL
	host     string
	identity sum
	key      string
}

var keySeed = maphash.MakeSeed()

// of returns the key of a request: the part of the URL and Host, then that of
// the identity. It remembers a key when it is needed again. form is the
// identity in the form of appendIdentity.
func (k *keys) of(d digester, u *url.URL, host string, form []byte) string {
	identity := d.identity(form)
	hash := maphash.String(keySeed, u.Path)
	hash = hash*31 + maphash.String(keySeed, u.Host)
	if u.RawQuery != "" {
		hash = hash*31 + maphash.String(keySeed, u.RawQuery)
	}
	hash = hash*31 + binary.LittleEndian.Uint64(identity[:])
	if place := k.known.At(hash); place != nil {
		for i := range place {
			if known := place[i].Load(); known != nil && known.host == host && known.identity == identity && sameSpelling(&known.url, u) {
				return known.key
			}
		}
	}
	var room buffer
	key := d.key("url", appendPrimaryURL(room[:0], u, host), identity)
	if k.known.Again(hash) && len(u.Scheme)+len(u.Opaque)+len(u.Host)+len(u.Path)+len(u.RawPath)+len(u.RawQuery)+len(host) <= len(buffer{}) {
		k.known.Put(hash, &knownKey{
			url: url.URL{
				Scheme: strings.Clone(u.Scheme), Opaque: strings.Clone(u.Opaque), Host: strings.Clone(u.Host),
				Path: strings.Clone(u.Path), RawPath: strings.Clone(u.RawPath), ForceQuery: u.ForceQuery, RawQuery: strings.Clone(u.RawQuery),
			},
			host: strings.Clone(host), identity: identity, key: key,
		})
	}
	return key
}

// sameSpelling reports whether all parts of two URLs that a primary key depends
// on are equal.
func sameSpelling(a, b *url.URL) bool {
	return a.Path == b.Path && a.RawQuery == b.RawQuery && a.Host == b.Host && a.Scheme == b.Scheme &&
		a.RawPath == b.RawPath && a.Opaque == b.Opaque && a.ForceQuery == b.ForceQuery
}
