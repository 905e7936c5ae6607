//go:build !linux

package store

import (
	"errors"
	"sync/atomic"
)

// mapping is not used on these systems: nobody has checked there what several
// processes see of a mapped file.
type mapping struct{ failed atomic.Bool }

func mappable(string) bool { return false }

func mapFile(string) (*mapping, error) { return nil, errors.ErrUnsupported }

func (m *mapping) stands(string) bool { return false }

func (m *mapping) load(int) uint64 { return 0 }

func (m *mapping) add(int) uint64 { return 0 }

func (m *mapping) grow(int, int32) growth { return growth{} }

func (m *mapping) settle(int, int32) {}

func (m *mapping) growths(*[shardCount]uint64) bool { return false }
