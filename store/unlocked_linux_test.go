package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func init() { children["unlocked"] = childUnlocked }

// denyLocks has the system say from now on that it has no file locks.
func denyLocks() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number of the system call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_FLOCK},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}

// childUnlocked has one store make files while another, as if in another
// process, looks for them.
func childUnlocked(dir string) error {
	if err := denyLocks(); err != nil {
		fmt.Println("locks are not denied:", err)
		return nil
	}
	writer, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	reader, err := OpenDisk(dir, DiskOptions{})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(noContext)
	var next atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			reader.Entries(ctx, testKey(int(next.Load())))
		}
	})
	defer wg.Wait()
	defer stop()
	for i := range 500 {
		key := testKey(i)
		next.Store(int32(i))
		if err := putBody(writer, key, pattern(1, 16_000)); err != nil {
			return err
		}
		if es, err := writer.Entries(noContext, key); err != nil || len(es) != 1 {
			return fmt.Errorf("what was just stored: %d entries, %w", len(es), err)
		}
	}
	return nil
}

// TestWithoutLocks makes sure that nobody destroys what another is writing
// where nobody can be kept from it.
func TestWithoutLocks(t *testing.T) {
	if err := child("unlocked", t.TempDir()).Run(); err != nil {
		t.Error(err)
	}
}
