package store

import "syscall"

// noatime keeps reading from counting as use.
const noatime = syscall.O_NOATIME
