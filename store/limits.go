package store

import (
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// Names for the rules that all stores share.
const (
	keyLen      = entryset.KeyLen
	maxVariants = entryset.MaxVariants
	maxMetadata = entryset.MaxMetadata
)

// bodyShare is the part of a store's size limit that one body, or all small bodies
// of one key, may use: one in so many. A single download must not push out
// everything else.
const bodyShare = 4

func isHex(s string) bool { return entryset.IsHex(s) }

func checkKey(key string) error { return opError("check key", entryset.CheckKey(key)) }

func checkPrefix(prefix string) error { return opError("check prefix", entryset.CheckPrefix(prefix)) }

// responseTime returns the time by which the rules of entryset compare entries.
func responseTime(e *Entry) time.Time { return e.ResponseTime }

// arrange is [entryset.Arrange].
func arrange(current, next []*Entry) []*Entry { return entryset.Arrange(current, next, responseTime) }

// dropOldest is [entryset.DropOldest].
func dropOldest(current, entries []*Entry) []*Entry {
	return entryset.DropOldest(current, entries, responseTime)
}

// same reports whether next consists of the very entries of current, so that
// nothing needs to be written.
func same(current, next []*Entry) bool { return slices.Equal(current, next) }

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

// checkEntry returns an error unless e can be stored under key and its parts lie
// within their blobs.
func checkEntry(key string, e *Entry) error {
	err := entryset.CheckOwner(key, e.Key)
	for i := range e.Parts {
		if err == nil {
			err = checkPart(&e.Parts[i])
		}
	}
	return opError("check entry", err)
}

// checkPart returns an error unless p lies within its blob.
func checkPart(p *Part) error {
	return entryset.CheckPart(p.Offset, p.Length, p.Skip, p.Blob.Size, p.Blob.Inline)
}
