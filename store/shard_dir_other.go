//go:build !linux

package store

import "errors"

// canReadBelow reports false: no call is known here that follows no symbolic
// link.
func canReadBelow() bool { return false }

func (dir *shardDir) readBelow(string, *reading) ([]byte, error) {
	return nil, errors.ErrUnsupported
}
