package store

import (
	"syscall"
	"time"
	"unsafe"
)

// threadTime returns the processor time that the calling thread has used: what something costs on a machine whose
// processors are busy with other work.
func threadTime() time.Duration {
	const clockThreadCPU = 3
	var ts syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockThreadCPU, uintptr(unsafe.Pointer(&ts)), 0)
	return time.Duration(ts.Nano())
}
