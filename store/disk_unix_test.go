//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package store

import (
	"syscall"
	"testing"
)

// setUmask sets the umask for the time of a test.
func setUmask(t *testing.T, mask int) {
	old := syscall.Umask(mask)
	t.Cleanup(func() { syscall.Umask(old) })
}

func makePipe(path string) error { return syscall.Mkfifo(path, 0o600) }
