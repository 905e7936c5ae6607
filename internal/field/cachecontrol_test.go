package field

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseCacheControl(t *testing.T) {
	// with returns the CacheControl of an empty field, changed by f.
	with := func(change func(*CacheControl)) CacheControl {
		cc := CacheControl{MaxAge: None, MaxStale: None, MinFresh: None, StaleWhileRevalidate: None, StaleIfError: None}
		change(&cc)
		return cc
	}
	nothing := with(func(*CacheControl) {})
	// malformed is like with, for a malformed field.
	malformed := func(change func(*CacheControl)) CacheControl {
		return with(func(cc *CacheControl) { cc.Malformed = true; change(cc) })
	}
	malformedMaxAge := malformed(func(cc *CacheControl) { cc.MaxAge = 0 })
	malformedNoCache := malformed(func(cc *CacheControl) { cc.NoCache = true })
	maxAge := func(seconds int64) CacheControl { return with(func(cc *CacheControl) { cc.MaxAge = seconds }) }
	noCache := with(func(cc *CacheControl) { cc.NoCache = true })
	noCacheFields := func(names ...string) CacheControl {
		return with(func(cc *CacheControl) { cc.NoCacheFields = names })
	}
	tests := []struct {
		name  string
		lines []string
		want  CacheControl
	}{
		{"no line", nil, nothing},
		{"an empty line", []string{""}, nothing},
		{"commas alone", []string{" ,, ,"}, nothing},
		{"unknown directives", []string{`x, y=z, no-stores, xno-store, community="UCI"`}, nothing},
		{"every directive", []string{"no-store, no-cache, must-revalidate, must-understand, public, private, immutable, only-if-cached, max-age=1, max-stale=2, min-fresh=3, stale-while-revalidate=4, stale-if-error=5"}, CacheControl{
			NoStore: true, NoCache: true, MustRevalidate: true, MustUnderstand: true, Public: true, Private: true, Immutable: true, OnlyIfCached: true,
			MaxAge: 1, MaxStale: 2, MinFresh: 3, StaleWhileRevalidate: 4, StaleIfError: 5,
		}},
		{"on lines of their own, in any letter case", []string{"No-Store", "MAX-AGE=1", "", "mUsT-ReVaLiDaTe"}, with(func(cc *CacheControl) { cc.NoStore, cc.MaxAge, cc.MustRevalidate = true, 1, true })},
		{"without white space", []string{"no-store,max-age=1"}, with(func(cc *CacheControl) { cc.NoStore, cc.MaxAge = true, 1 })},
		{"with much of it", []string{"\t no-store \t,\t max-age=1 \t"}, with(func(cc *CacheControl) { cc.NoStore, cc.MaxAge = true, 1 })},
		{"with arguments that are not defined", []string{"no-store=x, public=1, must-revalidate=\"\", private=\"a, b\""}, with(func(cc *CacheControl) { cc.NoStore, cc.Public, cc.MustRevalidate, cc.Private = true, true, true, true })},
		{"before a blank and an argument", []string{"no-store =x, must-revalidate\t="}, malformed(func(cc *CacheControl) { cc.NoStore, cc.MustRevalidate = true, true })},

		{"max-age", []string{"max-age=60"}, maxAge(60)},
		{"max-age in quotes", []string{`max-age="60"`}, maxAge(60)},
		{"max-age in quotes with an escape", []string{`max-age="6\0"`}, maxAge(60)},
		{"max-age in quotes that begin with an escape", []string{`max-age="\60"`}, maxAge(60)},
		{"max-age in single quotes", []string{`max-age='60'`}, maxAge(0)},
		{"max-age in an open quote", []string{`max-age="60`}, malformedMaxAge},
		{"max-age with leading zeros", []string{"max-age=0060"}, maxAge(60)},
		{"max-age without a value", []string{"max-age"}, maxAge(0)},
		{"max-age with an empty value", []string{"max-age="}, malformedMaxAge},
		{"max-age before a blank", []string{"max-age= 60"}, malformedMaxAge},
		{"max-age after a blank", []string{"max-age =60"}, malformedMaxAge},
		{"negative max-age", []string{"max-age=-60"}, maxAge(0)},
		{"max-age with a sign", []string{"max-age=+60"}, maxAge(0)},
		{"max-age with a fraction", []string{"max-age=60.5"}, maxAge(0)},
		{"max-age with an exponent", []string{"max-age=6e1"}, maxAge(0)},
		{"max-age with letters", []string{"max-age=60s"}, maxAge(0)},
		{"max-age in another script", []string{"max-age=٦٠"}, malformedMaxAge},
		{"max-age twice", []string{"max-age=60, max-age=10"}, maxAge(10)},
		{"max-age and nonsense", []string{"max-age=x", "max-age=60"}, maxAge(0)},
		{"the largest max-age", []string{"max-age=2147483648"}, maxAge(MaxSeconds)},
		{"a larger max-age", []string{"max-age=2147483649"}, maxAge(MaxSeconds)},
		{"a max-age that overflows", []string{"max-age=" + strings.Repeat("9", 100)}, maxAge(MaxSeconds)},

		{"max-stale without a value", []string{"max-stale"}, with(func(cc *CacheControl) { cc.MaxStale = MaxSeconds })},
		{"max-stale with an empty value", []string{"max-stale="}, malformed(func(cc *CacheControl) { cc.MaxStale = 0 })},
		{"max-stale with and without a value", []string{"max-stale=5, max-stale"}, with(func(cc *CacheControl) { cc.MaxStale = 5 })},
		{"min-fresh without a value", []string{"min-fresh"}, with(func(cc *CacheControl) { cc.MinFresh = MaxSeconds })},
		{"min-fresh twice", []string{"min-fresh=5, min-fresh=1"}, with(func(cc *CacheControl) { cc.MinFresh = 5 })},
		{"stale-while-revalidate without a value", []string{"stale-while-revalidate"}, with(func(cc *CacheControl) { cc.StaleWhileRevalidate = 0 })},
		{"stale-if-error twice", []string{"stale-if-error=5, stale-if-error=1"}, with(func(cc *CacheControl) { cc.StaleIfError = 1 })},

		{"no-cache", []string{"no-cache"}, noCache},
		{"no-cache with fields", []string{`no-cache="set-cookie, X-a"`}, noCacheFields("Set-Cookie", "X-A")},
		{"no-cache with a field as a token", []string{`no-cache=set-cookie`}, noCacheFields("Set-Cookie")},
		{"no-cache with fields in two directives", []string{`no-cache="a"`, `no-cache="b"`}, noCacheFields("A", "B")},
		{"no-cache with and without fields", []string{`no-cache="a", no-cache`}, with(func(cc *CacheControl) { cc.NoCache, cc.NoCacheFields = true, []string{"A"} })},
		{"no-cache with an empty list", []string{`no-cache=""`}, noCache},
		{"no-cache with no list", []string{`no-cache=`}, malformedNoCache},
		{"no-cache with *", []string{`no-cache="*"`}, noCache},
		{"no-cache with a list that can't be read", []string{`no-cache="a, b c"`}, noCache},
		{"no-cache in an open quote", []string{`no-cache="a`}, malformedNoCache},

		{"directives in quotes are text", []string{`x="no-store, max-age=60", y="a\", no-cache"`}, nothing},
		{"directives after an open quote are not", []string{`x="a, no-store`}, malformed(func(cc *CacheControl) { cc.NoStore = true })},
		{"quotes do not reach into another line", []string{`x="a`, `no-store"`, `no-store`}, malformed(func(cc *CacheControl) { cc.NoStore = true })},
		{"a directive in quotes is none, but restricts", []string{`"no-store"`}, malformed(func(cc *CacheControl) { cc.NoStore = true })},
		{"a directive in quotes is none, and allows nothing", []string{`"public"`}, malformed(func(*CacheControl) {})},
		{"separated by semicolons", []string{"no-cache; private; no-store"}, malformed(func(cc *CacheControl) { cc.NoCache, cc.NoStore = true, true })},
		{"a semicolon before a directive with an argument", []string{"no-store; max-age=0"}, malformed(func(cc *CacheControl) { cc.NoStore, cc.MaxAge = true, 0 })},
		{"a semicolon after a directive with an argument", []string{"max-age=60; no-store"}, malformed(func(cc *CacheControl) { cc.NoStore, cc.MaxAge = true, 0 })},
		{"separated by blanks", []string{"no-cache no-store"}, malformed(func(cc *CacheControl) { cc.NoCache, cc.NoStore = true, true })},
		{"separated by tabs, in any letter case", []string{"Must-Revalidate\tNO-STORE"}, malformed(func(cc *CacheControl) { cc.MustRevalidate, cc.NoStore = true, true })},
		{"separated by letters of another script", []string{"no-store、no-cache"}, malformed(func(cc *CacheControl) { cc.NoCache, cc.NoStore = true, true })},
		{"a colon for an equals sign", []string{"max-age:60"}, malformedMaxAge},
		{"a blank for an equals sign", []string{"max-age 60"}, malformedMaxAge},
		{"two equals signs", []string{"max-age==60"}, malformedMaxAge},
		{"all of it in quotes", []string{`"max-age=60, no-cache"`}, malformed(func(cc *CacheControl) { cc.MaxAge, cc.NoCache = 0, true })},
		{"text after a quoted argument", []string{`no-cache="a" private`}, malformedNoCache},
		{"a good value beside a malformed one", []string{"max-age=60, max-age:5"}, malformedMaxAge},
		{"a good directive beside a malformed one", []string{"max-age=60, a b"}, malformed(func(cc *CacheControl) { cc.MaxAge = 60 })},
		{"what allows does not count", []string{"public; private; immutable; must-understand; only-if-cached"}, malformed(func(*CacheControl) {})},
		{"nor does a malformed one of these", []string{"public =1, immutable="}, malformed(func(*CacheControl) {})},
		{"must-understand does not take back a malformed no-store", []string{"no-store; must-understand"}, malformed(func(cc *CacheControl) { cc.NoStore = true })},
		{"a malformed allowance is for no time", []string{"stale-if-error=60; stale-while-revalidate=60"}, malformed(func(cc *CacheControl) { cc.StaleIfError, cc.StaleWhileRevalidate = 0, 0 })},
		{"malformed directives of a request", []string{"max-stale; min-fresh"}, malformed(func(cc *CacheControl) { cc.MaxStale, cc.MinFresh = 0, MaxSeconds })},
		{"names that only contain those of directives", []string{"a no-storex xno-cache"}, malformed(func(*CacheControl) {})},

		{"must-understand does not override no-store beside what is malformed", []string{"must-understand, no-store; x"}, with(func(cc *CacheControl) { cc.NoStore, cc.Malformed = true, true })},
		{"after a quoted argument", []string{`x="a" , no-store`}, with(func(cc *CacheControl) { cc.NoStore = true })},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(ParseCacheControl(test.lines), test.want, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("ParseCacheControl (-got +want):\n%s", diff)
			}
		})
	}
}

