//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package store

import "os"

// useTime falls back to the time of change: here, eviction is in the order of writing.
func useTime(fi os.FileInfo) int64 { return fi.ModTime().UnixNano() }

func lockUnsupported(err error) bool { return true }
