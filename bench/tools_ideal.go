package main

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The requests and bytes that an ideal cache transfers for a tool.

// transfer counts the requests of a tool, and those that reach the origin.
type transfer struct {
	asked    int64 // requests, including the ones that follow redirects
	requests int64 // at the origin
	same     int64 // of the requests at the origin, confirmed by a 304
	bytes    int64 // of bodies
}

// ideal computes what an ideal cache transfers. It keeps all that HTTP allows,
// for one user, and uses it while its explicit lifetime lasts. Then it
// validates, and names all tags that it has for the URL. It guesses no
// lifetimes. A redirect is a response like any other.
func (t *tool) ideal() (sum transfer) {
	type held struct {
		tags []string // that its server has sent
		date int      // the version that it has, for validation by date
	}
	fresh := make(map[string]time.Duration) // by URL and the fields of Vary: fresh until then
	target := make(map[string]string)       // of redirects that are kept
	kept := make(map[string]*held)          // by URL
	for _, c := range t.calls {
		url := c.path
		for range 10 {
			path, _, _ := strings.Cut(url, "?")
			p := t.pages[path]
			sum.asked++
			key := url + "\x00" + p.variant(c)
			if until, ok := fresh[key]; ok && c.at < until && c.directive != "max-age=0" {
				if p.location == nil {
					break
				}
				url = target[key]
				continue
			}
			sum.requests++
			if p.lifetime() > 0 {
				fresh[key] = c.at + p.lifetime()
			}
			if p.location != nil {
				url = p.location(c.at)
				target[key] = url
				continue
			}
			version := p.version(c.at)
			body := p.content(path, c.accept, version)
			sent, known := p.tagFor(body, c.token)
			k := kept[url]
			confirmed := p.status == 0 && k != nil && (known != "" && slices.Contains(k.tags, known) || p.tag == noTag && p.dated && k.date == version)
			if confirmed {
				sum.same++
			} else {
				sum.bytes += body.size
			}
			if p.cacheControl == "no-store" {
				break
			}
			if k == nil {
				k = &held{}
				kept[url] = k
			}
			k.date = version
			if sent != "" && !slices.Contains(k.tags, sent) {
				k.tags = append(k.tags, sent)
			}
			break
		}
	}
	return sum
}

// variant is what selects a stored response besides its URL: the values of the
// request fields in Vary.
func (p *page) variant(c call) (v string) {
	for _, field := range p.vary {
		switch field {
		case "Accept":
			v += " " + c.accept
		case "Authorization":
			v += " " + c.token
		}
	}
	return v
}

// allows reports whether a cache may give a version of a page at a time: it is
// the present one, or was while a lifetime lasted that is not over.
func (p *page) allows(version int, c call) bool {
	oldest := c.at
	if c.directive != "max-age=0" {
		oldest -= p.lifetime()
	}
	return p.version(max(oldest, 0)) <= version && version <= p.version(c.at)
}

// hits is the share of requests that did not reach the origin, in percent.
func (t transfer) hits() float64 { return 100 * (1 - float64(t.requests)/float64(t.asked)) }

// reused is the share of requests that were answered with a stored body, some
// after a 304, in percent.
func (t transfer) reused() float64 {
	return 100 * (1 - float64(t.requests-t.same)/float64(t.asked))
}

// seedOf makes seeds of names.
func seedOf(name string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, name)
	return h.Sum64()
}

// statusOf is the status of a page.
func (p *page) statusOf() int {
	if p.status == 0 {
		return http.StatusOK
	}
	return p.status
}
