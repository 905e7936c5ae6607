package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestCauseOf(t *testing.T) {
	path := func(err error) error { return opError("write", &fs.PathError{Op: "open", Path: "/x", Err: err}) }
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	_, below := OpenDisk(filepath.Join(file, "below"), DiskOptions{})
	_, at := OpenDisk(file, DiskOptions{})
	for _, tt := range []struct {
		err  error
		want Cause
	}{
		{path(syscall.ENOSPC), CauseFull},
		{errors.Join(io.ErrShortWrite, path(syscall.EDQUOT)), CauseFull},
		{path(syscall.EACCES), CauseDenied},
		{path(syscall.EPERM), CauseDenied},
		{path(syscall.EROFS), CauseDenied},
		{path(syscall.ENOENT), CauseVanished},
		{path(syscall.ESTALE), CauseVanished},
		{path(syscall.EMFILE), CauseDescriptors},
		{path(syscall.ENFILE), CauseDescriptors},
		{path(syscall.EISDIR), CauseObstructed},
		{path(syscall.ENOTEMPTY), CauseObstructed},
		{path(syscall.ELOOP), CauseObstructed},
		{at, CauseObstructed},
		{below, CauseObstructed},
		{path(syscall.EFBIG), CauseTooLarge},
		{fmt.Errorf("x: %w", ErrTooLarge), CauseTooLarge},
		{opError("lock", errLocked), CauseLocked},
		{path(syscall.EIO), CauseOther},
		{ErrDamaged, CauseOther},
		{ErrClosed, CauseOther},
		{nil, CauseOther},
	} {
		if got := CauseOf(tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
	seen := map[string]bool{}
	for c := range Cause(Causes) {
		seen[c.String()] = true
	}
	if len(seen) != Causes || Cause(99).String() != "other" {
		t.Errorf("%d names for %d causes", len(seen), Causes)
	}
}
