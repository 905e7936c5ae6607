//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package store

// noatime does not exist on these systems.
const noatime = 0

// stampFile does nothing: no call is known here that sets the mtime of an open file to
// the nanosecond.
func stampFile(int) int64 { return 0 }
