package store

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// sampleAll is the number of files up to which a shard is listed whole, under
// its lock. Looking at one file takes some microseconds, so that takes 1 ms. It
// also corrects the size that the usage file has for the shard. Of a larger
// shard only a sample is listed, and a survey lists it whole.
const sampleAll = 256

// keyFiles are the files of a key.
type keyFiles struct {
	key        string
	shard      int
	hasEntries bool  // the file of the key itself exists
	used       int64 // when it was used last, in nanoseconds since 1970
	size       int64 // of it, in whole blocks
	mtime      int64
	blobs      []fileInfo
	owner      *originShare // nil if not known
	sampled    bool         // there may be more bodies than those in blobs
	hasYoung   bool         // one of blobs may wait for the Update that names it
}

type fileInfo struct {
	name  string
	size  int64 // in whole blocks
	mtime int64
}

// total returns how many bytes evicting the key frees.
func (k *keyFiles) total() int64 {
	n := k.size
	for _, b := range k.blobs {
		n += b.size
	}
	return n
}

// shardList is the content of a shard.
type shardList struct {
	bytes int64
	keys  []*keyFiles
	other []fileInfo // drafts, and files that this package did not name
}

// listShard lists a shard. The list is exact if the caller holds the shard's
// lock.
func (d *Disk) listShard(shard int) (*shardList, error) {
	names, err := d.shardNames(shard)
	if err != nil {
		return nil, opError("list", err)
	}
	slices.Sort(names)
	return d.listFiles(shard, names)
}

// listFiles lists some files of a shard. The names must be sorted, so that a
// key comes right before its bodies.
func (d *Disk) listFiles(shard int, names []string) (*shardList, error) {
	list := &shardList{}
	if len(names) == 0 {
		return list, nil
	}
	// The directory is opened again, because the open one may have been
	// replaced since the names were read.
	dir, err := d.openAnew(shard)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(noDirError)):
		return list, nil
	case err != nil:
		return nil, opError("list", err)
	}
	defer dir.release()
	var st fileStat
	for _, name := range names {
		switch err := dir.stat(name, &st); {
		case err == nil && st.regular:
			list.add(shard, name, &st)
		case errors.Is(err, fs.ErrPermission): // then no file of the shard can be looked at
			return nil, opError("list", err)
		}
	}
	return list, nil
}

// listPart lists some files of a shard, in any order. It also looks at the keys
// of their bodies.
func (d *Disk) listPart(shard int, names []string) (*shardList, error) {
	slices.Sort(names)
	names = slices.Compact(names)
	var keys []string // those of bodies that are not among the names
	last := ""
	for _, name := range names {
		key, _, isBlob := strings.Cut(name, "-")
		if isBlob && key != last {
			keys = append(keys, key)
		}
		last = key
	}
	list, err := d.listFiles(shard, names)
	if err != nil || len(keys) == 0 {
		return list, err
	}
	owners, err := d.listFiles(shard, keys)
	if err != nil {
		return nil, err
	}
	for _, o := range owners.keys {
		i, ok := slices.BinarySearchFunc(list.keys, o.key, func(k *keyFiles, key string) int { return strings.Compare(k.key, key) })
		if ok {
			k := list.keys[i]
			k.hasEntries, k.used, k.size, k.mtime = o.hasEntries, o.used, o.size, o.mtime
		}
	}
	return list, nil
}

// add adds a file to the list. The file of a key must come before its bodies.
func (list *shardList) add(shard int, name string, st *fileStat) {
	size := allocated(st.size)
	list.bytes += size
	key, id, isBlob := strings.Cut(name, "-")
	if len(key) != keyLen || !entryset.IsHex(key) || shardOf(key) != shard || isBlob && (len(id) != 2*blobIDLen || !entryset.IsHex(id)) {
		list.other = append(list.other, fileInfo{name, size, st.mtime})
		return
	}
	if n := len(list.keys); n == 0 || list.keys[n-1].key != key {
		list.keys = append(list.keys, &keyFiles{key: key, shard: shard})
	}
	k := list.keys[len(list.keys)-1]
	if isBlob {
		k.blobs = append(k.blobs, fileInfo{name, size, st.mtime})
	} else {
		k.hasEntries, k.used, k.size, k.mtime = true, st.atime, size, st.mtime
	}
}
