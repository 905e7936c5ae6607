// Package urlsearch compares the queries of URLs under a No-Vary-Search field.
// An origin says in this field which parameters of a query do not affect its
// response. Two URLs that differ only in those are equivalent: the response to
// one of them may answer a request for the other.
//
// The package implements the HTTP caching extension No-Vary-Search
// (draft-ietf-httpbis-no-vary-search), with the spellings that browsers read
// and the older drafts had. It knows no store and no request. A value that it
// does not understand gives no rule, which costs a cache miss and nothing else.
// A field of more than 4 KiB and a query of more than 8 KiB have no effect, so
// its memory is limited.
package urlsearch

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

const (
	// maxField limits the length of a field in bytes, over all its lines.
	// Longer ones give no rule. Real ones name some twenty parameters.
	maxField = 4 << 10

	// maxQuery limits the length of a query in bytes. Longer ones are
	// equivalent to no other. Servers and proxies stop at 8 KiB.
	maxQuery = 8 << 10
)

// A Rule says which URLs of one path are equivalent. The zero Rule says that
// each is equivalent to itself only.
type Rule struct {
	unordered bool     // the order of parameters with different names does not matter
	others    bool     // only the parameters in names matter; otherwise all but those
	names     []string // sorted
}

// Parse returns the rule of a No-Vary-Search field with the given lines. ok is
// false if there is no field, if it is malformed or longer than 4 KiB, or if
// it says nothing: then each URL is equivalent to itself only.
//
// A member key-order may stand alone. The parameters that do not matter are
// listed in params. The parameters that alone matter are listed in except, with
// params=?1 beside it or without.
func Parse(lines []string) (r Rule, ok bool) {
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	if size == 0 || size > maxField {
		return Rule{}, false
	}
	d, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return Rule{}, false
	}
	if member, found := d.Get("key-order"); found {
		if r.unordered, ok = boolean(member); !ok {
			return Rule{}, false
		}
	}
	params, hasParams := d.Get("params")
	except, hasExcept := d.Get("except")
	all, isBoolean := boolean(params)
	switch {
	case hasExcept && hasParams && !all: // a list of both kinds, or the two contradict each other
		return Rule{}, false
	case hasExcept:
		r.others = true
		r.names, ok = names(except)
	case isBoolean:
		r.others, ok = all, true
	case hasParams:
		r.names, ok = names(params)
	default:
		ok = true
	}
	if !ok || !r.unordered && !r.others && len(r.names) == 0 {
		return Rule{}, false
	}
	return r, true
}

// boolean returns the value of a member that is a boolean.
func boolean(member httpsfv.Member) (value, ok bool) {
	if item, isItem := member.(httpsfv.Item); isItem {
		value, ok = item.Value.(bool)
	}
	return value, ok
}

// names returns the decoded names in a member that is a list of strings,
// sorted.
func names(member httpsfv.Member) (list []string, ok bool) {
	inner, ok := member.(httpsfv.InnerList)
	if !ok {
		return nil, false
	}
	for _, item := range inner.Items {
		name, ok := item.Value.(string)
		if !ok {
			return nil, false
		}
		list = append(list, decode(name))
	}
	slices.Sort(list)
	return slices.Compact(list), true
}

// String returns r as a field. Equal rules have equal strings, and Parse
// returns r for it.
func (r Rule) String() string {
	var b strings.Builder
	if r.unordered {
		b.WriteString("key-order")
	}
	if !r.others && len(r.names) == 0 {
		return b.String()
	}
	if r.unordered {
		b.WriteString(", ")
	}
	if r.others {
		b.WriteString("except=(")
	} else {
		b.WriteString("params=(")
	}
	for i, name := range r.names {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(`"` + url.QueryEscape(name) + `"`)
	}
	b.WriteByte(')')
	return b.String()
}

// Canonical returns a form of a query that all equivalent queries have in
// common, and no others. A query is empty or begins with its question mark. ok
// is false if it is longer than 8 KiB.
func (r Rule) Canonical(query string) (form string, ok bool) {
	if len(query) > maxQuery {
		return "", false
	}
	query = strings.TrimPrefix(query, "?")
	type pair struct{ name, value string }
	var pairs []pair
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name = decode(name)
		if _, named := slices.BinarySearch(r.names, name); named != r.others {
			continue
		}
		pairs = append(pairs, pair{name, decode(value)})
	}
	if r.unordered {
		// The draft sorts by UTF-16 code units. Which order it is does not matter
		// for the comparison.
		slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.name, b.name) })
	}
	var b strings.Builder
	for _, p := range pairs {
		b.WriteString(url.QueryEscape(p.name) + "=" + url.QueryEscape(p.value) + "&")
	}
	return b.String(), true
}

// Equivalent reports whether two queries are equivalent. A query is empty or
// begins with its question mark.
func (r Rule) Equivalent(a, b string) bool {
	if a == b {
		return true
	}
	if !r.unordered && !r.others && len(r.names) == 0 {
		return false
	}
	formA, okA := r.Canonical(a)
	formB, okB := r.Canonical(b)
	return okA && okB && formA == formB
}
