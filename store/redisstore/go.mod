module github.com/cachetrip/cachetrip/store/redisstore

go 1.26.0

replace github.com/cachetrip/cachetrip => ../..

require (
	github.com/cachetrip/cachetrip v0.0.0
	github.com/fxamacker/cbor/v2 v2.10.0
	github.com/google/go-cmp v0.7.0
	github.com/redis/rueidis v1.0.79
	github.com/sony/gobreaker/v2 v2.4.0
)

require (
	github.com/dunglas/httpsfv v1.1.2 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/google/btree v1.0.0 // indirect
	github.com/peterbourgon/diskv/v3 v3.0.1 // indirect
	github.com/urfave/cli/v3 v3.14.0 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/term v0.45.0 // indirect
)
