package encrypted

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/sio"

	"github.com/cachetrip/cachetrip/store"
)

// This file encrypts and decrypts bytes, and derives the keys for that.

// derive returns a key for one purpose. Each version of the format has other
// keys, and another secret. So programs with different versions use different
// keys of the inner store, and leave each other's entries alone.
func (s *Store) derive(salt []byte, purpose, key string) ([]byte, error) {
	return hkdf.Key(sha256.New, s.master, salt, "cachetrip encrypted "+strconv.Itoa(s.version)+" "+purpose+" "+key, KeySize)
}

func (s *Store) config(salt []byte, purpose, key string) (sio.Config, error) {
	derived, err := s.derive(salt, purpose, key)
	return sio.Config{MinVersion: sio.Version20, Key: derived}, err
}

func newSalt() []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	return salt
}

// encrypt appends plain, encrypted, to b.
func encrypt(b, plain []byte, config sio.Config) ([]byte, error) {
	sealed := bytes.NewBuffer(slices.Grow(b, int(sealedSize(int64(len(plain))))))
	_, err := sio.Encrypt(sealed, bytes.NewReader(plain), config)
	return sealed.Bytes(), err
}

// decrypt returns the plain text of sealed.
func decrypt(sealed []byte, config sio.Config) ([]byte, error) {
	if len(sealed) == 0 {
		return []byte{}, nil
	}
	// DecryptBuffer expects whole packages.
	size, err := sio.DecryptedSize(uint64(len(sealed)))
	if err != nil {
		return nil, store.ErrDamaged
	}
	plain, err := sio.DecryptBuffer(make([]byte, 0, size), sealed, config)
	if err != nil {
		return nil, store.ErrDamaged
	}
	return plain, nil
}

// sealedSize returns the size of size bytes when they are encrypted.
func sealedSize(size int64) int64 {
	n, err := sio.EncryptedSize(uint64(size))
	if err != nil {
		return 1 << 62 // more than any store keeps
	}
	return int64(n)
}

// The ID of a blob is that of the inner store and the salt of its key, in
// hexadecimal digits.

func outerID(inner string, salt []byte) string { return inner + hex.EncodeToString(salt) }

func innerBlob(blob store.Blob) (inner store.Blob, salt []byte, err error) {
	n := len(blob.ID) - 2*saltSize
	if n <= 0 || blob.Size < 0 {
		return inner, nil, fmt.Errorf("cachetrip: store: encrypted: %w: the blob is not of this store", store.ErrDamaged)
	}
	salt, err = hex.DecodeString(blob.ID[n:])
	if err != nil {
		err = fmt.Errorf("cachetrip: store: encrypted: %w: %v", store.ErrDamaged, err)
	}
	return store.Blob{ID: strings.Clone(blob.ID[:n]), Size: sealedSize(blob.Size)}, salt, err
}
