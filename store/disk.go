package store

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/peterbourgon/diskv/v3"
)

const (
	// DefaultMaxBytes is the size limit of a [Disk] if its options have none: 1
	// GiB.
	DefaultMaxBytes = 1 << 30

	// DefaultMemoryBytes is the size of the memory tier if the options have none:
	// 16 MiB, for some thousand responses of an API.
	DefaultMemoryBytes = 16 << 20

	// version is the part of the path that names the format of everything below
	// it.
	version = "v1"
)

// DiskOptions configures a [Disk]. The zero value suits most programs.
type DiskOptions struct {
	// MaxBytes limits the size of the cache's files in bytes, each rounded up
	// to blocks of 4 KiB. The Disk evicts the responses that were not used for
	// longest and keeps the limit within 10 %. 0 means DefaultMaxBytes.
	MaxBytes int64

	// MemoryBytes limits the memory, in bytes, for the metadata and small
	// bodies of keys that are used often. 0 means DefaultMemoryBytes. If it is
	// negative, nothing of that is kept in memory. Beside it, a Disk remembers
	// the origins of keys that it stored, which takes up to a quarter of
	// MemoryBytes, or 200 KB, and which keys are to be evicted next, in up to 2
	// MB.
	MemoryBytes int64

	// Logger gets faults that do not concern a caller, such as damaged files, at
	// debug level. If nil, nothing is logged.
	Logger *slog.Logger
}

// Disk keeps a cache in a directory. It is safe for concurrent use. Any number
// of processes, and of Disks within one, may use the same directory at the same
// time. Each sees with its next call what the others stored. A process may be
// killed at any time. No file is flushed to the device: an entry torn by a
// power cut fails its checksum and is treated as missing.
//
// A Disk has no goroutine between calls. Each call that stores also does a
// little of the work of evicting and of removing leftovers.
//
// A Disk notices within 100 ms if a program without this package changes the
// files: if it removes the directory, for example, or puts a backup in its
// place.
//
// All Disks of a process together keep at most a sixteenth of its file
// descriptors open, for directories. On Linux, a Disk maps a file of 36 KiB
// into memory.
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
	counts   counters
	locks    shardLocks
	leases   leaseFile
	usage    usageFile
	shares   shares
	evictor  evictor
	unusable unusableFiles
	absent   absentKeys

	modeChecked atomic.Int64 // see written

	owner owner // of new files

	squeezed struct { // after the disk was full; see makeSpace
		bytes, until atomic.Int64
		rounds       atomic.Uint64 // counts how often space was made
	}

	closed    atomic.Bool
	evictions atomic.Uint64
	inUse     atomic.Int64 // when noteInUse last looked, in nanoseconds since 1970
	evicted   atomic.Int64 // the residence that the usage file notes; see touchAge
	made      atomic.Int64 // when the cache was made, as it notes
	staging   atomic.Int64 // bytes of all drafts' buffers

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
	now := time.Now().UnixNano()
	if err := checkDirs(d.root, d.tmp, d.data); err != nil {
		return nil, err
	}
	d.dirs.checked.Store(now)
	if err := d.makeLayout(); err != nil {
		d.log.Debug("cachetrip: store: the cache directory cannot be written to", "dir", dir, "error", err)
	} else if err := d.tag(); err != nil {
		d.log.Debug("cachetrip: store: the directory has no tag", "dir", dir, "error", err)
	}
	var page usagePage
	if f, err := d.usageOpen(); err == nil {
		d.readUsageFrom(f, &page) // if that fails, uses are recorded once an hour
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
	d.counts.d = d
	d.evictor.init()

	// diskv tells the paths of files, and moves finished bodies to them. Small
	// files of keys do not go through it; see locked.replace. Its Erase lists a
	// directory each time, and its readers keep descriptors open.
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

// MaxBytes returns the size limit in bytes; see [DiskOptions].
func (d *Disk) MaxBytes() int64 { return d.max }

// Bytes returns how many bytes the cache's files have, as the size limit counts
// them. It reads one small file, however large the cache is, and returns 0 if
// that cannot be read. After a crash it may be too large for up to an hour;
// [Disk.Usage] counts exactly.
func (d *Disk) Bytes() int64 {
	page := pagePool.Get().(*usagePage)
	defer pagePool.Put(page)
	if d.closed.Load() || d.readUsage(page) != nil {
		return 0
	}
	return page.sum()
}

// Evictions returns how many keys this Disk has evicted to keep its size limit.
func (d *Disk) Evictions() uint64 { return d.evictions.Load() }

// Close releases the store. Open bodies and drafts stay readable; every other
// call fails with ErrClosed then. Closing again does nothing. A program that
// ends without Close loses nothing.
func (d *Disk) Close() error {
	if !d.closed.Swap(true) {
		d.usageClose()
		d.dirs.close()
		d.counts.close()
		d.evictor.close()
		d.leases.close()
	}
	return nil
}

// begin returns an error if the store is closed or ctx has ended. Every method
// calls it first.
func (d *Disk) begin(ctx context.Context) error {
	if d.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}
