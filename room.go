package cachetrip

import (
	"net/http"

	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// Room for what a hit needs, so that few allocations are enough.

// fromStore is a response from the store with all its parts, so that one
// allocation is enough.
type fromStore struct {
	http.Response
	body    stored.Body
	content stored.Content
}

// room is room for what a hit needs: the entries of its look-up, and its
// response.
type room struct {
	entries  [1]*store.Entry
	response fromStore
}
