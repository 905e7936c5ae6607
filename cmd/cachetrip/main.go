// Command cachetrip fetches URLs through an HTTP cache on disk, looks into such
// caches, and keeps them in order.
//
//	cachetrip get URL|ID...         fetch URLs through the per-user cache
//	cachetrip ls [HOST|PATTERN...]  list the stored responses
//	cachetrip show URL|ID           show the stored responses of a URL
//	cachetrip explain URL|ID        explain what the next request would do, and why
//	cachetrip stats                 sum up the stored responses by host, and what the cache has saved
//	cachetrip verify                check all stored responses, and remove damaged ones
//	cachetrip prune                 make room: remove unused or stale responses
//	cachetrip purge URL|ID...       remove stored responses, or have them validated
//	cachetrip clear                 remove all stored responses
//	cachetrip demo                  fetch a small site several times and show the cost of each request
//	cachetrip man                   print the manual page
//	cachetrip version               show the version, and what it was built from
//
// With --dir DIR or CACHETRIP_DIR, all commands but demo work on the cache of
// any program, even while it is in use. Run "cachetrip help" for the options,
// and "cachetrip completion SHELL" for shell completion.
//
// Values in the query of stored URLs are not shown, unless --show-query is
// given or CACHETRIP_SHOW_QUERY=1 is set, and credentials never. On a terminal
// output is coloured, unless NO_COLOR is set, and downloads show their
// progress.
//
// # Exit codes
//
//	0    done
//	1    it failed: no connection, a broken transfer, a file that cannot be written
//	2    bad usage
//	3    not in the cache: no stored response matches, or can be used offline
//	4    verify found damage, and removed it
//	22   a response's HTTP status is 400 or more, as with curl --fail
//	130  interrupted
package main

import "github.com/cachetrip/cachetrip/internal/command"

func main() { command.Main(nil) }
