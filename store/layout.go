package store

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// This file makes, checks and lists the directories of a cache:
//
//	CACHEDIR.TAG
//	v1/usage             the size of each shard
//	v1/counters          counts the changes of the files of keys
//	v1/secret
//	v1/leases            which variants are being fetched, as locks; two small tables
//	v1/tmp/              small files before they get their names
//	v1/data/00/ … ff/    the shards: a file per key, and the large bodies

const cacheDirTag = "Signature: 8a477f597d28d172789f06886806bc55\n" +
	"# This file is a cache directory tag created by cachetrip.\n" +
	"# For information about cache directory tags see https://bford.info/cachedir/\n"

const hexDigits = "0123456789abcdef"

// shardOf returns the shard of a valid key or blob name: its first two digits.
func shardOf(key string) int {
	return strings.IndexByte(hexDigits, key[0])<<4 | strings.IndexByte(hexDigits, key[1])
}

func shardName(shard int) string {
	return string([]byte{hexDigits[shard>>4], hexDigits[shard&15]})
}

func (d *Disk) shardDir(shard int) string {
	return d.data + string(filepath.Separator) + shardName(shard)
}

// path returns the path of the file of a key or of a large body.
func (d *Disk) path(name string) string {
	const sep = string(filepath.Separator)
	return d.data + sep + name[:2] + sep + name
}

// tempSuffix is the end of the name of a draft's file.
const tempSuffix = ".tmp"

// maxNameLen is the length of the longest name of a file in a shard that is
// read.
const maxNameLen = keyLen + len("-") + 2*blobIDLen

// blobName returns the name of the file of a large body.
func blobName(key, id string) string { return key + "-" + id }

// makeLayout makes the directories that are missing, from the cache directory
// down, with their proper modes whatever the umask is.
func (d *Disk) makeLayout() error {
	if fi, err := os.Lstat(d.data); err == nil && fi.IsDir() {
		return nil // data is made last
	}
	if err := makeDirs(d.dir); err != nil {
		return opError("make directory", err)
	}
	fresh, err := makeDir(d.root)
	if err == nil {
		err = d.tag()
	}
	if err == nil {
		err = d.newUsage()
	}
	for _, dir := range []string{d.tmp, d.data} {
		made := false
		if err == nil {
			made, err = makeDir(dir)
		}
		fresh = fresh || made
	}
	if fresh { // what was removed may have been more, as the secret
		d.secretStale.Store(true)
	}
	return opError("make directory", err)
}

// tag writes CACHEDIR.TAG, by which backup programs recognise a cache. It
// leaves a file alone that this package did not write.
func (d *Disk) tag() error {
	path := filepath.Join(d.dir, "CACHEDIR.TAG")
	signature, _, _ := strings.Cut(cacheDirTag, "\n")
	buf := make([]byte, len(cacheDirTag)) // a longer file is somebody else's
	b, err := readFile(path, &reading{max: int64(len(buf)), buf: buf})
	switch {
	case err == nil && !bytes.HasPrefix(b, []byte(signature)): // a crash left only a part of it, or nothing
	case !errors.Is(err, fs.ErrNotExist):
		return nil
	}
	if err := checkDirs(d.root, d.tmp); err != nil {
		return err
	}
	if _, err := makeDir(d.tmp); err != nil {
		return err
	}
	temp := filepath.Join(d.tmp, strconv.FormatUint(rand.Uint64(), 36))
	if err := writeNew(temp, []byte(cacheDirTag), &written{owner: d.owner}); err != nil {
		return err
	}
	if err := rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return nil
}

// makeDirs makes a directory and those above it that do not exist, with their
// proper modes.
func makeDirs(path string) error {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if above := filepath.Dir(path); above != path {
			if err := makeDirs(above); err != nil {
				return err
			}
		}
		_, err := makeDir(path)
		return err
	}
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: path, Err: errNotDir}
	}
	return err
}

