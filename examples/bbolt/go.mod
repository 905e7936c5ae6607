module github.com/cachetrip/cachetrip/examples/bbolt

go 1.26.0

replace github.com/cachetrip/cachetrip => ../..

require (
	github.com/cachetrip/cachetrip v0.0.0
	go.etcd.io/bbolt v1.5.0
)

require (
	github.com/dunglas/httpsfv v1.1.2 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/google/btree v1.0.0 // indirect
	github.com/google/go-cmp v0.7.0 // indirect
	github.com/peterbourgon/diskv/v3 v3.0.1 // indirect
	golang.org/x/sys v0.47.0 // indirect
)
