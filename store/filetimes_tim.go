//go:build linux || openbsd || dragonfly

package store

import "syscall"

func statTimes(s *syscall.Stat_t) (a, m, c syscall.Timespec) { return s.Atim, s.Mtim, s.Ctim }
