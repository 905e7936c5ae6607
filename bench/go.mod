module github.com/cachetrip/cachetrip/bench

go 1.26

require (
	github.com/cachetrip/cachetrip v0.0.0
	github.com/gregjones/httpcache v0.0.0-20190611155906-901d90724c79
)

require (
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/google/btree v1.0.0 // indirect
	github.com/peterbourgon/diskv v2.0.1+incompatible // indirect
	github.com/peterbourgon/diskv/v3 v3.0.1 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/cachetrip/cachetrip => ..
