package field

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestDate(t *testing.T) {
	at := func(year int, month time.Month, day, hour, minute, second int) time.Time {
		return time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	}
	then := at(1994, time.November, 6, 8, 49, 37)
	invalid := time.Time{}
	tests := []struct {
		s    string
		want time.Time
	}{
		{"Sun, 06 Nov 1994 08:49:37 GMT", then},
		{"Sunday, 06-Nov-94 08:49:37 GMT", then},
		{"Sun Nov  6 08:49:37 1994", then},
		{"Wed Nov 16 08:49:37 1994", at(1994, time.November, 16, 8, 49, 37)},
		{"sun, 06 NOV 1994 08:49:37 gmt", then},
		{"SUNDAY, 06-nov-94 08:49:37 Gmt", then},
		{"sun nOV  6 08:49:37 1994", then},
		{"Mon, 06 Nov 1994 08:49:37 GMT", then}, // the day of the week is not checked

		{"Thu, 29 Feb 2024 00:00:00 GMT", at(2024, time.February, 29, 0, 0, 0)},
		{"Sat, 31 Dec 2016 23:59:60 GMT", at(2017, time.January, 1, 0, 0, 0)},
		{"Mon, 01 Jan 0001 00:00:00 GMT", at(1, time.January, 1, 0, 0, 0)},
		{"Fri, 31 Dec 9999 23:59:59 GMT", at(9999, time.December, 31, 23, 59, 59)},

		{"Sunday, 01-Mar-76 00:00:00 GMT", at(2076, time.March, 1, 0, 0, 0)},
		{"Sunday, 01-Mar-77 00:00:00 GMT", at(1977, time.March, 1, 0, 0, 0)},
		{"Sunday, 01-Mar-00 00:00:00 GMT", at(2000, time.March, 1, 0, 0, 0)},
		{"Sunday, 01-Mar-99 00:00:00 GMT", at(1999, time.March, 1, 0, 0, 0)},

		{"", invalid},
		{"0", invalid},
		{"-1", invalid},
		{"now", invalid},
		{"1994-11-06T08:49:37Z", invalid},
		{"784111777", invalid},
		{"Sun, 06 Nov 1994 08:49:37", invalid},
		{"Sun, 06 Nov 1994 08:49:37 UTC", invalid},
		{"Sun, 06 Nov 1994 08:49:37 +0000", invalid},
		{"Sun, 06 Nov 1994 08:49:37 EST", invalid},
		{"Sun, 06 Nov 1994 08:49:37 GMT ", invalid},
		{" Sun, 06 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", invalid},
		{"Sun,  06 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 06  Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 6 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 06 Nov 94 08:49:37 GMT", invalid},
		{"Sun, 06-Nov-1994 08:49:37 GMT", invalid},
		{"Sunday, 06 Nov 94 08:49:37 GMT", invalid},
		{"Sunday, 06 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 06 November 1994 08:49:37 GMT", invalid},
		{"Sun 06 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 06 Nov 1994 8:49:37 GMT", invalid},
		{"Sun, 06 Nov 1994 08:49 GMT", invalid},
		{"Sun, 06 Nov 1994 08.49.37 GMT", invalid},
		{"Sun, 06 Nov 1994 24:00:00 GMT", invalid},
		{"Sun, 06 Nov 1994 08:60:00 GMT", invalid},
		{"Sun, 06 Nov 1994 08:49:61 GMT", invalid},
		{"Sun, 00 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 31 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 31 Nov 1994 23:59:60 GMT", invalid},
		{"Wed, 29 Feb 2023 00:00:00 GMT", invalid},
		{"Xyz, 06 Nov 1994 08:49:37 GMT", invalid},
		{"Sun, 06 Xyz 1994 08:49:37 GMT", invalid},
		{"Sun Nov 6 08:49:37 1994", invalid},
		{"Sun Nov 06 08:49:37 1994 GMT", invalid},
		{"Sun Nov  0 08:49:37 1994", invalid},
		{",", invalid},
		{"Sun,", invalid},
		{"Sunday,", invalid},
		{"Sun, -6 Nov 1994 08:49:37 GMT", invalid},
	}
	for _, test := range tests {
		t.Run(test.s, func(t *testing.T) {
			got, ok := Date(test.s, now)
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("Date (-got +want):\n%s", diff)
			}
			if ok == test.want.Equal(invalid) && test.s != "Mon, 01 Jan 0001 00:00:00 GMT" {
				t.Errorf("Date: ok is %t", ok)
			}
		})
	}
}

// A date in the format of RFC 850 is at most 50 years ahead of the time at
// which it is parsed.
func TestDateOfTwoDigits(t *testing.T) {
	tests := []struct {
		now, year, want int
	}{
		{1999, 99, 1999}, {1999, 49, 1949}, {2026, 76, 2076}, {2026, 77, 1977}, {2050, 0, 2000}, {2050, 99, 2099},
	}
	for _, test := range tests {
		s := time.Date(2000+test.year, time.March, 1, 0, 0, 0, 0, time.UTC).Format("Monday, 02-Jan-06 15:04:05 GMT")
		got, ok := Date(s, time.Date(test.now, time.June, 1, 0, 0, 0, 0, time.UTC))
		if !ok || got.Year() != test.want {
			t.Errorf("%s read in %d: got %v, %t, want the year %d", s, test.now, got, ok, test.want)
		}
	}
}

// layouts are the formats of HTTP-date in package time's notation.
var layouts = []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC}

func TestDateReadsWhatTimeFormats(t *testing.T) {
	for at := time.Date(1977, time.January, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2077; at = at.Add(1009*time.Hour + 61*time.Second) {
		for _, layout := range layouts {
			s := at.Format(layout)
			if got, ok := Date(s, now); !ok || !got.Equal(at) {
				t.Errorf("%q: got %v, %t, want %v", s, got, ok, at)
			}
		}
	}
}

func FuzzDate(f *testing.F) {
	for _, layout := range layouts {
		f.Add(now.Format(layout))
	}
	for _, s := range []string{"", "0", "Sat, 31 Dec 2016 23:59:60 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "sun nov  6 08:49:37 1994"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := Date(s, now)
		if !ok {
			if !got.IsZero() {
				t.Errorf("%q is no date, but %v", s, got)
			}
			// A string that package time parses and formats unchanged is a
			// date.
			for i, layout := range layouts {
				if at, err := time.Parse(layout, s); err == nil && at.Format(layout) == s && (i != 1 || at.Year() >= 1977) {
					t.Errorf("%q is no date, but by %q it is %v", s, layout, at)
				}
			}
			return
		}
		if got.Location() != time.UTC || got.Nanosecond() != 0 {
			t.Errorf("%q is %v", s, got)
		}
		// Each parsed date can be formatted and parsed again, in the format
		// that loses nothing.
		if again, ok := Date(got.Format(http.TimeFormat), now); got.Year() <= 9999 && (!ok || !again.Equal(got)) {
			t.Errorf("%q is %v, then %v, %t", s, got, again, ok)
		}
		// If package time parses the string as well, both results are equal,
		// except for the century.
		for i, layout := range layouts {
			at, err := time.Parse(layout, s)
			if err != nil {
				continue
			}
			if i == 1 {
				at = at.AddDate((got.Year()-at.Year())/100*100, 0, 0)
			}
			if !got.Equal(at) {
				t.Errorf("%q is %v, but by %q %v", s, got, layout, at)
			}
		}
	})
}
