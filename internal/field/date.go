package field

import (
	"strings"
	"time"
)

// Date parses an HTTP-date in any of its three formats. Names of days, months
// and GMT may be in any letter case (RFC 9111, section 4.2); nothing else may
// differ. A two-digit year that seems to be more than 50 years after now is in
// the past century. RFC 9110, section 5.6.7.
func Date(s string, now time.Time) (t time.Time, ok bool) {
	if t, ok := fixdate(s); ok {
		return t, true
	}
	p := dateParser{rest: s, ok: true}
	var year, day, hour, minute, second int
	var month time.Month
	switch comma := strings.IndexByte(s, ','); {
	case comma == 3: // Sun, 06 Nov 1994 08:49:37 GMT
		p.name(shortDays)
		p.literal(", ")
		day = p.digits(2)
		p.literal(" ")
		month = time.Month(1 + p.name(months))
		p.literal(" ")
		year = p.digits(4)
		p.literal(" ")
		hour, minute, second = p.clock()
		p.literal(" GMT")
	case comma > 3: // Sunday, 06-Nov-94 08:49:37 GMT
		p.name(longDays)
		p.literal(", ")
		day = p.digits(2)
		p.literal("-")
		month = time.Month(1 + p.name(months))
		p.literal("-")
		year = p.digits(2) + now.UTC().Year()/100*100
		if year > now.UTC().Year()+50 {
			year -= 100
		}
		p.literal(" ")
		hour, minute, second = p.clock()
		p.literal(" GMT")
	default: // Sun Nov  6 08:49:37 1994
		p.name(shortDays)
		p.literal(" ")
		month = time.Month(1 + p.name(months))
		p.literal(" ")
		if strings.HasPrefix(p.rest, " ") {
			p.literal(" ")
			day = p.digits(1)
		} else {
			day = p.digits(2)
		}
		p.literal(" ")
		hour, minute, second = p.clock()
		p.literal(" ")
		year = p.digits(4)
	}
	// A second of 60 is a leap second.
	if !p.ok || p.rest != "" || day == 0 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	t = time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	if t.Month() != month {
		return time.Time{}, false // no such day in this month
	}
	return time.Date(year, month, day, hour, minute, second, 0, time.UTC), true
}

// fixdate parses the common case: a date in the preferred format and letter
// case.
func fixdate(s string) (t time.Time, ok bool) {
	const format = "Sun, 06 Nov 1994 08:49:37 GMT"
	if len(s) != len(format) || s[3] != ',' || s[4] != ' ' || s[7] != ' ' || s[11] != ' ' ||
		s[16] != ' ' || s[19] != ':' || s[22] != ':' || s[25:] != " GMT" {
		return time.Time{}, false
	}
	month := strings.Index("JanFebMarAprMayJunJulAugSepOctNovDec", s[8:11])
	weekday := strings.Index("SunMonTueWedThuFriSat", s[:3])
	year, ok1 := parseSeconds(s[12:16])
	day, ok2 := parseSeconds(s[5:7])
	hour, ok3 := parseSeconds(s[17:19])
	minute, ok4 := parseSeconds(s[20:22])
	second, ok5 := parseSeconds(s[23:25])
	if month < 0 || month%3 != 0 || weekday < 0 || weekday%3 != 0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 ||
		day < 1 || day > 31 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	t = time.Date(int(year), time.Month(1+month/3), int(day), int(hour), int(minute), int(second), 0, time.UTC)
	return t, t.Day() == int(day) // otherwise the month has no such day
}

var (
	shortDays = []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	longDays  = []string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}
	months    = []string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}
)

// dateParser parses a date from its beginning. Once a part does not match, ok
// is false.
type dateParser struct {
	rest string
	ok   bool
}

func (p *dateParser) literal(want string) {
	if len(p.rest) < len(want) || !strings.EqualFold(p.rest[:len(want)], want) {
		p.ok = false
		return
	}
	p.rest = p.rest[len(want):]
}

func (p *dateParser) name(names []string) int {
	for i, name := range names {
		if len(p.rest) >= len(name) && strings.EqualFold(p.rest[:len(name)], name) {
			p.rest = p.rest[len(name):]
			return i
		}
	}
	p.ok = false
	return 0
}

func (p *dateParser) digits(n int) int {
	if len(p.rest) < n {
		p.ok = false
		return 0
	}
	value, ok := parseSeconds(p.rest[:n])
	p.ok = p.ok && ok
	p.rest = p.rest[n:]
	return int(value)
}

func (p *dateParser) clock() (hour, minute, second int) {
	hour = p.digits(2)
	p.literal(":")
	minute = p.digits(2)
	p.literal(":")
	second = p.digits(2)
	return hour, minute, second
}
