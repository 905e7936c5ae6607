module github.com/cachetrip/cachetrip/bench

go 1.26

require (
	github.com/bartventer/httpcache v0.14.0
	github.com/cachetrip/cachetrip v0.0.0
	github.com/gregjones/httpcache v0.0.0-20190611155906-901d90724c79
	github.com/sandrolain/httpcache v1.4.2
)

require (
	github.com/dunglas/httpsfv v1.1.2 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/google/btree v1.1.3 // indirect
	github.com/peterbourgon/diskv v2.0.1+incompatible // indirect
	github.com/peterbourgon/diskv/v3 v3.0.1 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/cachetrip/cachetrip => ..
