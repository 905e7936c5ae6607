//go:build !linux

package store

import "testing"

func scratchDir(tb testing.TB) string { return tb.TempDir() }