// makeDir makes one directory and reports whether it did not exist. It does not
// accept a symbolic link.
func makeDir(path string) (made bool, err error) {
	err = os.Mkdir(path, 0o700)
	if err == nil {
		giveDir(path)
		return true, os.Chmod(path, 0o700)
	}
	if fi, lerr := os.Lstat(path); lerr == nil {
		if !fi.IsDir() {
			return false, &fs.PathError{Op: "mkdir", Path: path, Err: errNotDir}
		}
		return false, nil
	}
	return false, err
}

// makeShardDir makes the directory of a shard and those above it that are
// missing.
func (d *Disk) makeShardDir(shard int) error {
	if err := d.makeLayout(); err != nil {
		return err
	}
	_, err := makeDir(d.shardDir(shard))
	return err
}

// checkShard returns an error if the directory of a shard, or one above it, is
// a symbolic link. The link could lead out of the cache.
func (d *Disk) checkShard(shard int) error {
	return checkDirs(d.root, d.data, d.shardDir(shard))
}

// checkDirs returns an error if one of the paths exists and is not a directory.
func checkDirs(paths ...string) error {
	var st fileStat
	for _, path := range paths {
		if statFile(path, &st) == nil && !st.dir {
			return opError("check directories", &fs.PathError{Op: "open", Path: path, Err: errNotDir})
		}
	}
	return nil
}

// shardNames lists a shard. A symbolic link in its place counts as empty.
func (d *Disk) shardNames(shard int) ([]string, error) {
	if d.checkShard(shard) != nil {
		return nil, nil
	}
	return readNames(d.shardDir(shard))
}

// openNames opens a shard to read its names in parts. It returns nil if there
// is no directory, or a symbolic link in its place.
func (d *Disk) openNames(shard int) (*os.File, error) {
	if d.checkShard(shard) != nil {
		return nil, nil
	}
	return openNames(d.shardDir(shard))
}

// readNames lists a directory. It returns no names if there is none, or a
// symbolic link in its place.
func readNames(dir string) ([]string, error) {
	f, err := openNames(dir)
	if f == nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return names, err
}

// openNames opens a directory. It returns nil if there is none, or a symbolic
// link in its place.
func openNames(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|nofollow, 0)
	if err != nil {
		// Another caller may make or remove it between the two calls.
		if fi, lerr := os.Lstat(dir); errors.Is(errors.Join(err, lerr), fs.ErrNotExist) || lerr == nil && !fi.IsDir() {
			return nil, nil
		}
		return nil, err
	}
	if fi, err := f.Stat(); err == nil && !fi.IsDir() {
		f.Close()
		return nil, nil
	}
	return f, nil
}

// remove removes a file of the shard. That it does not exist is no error.
func (l *locked) remove(name string) error {
	return removed(l.dir.remove(name))
}

// removeFile removes a file. That it does not exist is no error. An empty
// directory in its place is removed as well: this package cannot have made it.
func removeFile(path string) error {
	return removed(os.Remove(path))
}

// removed returns the error of a removal unless the file did not exist.
func removed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// retryBusy repeats op for a moment on Windows. There a file that another
// process has open can be neither replaced nor removed. The caller holds no
// lock of a shard: nobody else could go on while it waits.
func retryBusy(op func() error) error {
	err := op()
	for wait := time.Millisecond; isBusy(err) && wait < 16*time.Millisecond; wait *= 2 {
		time.Sleep(wait)
		err = op()
	}
	return err
}

// createNew makes a file that must not exist.
func (d *Disk) createNew(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|nofollow, 0o600)
	return d.owned(f, err)
}

// owned gives a file, if there was no error, to the owner of the cache. It must
// be a new file: an older one may be a hard link to somebody else's.
func (d *Disk) owned(f *os.File, err error) (*os.File, error) {
	if err == nil {
		setMode(f)
		d.owner.give(f.Fd())
	}
	return f, err
}
