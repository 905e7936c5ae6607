//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package store

import "os"

// nofollow does not exist on these systems.
const nofollow = 0

// useTime returns the mtime: on these systems the oldest file is evicted first.
func useTime(fi os.FileInfo) int64 { return fi.ModTime().UnixNano() }

func lockUnsupported(err error) bool { return true }
