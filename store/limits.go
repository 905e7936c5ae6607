package store

import (
	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// Names for the rules that all stores share.
const (
	keyLen      = entryset.KeyLen
	maxVariants = entryset.MaxVariants
	maxMetadata = entryset.MaxMetadata
)

// bodyShare is the part of a store's size limit that one body, or all small
// bodies of one key, may use: one in so many. A single download must not push
// out everything else.
const bodyShare = 4

// metadataFits reports whether an entry without parts is within the limits of a
// store whose keys may use max bytes. It encodes large entries only.
func metadataFits(e *Entry, max int64) bool {
	body := int64(0)
	if e.Length > 0 && e.Length <= inlineMax {
		body = e.Length
	}
	if most := metadataSize(e) + 1024; most <= maxMetadata && most+body <= max {
		return true
	}
	b, err := appendEntry(nil, e)
	return err == nil && len(b)+128 <= maxMetadata && int64(len(b))+body+1024 <= max
}
