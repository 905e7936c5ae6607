package store

import (
	"os"
	"syscall"
	"testing"
)

// scratchDir returns a directory for a test that makes thousands of files. It
// is in memory if there is room, because some file systems take a millisecond
// to free the blocks of a file.
func scratchDir(tb testing.TB) string {
	const shm = "/dev/shm"
	var st syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(shm, &st) != nil || st.Bavail*uint64(st.Bsize) < 1<<30 {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "cachetrip-test-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
