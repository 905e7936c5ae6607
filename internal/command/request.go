package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/redact"
)

// newRequest returns a request for rawURL with the given fields; see addField.
func newRequest(ctx context.Context, method, rawURL string, fields []string) (*http.Request, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, usagef("%q is not a URL: %s", redact.URL(rawURL, true), parseReason(err))
	}
	req.Header.Set("User-Agent", "cachetrip/"+strings.Trim(version(), "()"))
	for i, line := range fields {
		if err := addField(req, line); err != nil {
			return nil, usagef("the %s -H %w", ordinal(i+1), err)
		}
	}
	return req, nil
}

// addField adds a field to a request: "Name: value", or "Name;" for an empty
// value. "Name:" removes a field, as in curl. The error does not repeat the
// field, because any part of it may be a credential.
func addField(req *http.Request, line string) error {
	name, value, found := strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	removes := found && value == ""
	if !found {
		name, found = strings.CutSuffix(strings.TrimRight(line, " \t"), ";")
	}
	if !found || !field.IsToken(name) || strings.ContainsFunc(value, isControl) {
		return errors.New("is not a header field of the form 'Name: value', 'Name;' or 'Name:'")
	}
	switch name = http.CanonicalHeaderKey(name); {
	case name == "Host" && value == "":
		return errors.New("would send no Host, which every request needs")
	case name == "Host": // net/http takes the host from req.Host
		req.Host = value
	case name == "User-Agent": // net/http sends its own if there is none, and none if it is empty
		req.Header.Set(name, value)
	case removes:
		req.Header.Del(name)
	default:
		req.Header.Add(name, value)
	}
	return nil
}

// ordinal returns n as an ordinal number, such as "2nd".
func ordinal(n int) string {
	if n <= 3 {
		return []string{"first", "second", "third"}[n-1]
	}
	return fmt.Sprintf("%dth", n)
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
