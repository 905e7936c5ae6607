module github.com/cachetrip/cachetrip

go 1.26