func FuzzParseCacheControl(f *testing.F) {
	for _, lines := range [][2]string{
		{"max-age=60, must-revalidate", "no-store"}, {`no-cache="Set-Cookie, X", private`, ""}, {`x="no-store, a\"", max-stale`, "min-fresh=1"},
		{"no-cache; private; no-store", "no-store; max-age=0"}, {"no-cache no-store", `"max-age=1" public`}, {`x="a, no-store`, `max-age="1`}, {"max-age=-1,,max-age =2", "MAX-AGE=99999999999"},
	} {
		f.Add(lines[0], lines[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		both := ParseCacheControl([]string{a, b})
		for _, seconds := range []int64{both.MaxAge, both.MaxStale, both.MinFresh, both.StaleWhileRevalidate, both.StaleIfError} {
			if seconds < None || seconds > MaxSeconds {
				t.Errorf("%q, %q: %d seconds", a, b, seconds)
			}
		}
		for _, name := range both.NoCacheFields {
			if !IsToken(name) || name == "*" {
				t.Errorf("%q, %q: no-cache for %q", a, b, name)
			}
		}
		// The order of lines does not matter, except for the order of
		// no-cache's fields.
		swapped := ParseCacheControl([]string{b, a})
		if diff := cmp.Diff(both, swapped, cmpopts.IgnoreFields(CacheControl{}, "NoCacheFields")); diff != "" {
			t.Errorf("%q, %q: in the other order (-this +other):\n%s", a, b, diff)
		}
		// Another line can only add restrictions or information. It never
		// removes a restriction.
		one := ParseCacheControl([]string{a})
		switch {
		case one.NoStore && !both.NoStore, one.NoCache && !both.NoCache, one.MustRevalidate && !both.MustRevalidate,
			one.Malformed && !both.Malformed,
			one.MaxAge != None && both.MaxAge > one.MaxAge, one.MaxAge != None && both.MaxAge == None, one.MinFresh > both.MinFresh, len(one.NoCacheFields) > len(both.NoCacheFields):
			t.Errorf("%q: adding %q loosens %+v to %+v", a, b, one, both)
		}
		// Text that makes a member malformed restricts no less than the same
		// text in members of its own.
		members := ParseCacheControl([]string{strings.ReplaceAll(strings.ReplaceAll(a, ";", ","), " ", ",")})
		switch {
		case strings.ContainsAny(a, `"=`): // an argument then ends elsewhere
		case members.NoStore && !one.NoStore, members.NoCache && !one.NoCache, members.MustRevalidate && !one.MustRevalidate,
			members.MaxAge == 0 && one.MaxAge != 0:
			t.Errorf("%q: with commas %+v, as it is %+v", a, members, one)
		}
	})
}
