package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// Each stored response has an id, which ls prints and all commands take in
// place of a URL. So a response can be named without the secrets in its URL,
// and a single variant without its fields.

const (
	idLength    = 16 // of the whole id, in hexadecimal digits
	idShown     = 8  // as ls shows it, unless that is ambiguous
	idKeyDigits = 4  // taken from the key, so that finding an id need not list all keys
)

var idForm = regexp.MustCompile(`^[0-9a-f]{6,16}$`)

// isID reports whether an argument is an id or the beginning of one. No public
// host looks like that.
func isID(arg string) bool { return idForm.MatchString(arg) }

// idOf returns the id of a response. It depends on the URL, the identity and
// the variant, and not on what is stored for them.
func idOf(e *store.Entry) string {
	names := make([]string, 0, len(e.Selecting))
	for name := range e.Selecting {
		if !strings.HasPrefix(name, ":") { // the cache's own notes, which may change
			names = append(names, name)
		}
	}
	slices.Sort(names)
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%s", e.Key, e.Method)
	for _, name := range names {
		fmt.Fprintf(sum, "\x00%s\x00%s", name, e.Selecting[name])
	}
	return e.Key[:idKeyDigits] + hex.EncodeToString(sum.Sum(nil))[:idLength-idKeyDigits]
}

// byID returns the stored response with an id, or with the only id that begins
// so.
func (c *cache) byID(ctx context.Context, id string) (*store.Entry, error) {
	found := make(map[string]*store.Entry)
	for e, err := range c.kept.All(ctx, id[:idKeyDigits]) {
		if err != nil {
			return nil, err
		}
		if full := idOf(e); !e.IsNote() && strings.HasPrefix(full, id) {
			found[full] = e
		}
	}
	switch len(found) {
	case 0:
		return nil, notCached("no stored response has the id %s; 'cachetrip ls' lists the ids", id)
	case 1:
		for _, e := range found {
			return e, nil
		}
	}
	return nil, usagef("the id %s is ambiguous: %d responses have ids that begin so; 'cachetrip ls --json' lists whole ids", id, len(found))
}

// requestByID returns a request that selects the stored response with an id.
// The store keeps no credentials, so fields must repeat those of the first
// request.
func (c *cache) requestByID(ctx context.Context, method, id string, fields []string) (*http.Request, error) {
	e, err := c.byID(ctx, id)
	if err != nil {
		return nil, err
	}
	switch {
	case e.URL == "":
		return nil, usagef("the program that stored %s has encrypted its URL; name the URL", id)
	case e.Method != http.MethodGet && e.Method != http.MethodHead:
		return nil, usagef("%s is a response to a %s, whose content is not stored; see 'cachetrip show %s'", id, e.Method, id)
	}
	for name, value := range e.Selecting {
		if !strings.HasPrefix(name, ":") && !digest.MatchString(value) {
			fields = append([]string{name + ":" + value}, fields...)
		}
	}
	req, err := newRequest(ctx, method, e.URL, fields)
	if err != nil {
		return nil, err
	}
	explained, err := c.Explain(req.WithContext(context.Background())) // the mode in ctx may not look at the store
	if err != nil {
		return nil, err
	}
	has := func(other *store.Entry) bool { return idOf(other) == idOf(e) }
	if slices.ContainsFunc(explained.Others, has) || slices.ContainsFunc(explained.Stored, func(s cachetrip.StoredResponse) bool {
		return has(s.Entry) && digest.MatchString(e.Selecting[s.Mismatch])
	}) {
		return nil, usagef("%s is a response to other credentials: repeat them with -H, or see 'cachetrip show %s'", id, id)
	}
	return req, nil
}

// shortIDs returns how many digits tell the ids of the rows apart.
func shortIDs(rows []row) int {
	for n := idShown; n < idLength; n++ {
		seen := make(map[string]bool, len(rows))
		for i := range rows {
			seen[rows[i].ID[:n]] = true
		}
		if len(seen) == len(rows) {
			return n
		}
	}
	return idLength
}
