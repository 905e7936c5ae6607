package cachetrip

import (
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
)

// Which requests may wait for each other.

// sharingKey returns the key that requests have in common if they may wait for
// each other.
func (x *exchange) sharingKey(stored []response) inflight.Key {
	key := inflight.Key{Subject: x.exactKey(), Variant: x.variant(stored)}
	if lines, ok := x.rules.header["Range"]; ok {
		key.Variant = x.shortened(key.Variant + "\n\n" + strings.Join(lines, ",") + "\n" + strings.Join(x.rules.header["If-Range"], ","))
	}
	return key
}

// variant returns the values of the fields that select among the responses for
// a key. Requests that differ in them select different responses, and do not
// wait for each other.
func (x *exchange) variant(stored []response) string {
	var names []string
	for _, responses := range [][]response{stored, x.sharing.variants()} {
		for i := range responses {
			if i == 0 || !slices.Equal(responses[i].fields(), responses[i-1].fields()) {
				names = append(names, responses[i].fields()...)
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range slices.Compact(names) {
		value, _ := selectingValue(name, x.rules)
		b.WriteString("\n" + name + ":" + value)
	}
	return x.shortened(b.String())
}

// maxVariant limits what is remembered of the fields of a request.
const maxVariant = 256

// shortened returns a variant, or its digest if it is long. Maps that live
// longer than the request keep it, and they limit only the number of keys.
func (x *exchange) shortened(variant string) string {
	if len(variant) <= maxVariant {
		return variant
	}
	return x.rules.digest.value(variant)
}

// joinKey returns the key by which the request may share with others: with as
// many as could share the last response.
func (x *exchange) joinKey() inflight.Key {
	key := x.sharing.key
	switch x.t.audiences.of(key, time.Now()) {
	case alikesOnly:
		key.Variant += "\n\n" + alikeDigest(x.rules)
	case nobody:
		return inflight.Key{}
	}
	return key
}

// noteAudience remembers who can share the response to the request that x
// leads.
func (x *exchange) noteAudience(who audience) {
	if x.sharing == nil || x.sharing.key == (inflight.Key{}) {
		return
	}
	if who == nobody {
		defer x.sharing.lease.end(false)
	}
	x.t.audiences.note(x.sharing.key, who, time.Now())
}
