//go:build !linux

package store

import "os"

// usageMap is not used on these systems; see mapping.
type usageMap struct{ file *os.File }

func newUsageMap(*os.File, uintptr, string) *usageMap { return new(usageMap) }

func (m *usageMap) read(*usagePage) bool { return false }
