package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// This file looks at the directory of a round: while workers run, after all
// were killed, and an hour later.

// checkBound checks that the cache is within its size limit. While workers run,
// one pass over the files may count both an evicted file and its replacement.
// So several passes are needed.
func (r *round) checkBound(passes int) {
	limit := r.maxBytes + r.maxBytes/10
	sum := r.measure()
	for i := 1; i < passes && sum > limit; i++ {
		sum = min(sum, r.measure())
	}
	if sum > limit {
		r.violation("the cache takes %d bytes, more than its bound of %d and 10 %%", sum, r.maxBytes)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if passes == 1 {
		r.counts.most = max(r.counts.most, sum)
	}
}

// measure returns the size of all files of the cache, in blocks.
func (r *round) measure() (sum int64) {
	filepath.WalkDir(filepath.Join(r.dir, "v1"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if filepath.Base(filepath.Dir(path)) == "v1" {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			sum += (fi.Size() + 4095) &^ 4095
		}
		return nil
	})
	return sum
}

// examine examines the directory while nobody uses it, and leaves it as if an
// hour had passed.
func (r *round) examine(ctx context.Context) error {
	r.counts.examined++
	r.checkBound(1)
	d, err := store.OpenDisk(r.dir, store.DiskOptions{MaxBytes: r.maxBytes, MemoryBytes: -1})
	if err != nil {
		r.violation("the directory does not open: %v", err)
		return nil
	}
	defer d.Close()
	now := make(map[string]state)
	count := int64(0)
	for _, key := range r.keys() {
		begun := time.Now().UnixNano()
		entries, err := d.Entries(ctx, key)
		if err != nil {
			r.violation("entries of %s: %v", key, err)
			return nil
		}
		now[key] = stateOf(entries)
		h := r.history(key)
		h.readings = append(h.readings, reading{begun: begun, ended: time.Now().UnixNano(), found: now[key], who: "the examination"})
	}
	for key, h := range r.histories {
		for _, text := range h.check(key, r.vanishing) {
			r.violation("%s", text)
		}
		h.forget(now[key])
	}
	report, err := d.Verify(ctx)
	if err == nil && report.Damaged > 0 {
		r.violation("%d keys were damaged after they had been read: %+v", report.Damaged, report)
	}
	if err != nil {
		r.violation("verification: %v", err)
	}
	for e, err := range d.All(ctx, "") {
		if err != nil {
			r.violation("listing: %v", err)
			break
		}
		if count++; now[e.Key] == 0 {
			r.violation("the entry %s of %s was not there before", e.Key, e.URL)
		}
	}
	r.counts.entries = count
	return r.hourLater(ctx, d)
}

func (r *round) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]string, 0, len(r.histories))
	for key := range r.histories {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// hourLater makes leftover files look an hour old, and checks that the next
// user removes them. Users look for leftovers only after some time, or if the
// file "usage" is missing, so hourLater removes that file.
func (r *round) hourLater(ctx context.Context, d *store.Disk) error {
	left, err := r.leftovers(ctx, d)
	if err != nil {
		return err
	}
	r.counts.leftovers += int64(len(left))
	past := time.Now().Add(-2 * time.Hour)
	for _, path := range left {
		if err := os.Chtimes(path, past, past); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(r.dir, "v1", "usage")); err != nil {
		return err
	}
	if d, err = store.OpenDisk(r.dir, store.DiskOptions{MaxBytes: r.maxBytes}); err != nil {
		r.violation("the directory does not open without the file \"usage\": %v", err)
		return nil
	}
	defer d.Close()
	// Each change of the cache examines one of the 256 shards.
	for i := range 300 {
		key := fmt.Sprintf("%02x%062x", i%256, 0)
		entry := &store.Entry{Key: key, Method: "GET", Status: 200, RequestTime: past, ResponseTime: past}
		for _, entries := range [][]*store.Entry{{entry}, nil} {
			err := d.Update(ctx, key, func([]*store.Entry) []*store.Entry { return entries })
			if err != nil && !errors.Is(err, store.ErrTooLarge) {
				r.violation("update an hour later: %v", err)
				return nil
			}
		}
	}
	if left, err = r.leftovers(ctx, d); err != nil {
		return err
	}
	if len(left) > 0 {
		r.violation("%d files of processes that were killed are still there an hour later: %v", len(left), left[:min(len(left), 5)])
	}
	return nil
}

// leftovers returns the files that no entry names.
func (r *round) leftovers(ctx context.Context, d *store.Disk) (left []string, err error) {
	named := make(map[string]bool)
	for e, err := range d.All(ctx, "") {
		if err != nil {
			return nil, err
		}
		named[e.Key] = true
		for _, p := range e.Parts {
			named[e.Key+"-"+p.Blob.ID] = true
		}
	}
	for _, dir := range []string{"data", "tmp"} {
		err := filepath.WalkDir(filepath.Join(r.dir, "v1", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !named[d.Name()] {
				left = append(left, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return left, nil
}
