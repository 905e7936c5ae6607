package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
)

// This file gives the file of a draft its final name. Commit takes no lock, so
// the Update that names the body does it, under the lock that it needs anyway.
// A draft that is closed before that does it itself. If the process ends before
// both, the file is a leftover.

func (dr *diskDraft) name() string { return blobName(dr.key, dr.id.String()) }

// temp returns the path of the body until it is committed. It is in the shard,
// so that listing the shard finds everything that counts for it.
func (dr *diskDraft) temp() string { return dr.d.path(dr.tempName()) }

func (dr *diskDraft) tempName() string { return dr.name() + tempSuffix }

// publish writes the rest of the body and its footer. Windows does not rename
// an open file, so the file gets its name here.
func (dr *diskDraft) publish(size int64) error {
	if dr.summed > 0 {
		dr.sums = append(dr.sums, dr.sum)
		dr.sum, dr.summed = 0, 0
	}
	if err := dr.flush(appendFooter(nil, dr.id, size, dr.sums), true); err != nil {
		return err
	}
	if err := dr.truncate(bodyFileSize(size)); err != nil {
		return err
	}
	if runtime.GOOS != "windows" {
		return nil
	}
	return dr.withSpace(func() error { return retryBusy(dr.giveName) })
}

// giveName gives the file of the body its name.
func (dr *diskDraft) giveName() error {
	l, err := dr.lock()
	if err != nil {
		return err
	}
	defer l.unlock()
	if runtime.GOOS == "windows" {
		return dr.renameClosed()
	}
	return l.nameBody(dr.key, dr.id.String())
}

// nameBody gives the file of a committed draft its name, through diskv. The
// error is fs.ErrNotExist if it has its name already, and also if there is no
// such draft.
func (l *locked) nameBody(key, id string) error {
	name := blobName(key, id)
	return l.d.dv.Import(l.d.path(name+tempSuffix), name, true)
}

// nameBody is locked.nameBody for a caller that opens a body between Commit and
// Update. It waits for the lock only if the body has no name yet, and until ctx
// ends. A cache never does that: it opens bodies that an entry names, and Update
// has named those.
func (d *Disk) nameBody(ctx context.Context, key, id string) error {
	if isMissing(d.path(blobName(key, id) + tempSuffix)) {
		return nil
	}
	l, err := d.lock(ctx, shardOf(key), lockWait)
	if err != nil {
		return err
	}
	defer l.unlock()
	if err := l.nameBody(key, id); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil // it has its name
}

// renameClosed closes the file, renames it and opens it again. If that fails,
// the bytes stay readable.
func (dr *diskDraft) renameClosed() error {
	dr.mu.Lock()
	defer dr.mu.Unlock()
	dr.file.Close()
	path := dr.d.path(dr.name())
	err := dr.d.dv.Import(dr.temp(), dr.name(), true)
	if err != nil {
		path = dr.temp()
	}
	f, oerr := os.OpenFile(path, os.O_RDONLY|nofollow, 0)
	if oerr == nil {
		dr.file = f
	}
	return errors.Join(err, oerr)
}
