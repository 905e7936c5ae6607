package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

const secretLen = 32

// Secret implements [Store]. The bytes are kept in a file that only its owner may read.
func (d *Disk) Secret(ctx context.Context) ([]byte, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	d.secretMu.Lock()
	defer d.secretMu.Unlock()
	if stale := d.secretStale.Swap(false); d.secret == nil || stale {
		secret, err := d.loadSecret()
		if err != nil {
			d.secretStale.Store(stale)
			return nil, opError("secret", err)
		}
		d.secret = secret
	}
	return append([]byte(nil), d.secret...), nil
}

// loadSecret reads the secret, or makes it. Whoever links a whole file to the name first has made it.
func (d *Disk) loadSecret() ([]byte, error) {
	path := filepath.Join(d.root, "secret")
	for try := 0; ; try++ {
		var st fileStat
		b, err := readFile(path, 4096, &st, nil)
		if err == nil && len(b) == secretLen+4 &&
			crc32.Checksum(b[:secretLen], castagnoli) == binary.LittleEndian.Uint32(b[secretLen:]) {
			return b[:secretLen], nil
		}
		switch {
		case try == 3:
			return nil, errors.Join(ErrDamaged, err)
		case err == nil || notAFile(path, err):
			// What was stored with the help of the old one will not be found any more, and goes in time.
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		if err := d.makeLayout(); err != nil {
			return nil, err
		}
		if err := d.makeSecret(path); err != nil {
			return nil, err
		}
	}
}

func (d *Disk) makeSecret(path string) error {
	b := make([]byte, secretLen, secretLen+4)
	if copy(b, d.secret) == 0 { // else the directory was taken away, and it goes on with the one in use
		rand.Read(b)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := makeDir(d.tmp); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.tmp, "")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	err = os.Link(f.Name(), path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	// No hard links here: the last of those who start at the same moment wins.
	return os.Rename(f.Name(), path)
}
