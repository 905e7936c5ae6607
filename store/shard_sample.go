package store

import (
	"context"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
)

// This file takes samples of shards. A shard may have very many files: all
// identities of a URL are in one shard. Reading all names of such a shard would
// take too long for one call.

const (
	// sampleKeys is how many keys of a large shard are listed.
	sampleKeys = 256

	// samplePlaces is from how many places of a directory a sample comes. Some
	// file systems list files in the order in which they were made.
	samplePlaces = 4

	// sampleTries limits how many places are tried. Some lie behind the last file.
	sampleTries = 16
)

// sampleShard returns some keys of a shard, chosen at random, with their files.
// Of a small shard it returns all. The usage file says that the shard has so
// many bytes.
func (d *Disk) sampleShard(ctx context.Context, shard int, bytes int64) (*shardList, error) {
	f, err := d.openNames(shard)
	if f == nil {
		if err == nil { // the recorded size may be wrong
			return d.scan(ctx, shard)
		}
		return nil, opError("list", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(sampleAll + 1)
	if err != nil && err != io.EOF {
		return nil, opError("list", err)
	}
	if len(names) <= sampleAll {
		return d.scan(ctx, shard)
	}
	if names, err = sampleNames(f, names, bytes/4096); err != nil {
		return nil, opError("list", err)
	}
	list, err := d.listPart(shard, names)
	if err != nil {
		return nil, err
	}
	for _, k := range list.keys {
		k.sampled = true
	}
	return list, nil
}

// sampleNames returns about sampleKeys names of a directory, from random
// places. The first names are read already. The directory has about files
// names.
//
// A position in a directory is a number that only the file system understands.
// On the usual ones it grows in proportion to the names before it, or to their
// hashes.
func sampleNames(dir *os.File, first []string, files int64) ([]string, error) {
	if runtime.GOOS == "windows" { // there are no positions
		rest, err := dir.Readdirnames(-1)
		names := append(first, rest...)
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		return names[:sampleKeys], err
	}
	at, err := dir.Seek(0, io.SeekCurrent)
	if err != nil {
		return first, nil
	}
	end := float64(at) / float64(len(first)) * max(float64(files), 2*float64(len(first))) * 5 / 4
	var names []string
	for try := 0; try < sampleTries && len(names) < sampleKeys; try++ {
		place := rand.Float64() * end
		more := namesFrom(dir, place)
		// Some file systems go on at the beginning.
		if len(more) == 0 || more[0] == first[0] && place > float64(at) {
			end = place
			continue
		}
		names = append(names, more...)
	}
	if len(names) == 0 {
		return first, nil
	}
	return names, nil
}

// namesFrom returns some names from a place of a directory on. It returns none
// if that is behind the last name.
func namesFrom(dir *os.File, place float64) []string {
	if place >= math.MaxInt64 {
		return nil
	}
	if _, err := dir.Seek(int64(place), io.SeekStart); err != nil {
		return nil
	}
	names, _ := dir.Readdirnames(sampleKeys / samplePlaces)
	return names
}
