//go:build darwin || freebsd || netbsd

package store

import "syscall"

func statTimes(s *syscall.Stat_t) (a, m, c syscall.Timespec) {
	return s.Atimespec, s.Mtimespec, s.Ctimespec
}
