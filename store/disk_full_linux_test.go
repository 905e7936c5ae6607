package store

import (
	"bytes"
	"errors"
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
	size := int64(mib) << 20
	var err error
	switch kind {
	case "tmpfs":
		err = syscall.Mount("tmpfs", mount, "tmpfs", 0, "mode=700,size="+strconv.FormatInt(size, 10))
	case "ext4":
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, size); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, mount}} {
			if out, rerr := exec.Command(args[0], args[1:]...).CombinedOutput(); rerr != nil {
				err = errors.New(args[0] + ": " + rerr.Error() + " " + strings.TrimSpace(string(out)))
				break
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
	return mount
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
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
}

// TestSmallDisk stores more than a disk of 40 MiB can hold, with the default limit of
// 1 GiB. The cache goes on storing, and so can the user.
func TestSmallDisk(t *testing.T) {
	for _, kind := range []string{"ext4", "tmpfs"} {
		t.Run(kind, func(t *testing.T) {
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
			user := func(when string, size int) {
				t.Helper()
				path := filepath.Join(mount, "user")
				if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
					t.Errorf("%s: the user cannot write %d bytes: %v", when, size, err)
				}
				os.Remove(path)
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

			rounds := testtier.Pick(2, 20)
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
