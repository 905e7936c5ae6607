package field

import (
	"iter"
	"strings"
)

// None is the value of an absent directive.
const None = -1

// CacheControl holds the directives of a Cache-Control field that a private
// cache acts upon, of requests and responses alike. Numbers are seconds, None
// if the directive is absent. RFC 9111, section 5.2; RFC 5861; RFC 8246.
type CacheControl struct {
	NoStore        bool
	NoCache        bool     // unqualified, or with a list that is malformed
	NoCacheFields  []string // the canonical names of a qualified no-cache
	MustRevalidate bool
	MustUnderstand bool
	Public         bool
	Private        bool
	Immutable      bool
	OnlyIfCached   bool
	Malformed      bool // a member of the field is not a directive

	MaxAge               int64
	MaxStale             int64 // MaxSeconds if the directive has no argument
	MinFresh             int64
	StaleWhileRevalidate int64
	StaleIfError         int64
}

// ParseCacheControl parses all lines of a Cache-Control field. Names match in
// any letter case, and unknown directives are ignored. Of duplicates, the value
// that reuses less counts. A malformed value counts as the one that reuses
// least.
//
// A malformed member, such as "no-cache; private; no-store", is searched for
// names of directives, even within quotes. Directives that restrict reuse
// count, as if their values were malformed. Directives that allow reuse do not
// count.
func ParseCacheControl(lines []string) CacheControl {
	cc := CacheControl{MaxAge: None, MaxStale: None, MinFresh: None, StaleWhileRevalidate: None, StaleIfError: None}
	Members(lines, func(member string) bool {
		if name, argument, has, ok := directive(member); ok {
			cc.restrict(name, argument, has)
			cc.allow(name)
			return true
		}
		cc.Malformed = true
		for name := range tokens(member) {
			cc.restrict(name, "", true)
		}
		return true
	})
	if cc.Malformed {
		cc.MustUnderstand = false // which would override no-store
	}
	return cc
}

// directive splits a member into name and argument; ok is false if it is not a
// directive. RFC 9111, section 5.2.
func directive(member string) (name, argument string, has, ok bool) {
	name, argument, has = strings.Cut(member, "=")
	if !IsToken(name) {
		return "", "", false, false
	}
	switch {
	case !has || IsToken(argument):
		return name, argument, has, true
	case argument != "" && argument[0] == '"' && quotedEnd(argument) == len(argument):
		return name, unquote(argument), has, true
	}
	return "", "", false, false
}

// tokens returns the longest tokens in a text.
func tokens(text string) iter.Seq[string] {
	return strings.FieldsFuncSeq(text, func(r rune) bool { return r >= 0x80 || !isTokenChar(byte(r)) })
}

// restrict records a directive that restricts reuse, or whose argument is a
// number of seconds.
func (cc *CacheControl) restrict(name, argument string, has bool) {
	switch strings.ToLower(name) {
	case "max-age":
		cc.MaxAge = least(cc.MaxAge, argument)
	case "no-cache":
		if fields := Names([]string{argument}); len(fields) > 0 && !contains(fields, "*") {
			cc.NoCacheFields = append(cc.NoCacheFields, fields...)
		} else {
			cc.NoCache = true
		}
	case "no-store":
		cc.NoStore = true
	case "must-revalidate":
		cc.MustRevalidate = true
	case "max-stale":
		if !has {
			argument = "2147483648"
		}
		cc.MaxStale = least(cc.MaxStale, argument)
	case "min-fresh":
		seconds, ok := parseSeconds(argument)
		if !ok {
			seconds = MaxSeconds
		}
		cc.MinFresh = max(cc.MinFresh, seconds)
	case "stale-while-revalidate":
		cc.StaleWhileRevalidate = least(cc.StaleWhileRevalidate, argument)
	case "stale-if-error":
		cc.StaleIfError = least(cc.StaleIfError, argument)
	}
}

// allow records a directive that allows more reuse. A malformed member must not
// do so by mistake. The same holds for only-if-cached, which forbids to ask the
// origin.
func (cc *CacheControl) allow(name string) {
	switch strings.ToLower(name) {
	case "must-understand":
		cc.MustUnderstand = true // must-understand overrides no-store
	case "public":
		cc.Public = true
	case "private":
		cc.Private = true
	case "immutable":
		cc.Immutable = true
	case "only-if-cached":
		cc.OnlyIfCached = true
	}
}

// least returns the smaller of before, if it is not None, and argument. An
// argument that is not a number of seconds counts as 0.
func least(before int64, argument string) int64 {
	seconds, _ := parseSeconds(argument)
	if before == None {
		return seconds
	}
	return min(before, seconds)
}

// unquote returns the content of a quoted string.
func unquote(s string) string {
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func contains(list []string, s string) bool {
	for _, member := range list {
		if member == s {
			return true
		}
	}
	return false
}
