package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// smallDisk mounts a file system of so many MiB and returns its directory.
func smallDisk(t *testing.T, kind string, mib int) string {
	t.Helper()
	mount := t.TempDir()
	dir := mount
	size := int64(mib) << 20
	var err error
	switch kind {
	case "tmpfs":
		err = syscall.Mount("tmpfs", mount, "tmpfs", 0, "mode=700,size="+strconv.FormatInt(size, 10))
	case "ext4":
		image := emptyImage(t, size)
		err = commands("mkfs.ext4 -q -F "+image, "mount -o loop "+image+" "+mount)
	case "quota": // of btrfs, which is one for root as well
		image := emptyImage(t, 256<<20)
		dir = filepath.Join(mount, "limited")
		err = commands("mkfs.btrfs -q "+image, "mount -o loop "+image+" "+mount)
		if err == nil {
			if err = commands("btrfs quota enable "+mount, "btrfs subvolume create "+dir, fmt.Sprintf("btrfs qgroup limit %dM %s", mib, dir)); err != nil {
				syscall.Unmount(mount, syscall.MNT_DETACH)
			}
		}
	}
	if err != nil {
		t.Skipf("a %s of %d MiB cannot be mounted here, as only root may: %v", kind, mib, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// emptyImage makes a file of so many bytes, for a file system, and returns its
// path.
func emptyImage(t *testing.T, size int64) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	return image
}

// commands runs commands until one fails.
func commands(lines ...string) error {
	for _, line := range lines {
		args := strings.Fields(line)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w %s", line, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// fillDisk writes to a file until there is no space for more.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size >= 1<<10; {
		switch _, err := f.Write(make([]byte, size)); {
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
}

// TestSmallDisk stores more than a disk of 40 MiB, or a quota of as much, can
// hold, with the default limit of 1 GiB. The cache goes on storing, and so can
// the user.
func TestSmallDisk(t *testing.T) {
	for _, kind := range []string{"ext4", "tmpfs", "quota"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "quota" {
				testtier.LongOnly(t, "waits for the file system to commit")
			}
			mount := smallDisk(t, kind, 40)
			dir := filepath.Join(mount, "cache")
			d := openTest(t, dir, DiskOptions{})
			size := func(i int) int { return []int{500, 3_000, 12_000, 40_000, 200_000}[i%5] }
			failed, stored := 0, 0
			put := func(n int) {
				t.Helper()
				for range n {
					if err := putBody(d, testKey(stored), pattern(byte(stored), size(stored))); err != nil {
						t.Logf("storing %d bytes: %v", size(stored), err)
						failed++
					}
					stored++
				}
			}
			// btrfs counts what was removed until it commits. It changes a file by
			// writing new blocks, and so no file at all once a filler has the last one.
			copies := kind == "quota"
			user := func(when string, size int) {
				t.Helper()
				if copies {
					syscall.Sync()
				}
				// One use of the cache frees no more than a request can wait for, which
				// is little on a busy machine. So the next uses go on.
				path := filepath.Join(mount, "user")
				for try := 0; ; try++ {
					err := os.WriteFile(path, make([]byte, size), 0o600)
					os.Remove(path)
					if err == nil {
						break
					}
					if try == 5 {
						t.Errorf("%s: the user cannot write %d bytes: %v", when, size, err)
						break
					}
					put(20)
				}
			}
			recent := func(when string) {
				t.Helper()
				there := 0
				for i := stored - 100; i < stored; i++ {
					for _, e := range mustEntries(t, d, testKey(i)) {
						if b, err := readBody(d, e); err != nil || !bytes.Equal(b, pattern(byte(i), size(i))) {
							t.Errorf("%s: wrong bytes or %v", when, err)
						}
						there++
					}
				}
				if there < 95 {
					t.Errorf("%s: %d of the last 100 responses are there", when, there)
				}
			}

			rounds := testtier.Pick(1, 20)
			if copies {
				rounds = testtier.Pick(2, 5) // each takes seconds
			}
			for range rounds {
				put(500) // 25 MiB
				user("after storing", 300_000)
			}
			recent("after storing")
			if u, err := d.Usage(t.Context()); err != nil || u.Bytes < 20<<20 {
				t.Errorf("the cache has only %d bytes, %v", u.Bytes, err)
			}

			// Processes that live shortly do the same together.
			for range rounds {
				for range 10 {
					d.Close()
					d = openTest(t, dir, DiskOptions{})
					put(50)
				}
				user("after short processes", 300_000)
			}
			recent("after short processes")

			// The user fills the disk, and then the cache is used a little.
			for range rounds {
				if copies {
					break
				}
				fillDisk(t, filepath.Join(mount, "filler"))
				put(20)
				user("beside a filler", 300_000)
			}
			if failed > stored/100 {
				t.Errorf("%d of %d responses were not stored", failed, stored)
			}
			var page usagePage
			if err := d.readUsage(&page); err != nil {
				t.Fatal(err)
			}
			if got, want := page.sum(), diskBytes(t, dir); got != want {
				t.Errorf("usage says %d bytes, the files take %d", got, want)
			}
			if r, err := d.Verify(t.Context()); err != nil || r.Damaged != 0 {
				t.Errorf("Verify: %+v, %v", r, err)
			}
		})
	}
}
