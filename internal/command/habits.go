package command

import "strings"

// habits are flags of curl, wget and gh that get does not have, with what to do
// instead.
var habits = map[string]string{
	"X request method": "get sends GET, and HEAD with -I",
	"d data data-raw data-binary data-urlencode json F form post-data post-file upload-file G get": "get sends no content; put the values into the URL, after a ?",
	"u user basic password netrc n oauth2-bearer":                                                  "write USER:PASSWORD@ before the host of the URL, or use -H 'Authorization: ...'",
	"b cookie load-cookies":                     "use -H 'Cookie: NAME=VALUE'",
	"c cookie-jar save-cookies":                 "get keeps no cookies; send them with -H 'Cookie: NAME=VALUE'",
	"C continue continue-at":                    "get continues by itself what was interrupted",
	"e referer":                                 "use -H 'Referer: URL'",
	"w write-out":                               "-v tells on standard error what happened, and -i writes the header",
	"D dump-header server-response":             "use -i, or -v, which writes to standard error",
	"m T max-time connect-timeout read-timeout": "use --timeout, which is for a server that sends nothing",
	"t tries retries":                           "use --retry",
	"x proxy":                                   "set HTTPS_PROXY or HTTP_PROXY in the environment",
	"cacert capath ca-certificate E cert":       "certificates are those of the system; set SSL_CERT_FILE for others",
	"no-check-certificate":                      "use -k",
	"r range":                                   "get fetches whole bodies",
	"J remote-header-name content-disposition":  "-O names the file after the URL, and -o as you like",
	"P directory-prefix":                        "use -O with --output-dir",
	"K config":                                  "--input-file reads URLs from a file",
	"U":                                         "use -A",
	"N z timestamping time-cond":                "get asks by itself whether a stale response has changed",
	"R remote-time":                             "-v shows Last-Modified",
	"spider":                                    "use -I",
	"Z":                                         "use -j N",
	"V":                                         "'cachetrip version' shows the version",
	"fail-with-body":                            "that is the default; -f writes no body",
	"max-redirs":                                "get follows up to 10 redirects",
	"cache":                                     "use --max-age",
	"nc no-clobber":                             "get replaces existing files",
	"url":                                       "URLs need no flag",
	"no-verbose nv no-progress-meter":           "use -q",
	"# progress-bar 4 6 a ipv4 ipv6 http1.1 http2 location-trusted g globoff retry-all-errors retry-delay retry-max-time": "leave it out",
}

// habit returns what to do instead of a flag, which has its dashes, or "".
func habit(flag string) string {
	name := strings.TrimLeft(flag, "-")
	for names, advice := range habits {
		for other := range strings.FieldsSeq(names) {
			if other == name {
				return advice
			}
		}
	}
	return ""
}
