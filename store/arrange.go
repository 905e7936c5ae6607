package store

import (
	"time"

	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// CheckKey returns an error unless key is a key as [Store] describes it. It is
// for implementations of Store.
func CheckKey(key string) error { return opError("check key", entryset.CheckKey(key)) }

// CheckPrefix returns an error unless a key can begin with prefix. It is for
// implementations of [Store.All].
func CheckPrefix(prefix string) error {
	return opError("check prefix", entryset.CheckPrefix(prefix))
}

// Arrange returns the entries to store under key, if they are current now and
// an Update wants next. It is for implementations of [Store.Update], so that
// all follow the same rules:
//
//   - Entries that are not in current come first, as the most recently stored. Both groups keep
//     their order. Nil and duplicates are left out.
//   - A key has at most 64 entries. If there are more, those of current with the oldest
//     ResponseTime are left out.
//
// Arrange returns an error if an entry has another key, or a part that lies
// outside its blob. It changes neither slice.
func Arrange(key string, current, next []*Entry) ([]*Entry, error) {
	next = entryset.Arrange(current, next, responseTime)
	for _, e := range next {
		if err := checkEntry(key, e); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// responseTime returns the time by which the rules of entryset compare entries.
func responseTime(e *Entry) time.Time { return e.ResponseTime }

// checkEntry returns an error unless e can be stored under key and its parts
// lie within their blobs.
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
