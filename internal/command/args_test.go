package command

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExpand(t *testing.T) {
	for line, want := range map[string]string{
		"get -vO u":                 "get -v -O u",
		"get -vofile u":             "get -v -o file u",
		"get -vo file u":            "get -v -o file u",
		"get -o=file u":             "get -o file u",
		"get -j4 u":                 "get -j 4 u",
		"get -sSfL u":               "get -s -S -f -L u",
		"get -o - -":                "get -o - -",
		"get --output - u":          "get --output - u",
		"get --output=-x u":         "get --output=-x u",
		"get -H -x:y u":             "get -H -x:y u",
		"get -- -v -O":              "get -- -v -O",
		"ls -h":                     "ls -h",
		"--version":                 "--version",
		"-v":                        "-v",
		"help get":                  "help get",
		"gte -vO":                   "gte -vO",
		"get -vY u":                 "unknown flag -Y in -vY",
		"get -Y u":                  "unknown flag -Y",
		"get --bogus=secret u":      "unknown flag --bogus",
		"get --v u":                 "unknown flag --v",
		"get -output x u":           "unknown flag -output; did you mean --output?", // and not -o utput
		"get -vö u":                 "unknown flag -ö in -vö",
		"get u -o":                  "-o needs a value",
		"get u --output-dir":        "--output-dir needs a value",
		"--bogus":                   "unknown flag --bogus",
		"get --create-dir u":        "unknown flag --create-dir; did you mean --create-dirs?",
		"get --generate-completion": "unknown flag --generate-completion",
	} {
		args, err := expand(newCommand(io.Discard, io.Discard), append([]string{"cachetrip"}, strings.Fields(line)...))
		got := strings.Join(args[min(1, len(args)):], " ")
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), "\n")
			if f, ok := errors.AsType[*failure](err); !ok || f.code != exitUsage {
				t.Errorf("%s: %v is not bad usage", line, err)
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// FuzzExpand: no argument is lost or made up, and nothing panics.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"-vOo x", "--output=x -", "-- -v", "-\xff", "-ö", "--=", "-="} {
		f.Add(seed)
	}
	root := newCommand(io.Discard, io.Discard)
	f.Fuzz(func(t *testing.T, line string) {
		given := append([]string{"cachetrip", "get"}, strings.Fields(line)...)
		before := slices.Clone(given)
		args, err := expand(root, given)
		if diff := cmp.Diff(before, given); diff != "" {
			t.Fatalf("it changed the arguments:\n%s", diff)
		}
		letters := func(args []string) string {
			return strings.NewReplacer("-", "", "=", "").Replace(strings.Join(args, ""))
		}
		if err == nil && letters(args) != letters(given) {
			t.Fatalf("%q became %q", given, args)
		}
	})
}

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]string{
		"example.com":               "https://example.com",
		"example.com/x?a=b":         "https://example.com/x?a=b",
		"example.com:8080/x":        "https://example.com:8080/x",
		"me@example.com/x":          "https://me@example.com/x",
		"localhost:8080/x":          "http://localhost:8080/x",
		"LOCALHOST/x":               "http://LOCALHOST/x",
		"app.localhost/x":           "http://app.localhost/x",
		"127.0.0.1:8080/x":          "http://127.0.0.1:8080/x",
		"127.1.2.3":                 "http://127.1.2.3",
		"0.0.0.0:80/":               "http://0.0.0.0:80/",
		"[::1]:8080/x":              "http://[::1]:8080/x",
		"[2001:db8::1]/x":           "https://[2001:db8::1]/x",
		"localhost.example.com/x":   "https://localhost.example.com/x",
		"HTTP://example.com/":       "http://example.com/",
		"https://localhost/":        "https://localhost/",
		"http://example.com/a b":    "http://example.com/a%20b",
		"http://h/?q=a b&r=ä%20<\"": "http://h/?q=a%20b&r=%C3%A4%20%3C%22",
		"example.com/https://h/":    "https://example.com/https://h/",
		"":                          `"" is not a URL: it has no host`,
		"/etc/passwd":               `"/etc/passwd" is not a URL: it has no host`,
		"./x":                       `"./x" is not a URL: it has no host`,
		"?a=b":                      `"?a=b" is not a URL: it has no host`,
		"http://":                   `"http://" is not a URL: it has no host`,
		"http:/h/":                  `"http:/h/" is not a URL: after http: there must be //`,
		"HTTPS:h/x":                 `"HTTPS:h/x" is not a URL: after https: there must be //`,
		"http:":                     `"http:" is not a URL: after http: there must be //`,
		"http:8080/x":               "https://http:8080/x",
		"http://:80/":               `"http://:80/" is not a URL: it has no host`,
		"ftp://example.com/":        `"ftp://example.com/" is not an http or https URL`,
		"file:/etc/passwd":          `"file:/etc/passwd" is not an http or https URL`,
		"mailto:me@example.com":     `"mailto:me@example.com" is not an http or https URL`,
		"http://a b/":               `"http://a b/" is not a URL: the host contains " "`,
		"example.com:http/":         `"example.com:http/" is not a URL: the port is not a number`,
		"http://u:SECRET/x@h/?a=b":  `"http://h/?a=b" is not a URL: the port is not a number`,
		"http://u:%zzSECRET@h/":     `"http://h/" is not a URL: "%zz" is no escape; write a percent sign as %25`,
		"http://h/%zz?a=b":          `"http://h/%zz?a=b" is not a URL: "%zz" is no escape; write a percent sign as %25`,
		"http://[::1/":              `"http://[::1/" is not a URL: the ] after the address is missing`,
		"http://h/\x7f":             `"http://h/\x7f" is not a URL: it contains a control character`,
	} {
		u, err := parseURL(raw)
		got := ""
		if err != nil {
			got, _, _ = strings.Cut(err.Error(), "; enter a URL such as https://example.com/")
		} else {
			got = u.String()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}

// FuzzParseURL: parseURL never panics, and its errors never show a password.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"example.com", "[::1]:8080", "http://h:x/", "//", "%", "a:b", "mailto:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parseURL(raw)
		if err == nil && (u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https") {
			t.Fatalf("%q: %v", raw, u)
		}
		if _, err := parseURL("https://me:SECRET@" + raw); err != nil && !strings.Contains(raw, "SECRET") && strings.Contains(err.Error(), "SECRET") {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

func TestOwnURLs(t *testing.T) {
	o := new(own)
	o.add("h/a?k=mine")
	o.add("http://me:SECRET@h/b?k=mine#frag")
	o.add("plain")
	for text, want := range map[string]string{
		"https://h/a?k=mine":                              "https://h/a?k=mine",
		"h/a?k=mine":                                      "h/a?k=mine",
		`Get "https://h/a?k=mine": refused`:               `Get "https://h/a?k=mine": refused`,
		"https://h/a?k=mine: 200 OK":                      "https://h/a?k=mine: 200 OK",
		"https://h/a?k=mine2":                             "https://h/a?k=xxxxx",
		"https://h/a?k=mine&l=other":                      "https://h/a?k=xxxxx&l=xxxxx",
		"https://other/a?k=mine":                          "https://other/a?k=xxxxx",
		"http://me:SECRET@h/b?k=mine#frag":                "http://h/b?k=mine#frag",
		"http://h/b?k=mine":                               "http://h/b?k=mine",
		`Get "http://me:***@h/b?k=mine": EOF`:             `Get "http://h/b?k=xxxxx": EOF`,
		"https://h/a?k=mine and https://h/c?k=SECRET, ok": "https://h/a?k=mine and https://h/c?k=xxxxx",
		"plain": "plain",
	} {
		got := o.text(text, false)
		if strings.HasSuffix(text, ", ok") {
			got = strings.TrimSuffix(strings.TrimSuffix(got, " ok"), ",")
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestMan(t *testing.T) {
	code, page, stderr := command(t, "man")
	if code != exitDone || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	for _, c := range newCommand(io.Discard, io.Discard).Commands {
		if !strings.Contains(page, `.SS "cachetrip `+c.Name) {
			t.Errorf("the page lacks the command %s", c.Name)
		}
		for _, f := range c.VisibleFlags() {
			for _, name := range f.Names() {
				if !strings.Contains(page, strings.ReplaceAll("-"+name, "-", `\-`)) {
					t.Errorf("the page lacks -%s of %s", name, c.Name)
				}
			}
		}
	}
	for line := range strings.Lines(page) {
		if line[0] == '.' && !strings.Contains(" .TH .SH .SS .TP .PP .B .nf .fi ", " "+strings.Fields(line)[0]+" ") {
			t.Errorf("%q is no request of man(7)", line)
		}
	}
	var same bytes.Buffer
	run(t.Context(), []string{"cachetrip", "man"}, &same, io.Discard)
	if same.String() != page {
		t.Error("the page differs from run to run")
	}
}
