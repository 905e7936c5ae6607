package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"path/filepath"
)

const secretLen = 32

// Secret implements [Store]. The bytes are kept in a file that only its owner
// may read.
//
// It holds no mutex, because a caller may wait here for the lock of a shard.
// Several callers may load the secret at the same time. All of them get the
// secret in the file.
func (d *Disk) Secret(ctx context.Context) ([]byte, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	known := d.secret.Load()
	stale := d.secretStale.Swap(false)
	if known == nil || stale {
		var secret []byte
		err := retryBusy(func() (err error) {
			secret, err = d.loadSecret(ctx)
			return err
		})
		if err != nil {
			if stale {
				d.secretStale.Store(true)
			}
			return nil, opError("secret", err)
		}
		if !d.secret.CompareAndSwap(known, &secret) {
			return bytes.Clone(*d.secret.Load()), nil // another caller has loaded it since
		}
		return bytes.Clone(secret), nil
	}
	return bytes.Clone(*known), nil
}

// loadSecret reads the secret, or makes it.
func (d *Disk) loadSecret(ctx context.Context) ([]byte, error) {
	path := filepath.Join(d.root, "secret")
	b, err := readSecret(path)
	if err == nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if err := d.makeLayout(); err != nil {
		return nil, err
	}
	// Of several callers that find no secret, one makes it. The lock of any
	// shard will do.
	l, err := d.lock(ctx, 0, lockWait)
	if err != nil {
		return nil, err
	}
	defer l.unlock()
	b, err = readSecret(path)
	switch {
	case errors.Is(err, ErrDamaged):
		// Entries that were stored with the old secret can no longer be found.
		// It is evicted in time.
		if err := removeFile(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return b, err
	}
	if err := d.makeSecret(path); err != nil {
		return nil, err
	}
	return readSecret(path)
}

// readSecret reads the file of the secret. The error is ErrDamaged if its
// checksum is wrong.
func readSecret(path string) ([]byte, error) {
	b, err := readFile(path, &reading{max: 4096})
	switch {
	case isUnreadable(path, err):
		return nil, ErrDamaged
	case err != nil:
		return nil, err
	case len(b) != secretLen+4 || crc32.Checksum(b[:secretLen], castagnoli) != binary.LittleEndian.Uint32(b[secretLen:]):
		return nil, ErrDamaged
	}
	return b[:secretLen], nil
}

// makeSecret makes the file of the secret, unless there is one.
func (d *Disk) makeSecret(path string) error {
	b := make([]byte, secretLen, secretLen+4)
	if known := d.secret.Load(); known != nil {
		copy(b, *known) // the directory was removed; the secret in use stays the same
	} else {
		rand.Read(b)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if linked, err := d.linkNew(path, b); linked || err != nil {
		return err
	}
	return writeNew(path, b, &written{owner: d.owner})
}
