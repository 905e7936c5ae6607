package redisstore

import (
	"fmt"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// The limits that all stores share, and the limits of this one.
const (
	maxVariants = entryset.MaxVariants
	maxMetadata = entryset.MaxMetadata // excludes a small body

	// maxValue limits the metadata and small bodies of a key in bytes. A lookup
	// transfers them at once, and every update writes them again. Beyond it the
	// variants with the oldest ResponseTime are dropped.
	maxValue = 1 << 20

	keyLen = entryset.KeyLen
	urlLen = entryset.URLLen
	idLen  = 32 // hexadecimal digits of a blob's ID
)

func checkKey(key string) error { return opError("check key", entryset.CheckKey(key)) }

func checkPrefix(prefix string) error { return opError("check prefix", entryset.CheckPrefix(prefix)) }

// checkEntry returns an error unless e can be stored under key, its parts lie
// within their blobs, and its blobs are of this store.
func checkEntry(key string, e *store.Entry) error {
	if err := entryset.CheckOwner(key, e.Key); err != nil {
		return err
	}
	for i := range e.Parts {
		p := &e.Parts[i]
		if err := entryset.CheckPart(p.Offset, p.Length, p.Skip, p.Blob.Size, p.Blob.Inline); err != nil {
			return err
		}
		if len(p.Blob.ID) != idLen || !entryset.IsHex(p.Blob.ID) {
			return fmt.Errorf("blob %q is not of this store", p.Blob.ID)
		}
	}
	return nil
}

// responseTime returns the time by which the rules of entryset compare entries.
func responseTime(e *store.Entry) time.Time { return e.ResponseTime }
