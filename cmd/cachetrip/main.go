// Command cachetrip fetches URLs through an HTTP cache on disk, looks into such caches, and keeps them
// in order.
//
//	cachetrip get URL...       fetch URLs through the per-user cache
//	cachetrip ls [PATTERN...]  list what is stored
//	cachetrip show URL         show what is stored for a URL
//	cachetrip explain URL      explain what the next request would do, and why
//	cachetrip stats            sum up what is stored, by host, and what it has saved
//	cachetrip verify           check everything that is stored, and remove what is damaged
//	cachetrip prune            make room: remove what is old, stale or too much
//	cachetrip purge URL...     forget URLs, or have them validated before their next use
//	cachetrip clear            remove everything that is stored
//	cachetrip demo             fetch a small site several times and say what each request cost
//
// All but demo work on the cache directory of any program, while it is in use, with --dir DIR or
// CACHETRIP_DIR. Run "cachetrip help" for the options, and "cachetrip completion SHELL" for shell
// completion.
//
// Values in the query of URLs are not shown, unless --show-query is given, and credentials never. On a terminal
// output is coloured, unless NO_COLOR is set, and downloads show their progress.
//
// # Exit codes
//
//	0    done
//	1    it failed: no connection, a broken transfer, a file that cannot be written
//	2    bad usage
//	3    not in the cache: nothing is stored that matches, or that can be used offline
//	4    verify found damage, and removed it
//	22   an answer's HTTP status is 400 or more, as with curl --fail
//	130  interrupted
package main

import "github.com/cachetrip/cachetrip/internal/command"

func main() { command.Main(nil) }
