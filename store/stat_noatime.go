//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package store

// noatime is not known here.
const noatime = 0
