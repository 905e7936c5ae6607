package store

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/peterbourgon/diskv/v3"
)

const (
	// DefaultMaxBytes is the size limit of a [Disk] if its options have none: 1 GiB.
	DefaultMaxBytes = 1 << 30

	// DefaultMemoryBytes is the size of the memory tier if the options have none:
	// 16 MiB, for some thousand responses of an API.
	DefaultMemoryBytes = 16 << 20

	// version is the part of the path that names the format of everything below it.
	version = "v1"
)

// DiskOptions configures a [Disk]. The zero value suits most programs.
type DiskOptions struct {
	// MaxBytes limits the size of the cache's files in bytes, each rounded up to
	// blocks of 4 KiB. The Disk evicts the responses that were not used for longest
	// and keeps the limit within 10 %. 0 means DefaultMaxBytes.
	MaxBytes int64

	// MemoryBytes limits the memory, in bytes, for the metadata and small bodies of
	// keys that are used often. 0 means DefaultMemoryBytes. If it is negative,
	// nothing of that is kept in memory. Beside it, a Disk remembers the origins of
	// keys that it stored, which takes up to a quarter of MemoryBytes, or 200 KB.
	MemoryBytes int64

	// Logger gets faults that do not concern a caller, such as damaged files, at
	// debug level. If nil, nothing is logged.
	Logger *slog.Logger
}

// Disk keeps a cache in a directory. Any number of processes, and of Disks
// within one, may use the same directory at the same time. Each sees with its
// next call what the others stored. A process may be killed at any time. No
// file is flushed to the device: an entry torn by a power cut fails its
// checksum and is treated as missing.
//
// A Disk has no goroutine. Each call that stores also does a little of the work
// of evicting and of removing leftovers.
//
// All Disks of a process together keep at most an eighth of its file
// descriptors open. They are for directories and, on Linux, for the files of
// keys that are used often. If another process evicts such a file, the system
// frees its space after the next call for its key here, or after Close. All
// such files together have at most 1/128 of MaxBytes, and at most 8 MiB.
type Disk struct {
	dir  string
	root string // dir/v1
	data string // dir/v1/data
	tmp  string // dir/v1/tmp
	max  int64
	log  *slog.Logger

	dv       *diskv.Diskv
	tier     *tier
	verified verifiedFiles
	dirs     shardDirs
	held     heldFiles
	locks    shardLocks
	leases   leaseFile
	usage    usageFile
	shares   shares
	evictor  evictor
	unusable unusableFiles

	owner owner // of new files

	squeezed struct { // after the disk was full; see makeSpace
		bytes, until atomic.Int64
		rounds       atomic.Uint64 // counts how often space was made
	}

	closed     atomic.Bool
	evictions  atomic.Uint64
	inUse      atomic.Int64 // when noteInUse last looked, in nanoseconds since 1970
	touchAfter atomic.Int64 // nanoseconds; see noteResidence
	staging    atomic.Int64 // bytes of all drafts' buffers

	secret      atomic.Pointer[[]byte] // nil: not loaded yet
	secretStale atomic.Bool            // the directory of the secret was removed or replaced
}

var _ Store = (*Disk)(nil)

// OpenDisk opens the cache in dir. It makes the directory if it does not exist.
// It takes the same time however much the cache holds.
//
// OpenDisk fails if it cannot make dir, or if dir, or a directory on the way to
// it, is not a directory. If the directory exists but cannot be written to,
// OpenDisk succeeds: the Disk serves the cache, and Create and Update return
// errors.
func OpenDisk(dir string, opts DiskOptions) (*Disk, error) {
	if dir == "" {
		return nil, errors.New("cachetrip: store: open: no directory given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, opError("open", err)
	}
	d := newDisk(dir, opts)

	// makeDirs also tells whether an existing dir is a directory.
	if err := makeDirs(dir); err != nil {
		return nil, opError("open", err)
	}
	d.owner = ownerOf(dir)
	// Behind a symbolic link the cache would change files that are not its own.
	for _, path := range []string{d.root, d.data, d.tmp} {
		if fi, err := os.Lstat(path); err == nil && !fi.IsDir() {
			return nil, opError("open", &fs.PathError{Op: "open", Path: path, Err: syscall.ENOTDIR})
		}
	}
	if err := d.makeLayout(); err != nil {
		d.log.Debug("cachetrip: store: the cache directory cannot be written to", "dir", dir, "error", err)
	} else if err := d.tag(); err != nil {
		d.log.Debug("cachetrip: store: the directory has no tag", "dir", dir, "error", err)
	}
	var page usagePage
	if d.readUsage(&page) != nil {
		d.touchAfter.Store(int64(time.Hour)) // read-only, most likely: no use will be recorded
	}
	return d, nil
}

// newDisk returns a Disk for an absolute path. It touches no file.
func newDisk(dir string, opts DiskOptions) *Disk { return newDiskOf(version, dir, opts) }

// newDiskOf is newDisk with the files of another version of the format.
func newDiskOf(version, dir string, opts DiskOptions) *Disk {
	d := &Disk{
		dir:  dir,
		root: filepath.Join(dir, version),
		data: filepath.Join(dir, version, "data"),
		tmp:  filepath.Join(dir, version, "tmp"),
		max:  opts.MaxBytes,
		log:  opts.Logger,
	}
	if d.max <= 0 {
		d.max = DefaultMaxBytes
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if opts.MemoryBytes == 0 {
		opts.MemoryBytes = DefaultMemoryBytes
	}
	d.tier = newTier(max(opts.MemoryBytes, 0))
	d.dirs.init()
	d.shares.init(d.max, opts.MemoryBytes)
	d.held.init(d.max, d.dirs.max) // as many files as directories
	d.evictor.init()

	// diskv tells the paths of files, and moves finished bodies to them. Small files
	// of keys do not go through it; see locked.replace. Its Erase lists a directory
	// each time, and its readers keep descriptors open.
	d.dv = diskv.New(diskv.Options{
		BasePath: d.data,
		TempDir:  d.tmp,
		AdvancedTransform: func(name string) *diskv.PathKey {
			return &diskv.PathKey{Path: []string{name[:2]}, FileName: name}
		},
		InverseTransform: func(p *diskv.PathKey) string { return p.FileName },
		PathPerm:         0o700,
		FilePerm:         0o600,
	})
	return d
}

// Dir returns the absolute path of the cache directory.
func (d *Disk) Dir() string { return d.dir }

// Evictions returns how many keys this Disk has evicted to keep its size limit.
func (d *Disk) Evictions() uint64 { return d.evictions.Load() }

// Close releases the store. Open bodies and drafts stay readable; every other call
// fails with ErrClosed then. Closing again does nothing. A program that ends without
// Close loses nothing.
func (d *Disk) Close() error {
	if !d.closed.Swap(true) {
		d.usageClose()
		d.dirs.close()
		d.held.close()
		d.evictor.close()
		d.leases.close()
	}
	return nil
}

// begin returns an error if the store is closed or ctx has ended. Every method calls
// it first.
func (d *Disk) begin(ctx context.Context) error {
	if d.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}
