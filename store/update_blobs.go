package store

import (
	"errors"
	"fmt"
	"io/fs"
)

// This file tells which bodies the entries of a key name.

// checkFiles returns an error unless the bodies that next names for the first
// time exist. It gives their files their names, if this is the first Update
// after Commit. A body that is committed but not named by an entry may have
// been removed.
func (l *locked) checkFiles(key string, current, next []*Entry) error {
	old := fileBlobs(current)
	for id := range fileBlobs(next) {
		if old[id] {
			continue
		}
		if _, ok := parseBlobID(id); !ok {
			return errForeignBlob(id)
		}
		err := l.nameBody(key, id)
		if errors.Is(err, fs.ErrNotExist) { // it has its name already
			var st fileStat
			err = l.dir.stat(blobName(key, id), &st)
		}
		if err != nil {
			return opError("update", err)
		}
	}
	return nil
}

// errForeignBlob is the error for an entry that names a blob of another store.
func errForeignBlob(id string) error {
	return opError("update", fmt.Errorf("blob %q is not of this store", id))
}

// fileBlobs returns the IDs of the blobs that have a file of their own.
func fileBlobs(entries []*Entry) map[string]bool {
	var ids map[string]bool
	for _, e := range entries {
		for i := range e.Parts {
			if b := &e.Parts[i].Blob; b.Inline == nil {
				if ids == nil {
					ids = make(map[string]bool)
				}
				ids[b.ID] = true
			}
		}
	}
	return ids
}

// inlineBlobs returns the blobs that are kept with the entries, each once, and
// the bytes of their records.
func inlineBlobs(entries []*Entry) (blobs []inlineBlob, size int64, err error) {
	seen := make(map[string]bool)
	for _, e := range entries {
		for i := range e.Parts {
			b := &e.Parts[i].Blob
			if b.Inline == nil || seen[b.ID] {
				continue
			}
			id, ok := parseBlobID(b.ID)
			if !ok {
				return nil, 0, errForeignBlob(b.ID)
			}
			seen[b.ID] = true
			blob := inlineBlob{id: id, data: b.Inline}
			blobs = append(blobs, blob)
			size += blob.recordSize()
		}
	}
	return blobs, size, nil
}
