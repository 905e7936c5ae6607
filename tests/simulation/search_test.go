package simulation

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
)

// Queries of URLs, and the No-Vary-Search of resources. Records have the same
// path for all URLs that the rule of a resource makes equivalent. So the rules
// of the oracle hold for these as for one URL.

// noVarySearches are fields that resources have, and what is compared by them.
var noVarySearches = map[string]struct {
	names   []string // of parameters that do not matter
	ordered bool     // the order of parameters matters
}{
	"":                         {nil, true},
	"key-order":                {nil, false},
	`params=("x")`:             {[]string{"x"}, true},
	`params=("x"), key-order`:  {[]string{"x"}, false},
	`params, except=("id")`:    {[]string{"x", "y"}, true},
	`params=("x" "y" "id")`:    {[]string{"x", "y", "id"}, true},
	`params`:                   {[]string{"x", "y", "id"}, true},
	`params=("x"), except=(y)`: {nil, true}, // malformed, so it has no effect
}

// searches are the queries of URLs.
var searches = []string{"", "x=1", "x=2", "id=1", "id=2&x=1", "id=1&y=1", "y=1&id=1", "y=1&x=1&id=1"}

// searchFor gives the URLs of some programs queries, and the resources rules
// for these.
func searchFor(r *rand.Rand, p *program) {
	if !oneIn(r, 4) {
		return
	}
	var fields []string
	for field := range noVarySearches {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	for i := range p.resources {
		p.resources[i].noVarySearch = pick(r, fields...)
	}
	few := []string{pick(r, searches...), pick(r, searches...), pick(r, searches...)}
	for i := range p.actions {
		p.actions[i].asked = pick(r, few...)
		if oneIn(r, 8) {
			p.actions[i].asked = pick(r, searches...)
		}
	}
}

// pathOf returns what records call a URL, and the content of a QUERY for it.
func (p *program) pathOf(u *url.URL, content string) string {
	is := noVarySearches[""]
	for _, res := range p.resources {
		if res.path == u.Path {
			is = noVarySearches[res.noVarySearch]
		}
	}
	name := func(parameter string) string { name, _, _ := strings.Cut(parameter, "="); return name }
	parameters := slices.DeleteFunc(strings.Split(u.RawQuery, "&"), func(parameter string) bool {
		return parameter == "" || slices.Contains(is.names, name(parameter))
	})
	if !is.ordered {
		slices.SortStableFunc(parameters, func(a, b string) int { return strings.Compare(name(a), name(b)) })
	}
	path := u.Path
	if len(parameters) > 0 {
		path += "?" + strings.Join(parameters, "&")
	}
	if content != "" {
		path += "#" + content
	}
	return path
}

// url returns the URL that an action asks for.
func (p *program) url(a *action) *url.URL {
	return &url.URL{Scheme: "http", Host: "origin.test", Path: p.resources[a.resource].path, RawQuery: a.asked}
}

// urlAsked returns a recorded path without the content of a QUERY.
func urlAsked(path string) string {
	path, _, _ = strings.Cut(path, "#")
	return path
}

// pathAsked returns a recorded path without the query of the URL, too.
func pathAsked(path string) string {
	path, _, _ = strings.Cut(urlAsked(path), "?")
	return path
}
