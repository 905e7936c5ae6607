package field

import "strings"

// None stands for a directive that is absent.
const None = -1

// CacheControl holds the directives of a Cache-Control field that a private cache acts upon, of
// requests and responses alike. Numbers are seconds, None if the directive is absent.
// RFC 9111, section 5.2; RFC 5861; RFC 8246.
type CacheControl struct {
	NoStore        bool
	NoCache        bool     // unqualified, or with a list that cannot be read
	NoCacheFields  []string // the canonical names of a qualified no-cache
	MustRevalidate bool
	MustUnderstand bool
	Public         bool
	Private        bool
	Immutable      bool
	OnlyIfCached   bool

	MaxAge               int64
	MaxStale             int64 // MaxSeconds without an argument
	MinFresh             int64
	StaleWhileRevalidate int64
	StaleIfError         int64
}

// ParseCacheControl reads all lines of a Cache-Control field. Names are compared without regard to
// case; unknown directives are ignored. Of duplicates, the value that reuses less counts, and a
// value that can't be read is the one that reuses least.
func ParseCacheControl(lines []string) CacheControl {
	cc := CacheControl{MaxAge: None, MaxStale: None, MinFresh: None, StaleWhileRevalidate: None, StaleIfError: None}
	Members(lines, func(member string) bool {
		name, argument, has := strings.Cut(member, "=")
		if has {
			argument = unquote(argument)
			if bare := trim(name); bare != name {
				name, argument = bare, "" // a directive can't be ignored for a blank, but its argument
			}
		}
		switch {
		case strings.EqualFold(name, "max-age"):
			cc.MaxAge = least(cc.MaxAge, argument)
		case strings.EqualFold(name, "no-cache"):
			if fields := Names([]string{argument}); len(fields) > 0 && !contains(fields, "*") {
				cc.NoCacheFields = append(cc.NoCacheFields, fields...)
			} else {
				cc.NoCache = true
			}
		case strings.EqualFold(name, "no-store"):
			cc.NoStore = true
		case strings.EqualFold(name, "must-revalidate"):
			cc.MustRevalidate = true
		case strings.EqualFold(name, "must-understand"):
			cc.MustUnderstand = true
		case strings.EqualFold(name, "public"):
			cc.Public = true
		case strings.EqualFold(name, "private"):
			cc.Private = true
		case strings.EqualFold(name, "immutable"):
			cc.Immutable = true
		case strings.EqualFold(name, "only-if-cached"):
			cc.OnlyIfCached = true
		case strings.EqualFold(name, "max-stale"):
			if !has {
				argument = "2147483648"
			}
			cc.MaxStale = least(cc.MaxStale, argument)
		case strings.EqualFold(name, "min-fresh"):
			seconds, ok := Seconds(argument)
			if !ok {
				seconds = MaxSeconds
			}
			cc.MinFresh = max(cc.MinFresh, seconds)
		case strings.EqualFold(name, "stale-while-revalidate"):
			cc.StaleWhileRevalidate = least(cc.StaleWhileRevalidate, argument)
		case strings.EqualFold(name, "stale-if-error"):
			cc.StaleIfError = least(cc.StaleIfError, argument)
		}
		return true
	})
	return cc
}

// least returns the lesser of what was read before, if anything, and argument; 0 if that is not a
// number of seconds.
func least(before int64, argument string) int64 {
	seconds, _ := Seconds(argument)
	if before == None {
		return seconds
	}
	return min(before, seconds)
}

// unquote returns the content of a quoted string, and anything else as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || quotedEnd(s) != len(s) {
		return s
	}
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
