module github.com/cachetrip/cachetrip

go 1.26

require (
	github.com/creack/pty v1.1.24
	github.com/dunglas/httpsfv v1.1.2
	github.com/gofrs/flock v0.13.1
	github.com/google/go-cmp v0.7.0
	github.com/peterbourgon/diskv/v3 v3.0.1
	github.com/urfave/cli/v3 v3.14.0
	golang.org/x/sys v0.47.0
	golang.org/x/term v0.45.0
)

require github.com/google/btree v1.0.0 // indirect
