package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/store/internal/entryset"
)

// This file reads all keys, or those with a prefix. Keys are digests, so that
// tools that look for a host must read every key. Of a file without a match,
// only the URLs are decoded.

const (
	// maxReaders is how many goroutines read shards for a caller of All, one
	// for each processor. Most of the time of reading a small file is spent in
	// the system.
	maxReaders = 8

	// batchKeys and batchBytes limit what a reader reads ahead of the caller:
	// so many keys, until their files have so many bytes together.
	batchKeys  = 64
	batchBytes = 256 << 10

	// bufferedKey is the size of most files of keys, in bytes.
	bufferedKey = 8 << 10
)

// batch is a part of what All returns.
type batch struct {
	entries []*Entry
	failed  error // something could not be read
	ended   error // nothing more is read

	panicked any // what match panicked with, for the caller's goroutine
}

// All implements [Store]. If something cannot be read, All still returns the
// rest; the error comes last and joins all that failed.
func (d *Disk) All(ctx context.Context, prefix string) iter.Seq2[*Entry, error] {
	return d.all(ctx, prefix, nil)
}

// Matching is [Disk.All] for the entries whose URL matches. It takes about half
// the time of All if few do. Several goroutines call match, at the same time.
func (d *Disk) Matching(ctx context.Context, prefix string, match func(url string) bool) iter.Seq2[*Entry, error] {
	return d.all(ctx, prefix, match)
}

// all is Matching, where nil matches everything.
func (d *Disk) all(ctx context.Context, prefix string, match func(url string) bool) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		err := CheckPrefix(prefix)
		if err == nil {
			err = d.begin(ctx)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		var failed []error
		take := func(b batch) bool {
			for _, e := range b.entries {
				if !yield(e, nil) {
					return false
				}
			}
			if b.failed != nil {
				failed = append(failed, b.failed)
			}
			return b.ended == nil || yield(nil, b.ended) && false
		}
		if !d.readShards(ctx, shardsOf(prefix), prefix, match, take) {
			return
		}
		if err := errors.Join(failed...); err != nil {
			yield(nil, err)
		}
	}
}

// shardsOf lists the shards that may have keys with a prefix.
func shardsOf(prefix string) (shards []int) {
	for shard := range shardCount {
		if name := shardName(shard); strings.HasPrefix(name, prefix) || strings.HasPrefix(prefix, name) {
			shards = append(shards, shard)
		}
	}
	return shards
}

// readShards calls take for the keys of shards, until it returns false. Several
// goroutines read the files, but only the caller's calls take. They have ended
// when readShards returns.
func (d *Disk) readShards(ctx context.Context, shards []int, prefix string, match func(url string) bool, take func(batch) bool) bool {
	readers := min(len(shards), runtime.GOMAXPROCS(0), maxReaders)
	if readers == 1 {
		r := shardReader{d: d, match: match}
		return !slices.ContainsFunc(shards, func(shard int) bool { return !r.readShard(ctx, shard, prefix, take) })
	}
	batches, stop := make(chan batch), make(chan struct{})
	var next atomic.Int32
	var running sync.WaitGroup
	give := func(b batch) bool {
		select {
		case batches <- b:
			return true
		case <-stop:
			return false
		}
	}
	for range readers {
		running.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					give(batch{panicked: p})
				}
			}()
			r := shardReader{d: d, match: match}
			for i := int(next.Add(1)); i <= len(shards); i = int(next.Add(1)) {
				if !r.readShard(ctx, shards[i-1], prefix, give) {
					return
				}
			}
		})
	}
	go func() {
		running.Wait()
		close(batches)
	}()
	defer running.Wait()
	defer close(stop)
	for b := range batches {
		if b.panicked != nil {
			panic(b.panicked)
		}
		if !take(b) {
			return false
		}
	}
	return true
}

// shardReader reads shards in one goroutine.
type shardReader struct {
	d     *Disk
	match func(url string) bool // nil: all match
	buf   []byte                // for a file, until it is known to match
}

// readShard calls take for the keys of a shard, until it returns false.
func (r *shardReader) readShard(ctx context.Context, shard int, prefix string, take func(batch) bool) bool {
	keys, err := r.d.keys(shard, prefix)
	if err != nil || len(keys) == 0 {
		return take(batch{failed: err})
	}
	dir, err := r.d.openAnew(shard)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.As(err, new(noDirError)):
		return true
	case err != nil:
		return take(batch{failed: opError("list", err)})
	}
	defer dir.release()
	for len(keys) > 0 {
		b, n := r.readBatch(ctx, dir, keys)
		if !take(b) {
			return false
		}
		keys = keys[n:]
	}
	return true
}

// readBatch reads at least one of the keys of a shard, and returns how many it
// has read.
func (r *shardReader) readBatch(ctx context.Context, dir *shardDir, keys []string) (b batch, n int) {
	var failed []error
	for size := int64(0); n < min(len(keys), batchKeys) && size < batchBytes; n++ {
		if b.ended = r.d.begin(ctx); b.ended != nil {
			break
		}
		var st keyState
		err := retryBusy(func() (err error) {
			st, err = r.read(dir, keys[n])
			return err
		})
		if err != nil {
			failed = append(failed, err)
		}
		size += st.size
		b.entries = append(b.entries, st.entries...)
	}
	b.failed = errors.Join(failed...)
	return b, n
}

// read reads the file of a key, and decodes the entries that match.
func (r *shardReader) read(dir *shardDir, key string) (keyState, error) {
	if r.match == nil {
		st, _, err := r.d.loadIn(dir, key)
		return st, err
	}
	if r.buf == nil {
		r.buf = make([]byte, bufferedKey)
	}
	file := reading{max: maxKeyFile, buf: r.buf}
	now := time.Now().UnixNano()
	b, err := dir.read(key, &file)
	if err == nil && !mayMatch(b, r.match) {
		return keyState{size: file.size}, nil
	}
	if len(b) <= bufferedKey {
		b = bytes.Clone(b) // the entries keep using it
	}
	it := r.d.unreadItem(key, now)
	it.stat = file.fileStat
	st, _, err := r.d.decode(it, b, err)
	st.entries = slices.DeleteFunc(st.entries, func(e *Entry) bool { return !r.match(e.URL) })
	return st, err
}

// keys lists the keys of a shard that begin with prefix.
func (d *Disk) keys(shard int, prefix string) ([]string, error) {
	names, err := d.shardNames(shard)
	if err != nil {
		return nil, opError("list", err)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, prefix) || len(name) != keyLen || !entryset.IsHex(name) || shardOf(name) != shard
	}), nil
}
