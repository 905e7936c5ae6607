package redact_test

import (
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/redact"
)

func TestURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.com/":                     "https://example.com/",
		"https://user:pass@example.com/":           "https://example.com/",
		"https://example.com/?a=b&c=d":             "https://example.com/?a=xxxxx&c=xxxxx",
		"https://example.com/?secret":              "https://example.com/?xxxxx",
		"https://example.com/?":                    "https://example.com/?",
		"https://example.com/?a=b=c&&d=":           "https://example.com/?a=xxxxx&&d=xxxxx",
		"https://example.com/#access_token=secret": "https://example.com/#xxxxx",
		"https://example.com/?secret#a=b":          "https://example.com/?xxxxx#xxxxx",
		"https://example.com/a@b?c=d@e":            "https://example.com/a@b?c=xxxxx",
		"/relative?a=b":                            "/relative?a=xxxxx",
		"//user:pass@example.com/":                 "//example.com/",
		"https://[::1]:80/a":                       "https://[::1]:80/a",
		"https://h/https://u:secret@h2/":           "https://h/https://h2/",
		// These are strings that url.Parse refuses.
		"https://u:p@example.com/%zz?a=secret": "https://example.com/%zz?a=xxxxx",
		"http://u:pa%zzsecret@h/?m=a@b":        "http://h/?m=xxxxx",
		"http://u:pa@secret@h/":                "http://h/",
		"http://u:pa secret@h/":                "http://h/",
		"http://u:pa/secret@h/a":               "http://h/a",
		"http://u:pa?secret@h/a":               "http://h/a",
		"http://u:pa#secret@h/a":               "http://h/a",
		"http://u@v:pa/secret@h/a":             "http://h/a",
		"http://h:bad/a":                       "http://h:bad/a",
	} {
		if got := redact.URL(raw, false); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
	if got := redact.URL("https://u@example.com/?a=b#c", true); got != "https://example.com/?a=b#c" {
		t.Error(got)
	}
}

func TestField(t *testing.T) {
	for line, want := range map[string]string{
		"Authorization: Bearer SECRET":                                "Bearer (not shown)",
		"authorization: SECRET":                                       "(not shown)",
		"Authorization:  SECRET":                                      "(not shown)",
		"Authorization: \"SECRET\" SECRET":                            "(not shown)",
		"Proxy-Authorization: Basic SECRET":                           "Basic (not shown)",
		"WWW-Authenticate: Digest nonce=SECRET":                       "Digest (not shown)",
		"Cookie: a=SECRET":                                            "(not shown)",
		"Set-Cookie: a=SECRET":                                        "(not shown)",
		"X-Api-Key: SECRET SECRET":                                    "(not shown)",
		"Private-Token: SECRET":                                       "(not shown)",
		"X-AUTH-TOKEN: SECRET":                                        "(not shown)",
		"X-Amz-Signature: SECRET":                                     "(not shown)",
		"X-Session: SECRET":                                           "(not shown)",
		"My-Credential: SECRET":                                       "(not shown)",
		"Client-Secret: SECRET":                                       "(not shown)",
		"X-Password: SECRET":                                          "(not shown)",
		"Jwt: SECRET":                                                 "(not shown)",
		"X-CSRF: SECRET":                                              "(not shown)",
		"X-Otp: SECRET":                                               "(not shown)",
		"X-Pin: SECRET":                                               "(not shown)",
		"Location: http://u:pa%zzSECRET@h/":                           "http://h/",
		"Location: http://u:pa SECRET@h/":                             "http://h/",
		"Location: /a?b=SECRET, SECRET":                               "/a?b=xxxxx",
		"Content-Location: /a?b=SECRET":                               "/a?b=xxxxx",
		"Refresh: 5; url=http://u:SECRET@h/?a=SECRET":                 "5; url=http://h/?a=xxxxx",
		`Link: <https://h/?a=SECRET>; rel="next"`:                     `<https://h/?a=xxxxx>; rel="next"`,
		`Link: </a?b=SEC RET>,<//u:SECRET@h/>`:                        `</a?b=xxxxx>,<//h/>`,
		`Report-To: {"url":"https://u:SECRET@h/?SECRET","max_age":1}`: `{"url":"https://h/?xxxxx","max_age":1}`,
		"X-Original-Url: /a?b=SECRET":                                 "/a?b=xxxxx",
		"X-Next: <https://h/?a=SECRET":                                "<https://h/?a=xxxxx",
		"Cache-Control: max-age=60, private":                          "max-age=60, private",
		"Accept: text/html, */*;q=0.5":                                "text/html, */*;q=0.5",
		`Etag: W/"a/b"`:                                               `W/"a/b"`,
		"Server: thing/1.0 #3":                                        "thing/1.0 #3",
		"User-Agent: Bot/2 (+http://example.com/bot)":                 "Bot/2 (+http://example.com/bot)",
	} {
		name, value, _ := strings.Cut(line, ": ")
		got := redact.Field(name, value, false)
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", line, got, want)
		}
	}
	if got := redact.Field("Link", "<http://u:p@h/?a=b>", true); got != "<http://h/?a=b>" {
		t.Errorf("with its query: %s", got)
	}
}

// TestTextOfErrors has the messages of net/http and net/url.
func TestTextOfErrors(t *testing.T) {
	for text, want := range map[string]string{
		`Get "http://h/?a=SECRET": dial tcp: refused`:                     `Get "http://h/?a=xxxxx": dial tcp: refused`,
		`parse "http://u:SECRET/x@h/": invalid port ":SECRET" after host`: `parse "http://h/": invalid port after host`,
		`there is no command "x"; did you mean "ls" or "a"?`:              `there is no command "x"; did you mean "ls" or "a"?`,
		`error="Get \"http://h/?a=SECRET\": EOF" url=http://h`:            `error="Get \"http://h/?a=xxxxx": EOF" url=http://h`,
	} {
		if got := redact.Text(text, false); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestHostileLength has a value that would take minutes if each part were
// searched to the end of the value.
func TestHostileLength(t *testing.T) {
	long := "//u:SECRET/@" + strings.Repeat("//:x", 1<<20)
	if got := redact.URL(long, false); strings.Contains(got, "SECRET") {
		t.Error("the secret is in it")
	}
}
