package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// checkpointed begins a body of want bytes, writes some of it, and stores an
// entry with what Checkpoint makes a part.
func checkpointed(t *testing.T, d *Disk, key string, want int64, written []byte) (dr *diskDraft, part Part) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be renamed")
	}
	draft, err := d.Create(t.Context(), key, want)
	if err != nil {
		t.Fatal(err)
	}
	dr = draft.(*diskDraft)
	if _, err := dr.Write(written); err != nil {
		t.Fatal(err)
	}
	blob, length, err := dr.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if length > 0 {
		part = Part{Length: length, Blob: blob}
		nameBlob(t, d, key, want, part)
	}
	return dr, part
}

// nameBlob stores an entry with a part.
func nameBlob(t *testing.T, d *Disk, key string, want int64, part Part) {
	t.Helper()
	e := testHead(key)
	e.Length, e.Parts = want, []Part{part}
	if err := d.Update(t.Context(), key, func([]*Entry) []*Entry { return []*Entry{e} }); err != nil {
		t.Fatal(err)
	}
}

// TestCheckpoint ends a draft in all ways after a checkpoint: with its process,
// and with all of the announced bytes or fewer.
func TestCheckpoint(t *testing.T) {
	t.Parallel()
	for _, want := range []int64{1 << 20, 1<<20 + 12345, 20 * chunkSize} {
		body := pattern(3, int(want))
		for name, end := range map[string]func(t *testing.T, dr *diskDraft, key string, written []byte) (length int64){
			"killed": func(t *testing.T, dr *diskDraft, key string, written []byte) int64 {
				if _, err := dr.Write(body[len(written) : len(written)+100_000]); err != nil { // no checkpoint has these
					t.Fatal(err)
				}
				if err := dr.flush(nil, false); err != nil {
					t.Fatal(err)
				}
				return -1
			},
			"whole": func(t *testing.T, dr *diskDraft, key string, written []byte) int64 {
				dr.Write(body[len(written):])
				return want
			},
			"broken": func(t *testing.T, dr *diskDraft, key string, written []byte) int64 {
				dr.Write(body[len(written) : len(written)+77_777])
				return int64(len(written)) + 77_777
			},
			"twice": func(t *testing.T, dr *diskDraft, key string, written []byte) int64 {
				dr.Write(body[len(written) : want-1000])
				blob, length, err := dr.Checkpoint()
				if err != nil || length <= int64(len(written)) {
					t.Fatal(length, err)
				}
				nameBlob(t, dr.d, key, want, Part{Length: length, Blob: blob})
				return -1
			},
		} {
			t.Run(fmt.Sprint(want, ", ", name), func(t *testing.T) {
				t.Parallel()
				dir, key := scratchDir(t), testKey(1)
				d := openTest(t, dir, DiskOptions{})
				written := body[:600_000]
				dr, part := checkpointed(t, d, key, want, written)
				if part.Length < 600_000-writeSize-chunkSize || part.Length > 600_000 {
					t.Errorf("%d of %d bytes are a part", part.Length, len(written))
				}
				if length := end(t, dr, key, written); length >= 0 {
					blob, err := dr.Commit()
					if err != nil {
						t.Fatal(err)
					}
					if blob.ID != part.Blob.ID || blob.Size != part.Blob.Size {
						t.Errorf("Commit returned %v after %v", blob, part.Blob)
					}
					nameBlob(t, d, key, want, Part{Length: length, Blob: blob})
					dr.Close()
				}
				checkUsage(t, d, shardOf(key))
				other := openTest(t, dir, DiskOptions{}) // as the next process does
				e := mustEntries(t, other, key)[0]
				if got, err := readBody(other, e); err != nil || !bytes.Equal(got, body[:e.Parts[0].Length]) {
					t.Errorf("%d bytes, %v, want %d", len(got), err, e.Parts[0].Length)
				}
				if r, err := other.Verify(t.Context()); err != nil || r.Damaged != 0 || r.Entries != 1 {
					t.Errorf("%+v, %v", r, err)
				}
			})
		}
	}
}

// TestCheckpointKeepsLentBuffer commits a draft while its buffer is lent. No
// other draft gets that buffer.
func TestCheckpointKeepsLentBuffer(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	content := pattern(4, 2*writeSize)
	dr, got := lend(t, d, 4*writeSize, content[:writeSize])
	fillAvailable(t, dr, content[len(got):len(got)+1000])
	if _, length, err := dr.Checkpoint(); length == 0 && runtime.GOOS != "windows" || err != nil {
		t.Fatalf("a checkpoint of %d bytes, %v", length, err)
	}
	lent := dr.AvailableBuffer()
	lent = lent[:cap(lent)]
	if _, err := dr.Commit(); err != nil {
		t.Fatal(err)
	}
	dr.Close()
	for range 4 {
		if other := writePool.Get().(*[writeSize]byte); &other[writeSize-1] == &lent[len(lent)-1] {
			t.Fatal("another draft has the buffer")
		}
	}
}

// TestCheckpointIsDropped closes a draft that was not committed. Its file goes,
// unless an entry names it.
func TestCheckpointIsDropped(t *testing.T) {
	t.Parallel()
	for _, names := range []bool{true, false} {
		dir, key := scratchDir(t), testKey(1)
		d := openTest(t, dir, DiskOptions{})
		dr, part := checkpointed(t, d, key, 1<<20, make([]byte, 600_000))
		if !names {
			if err := d.Update(t.Context(), key, func([]*Entry) []*Entry { return nil }); err != nil {
				t.Fatal(err)
			}
			// As if the file had been named for the first time only now.
			if err := os.WriteFile(d.path(blobName(key, part.Blob.ID)), make([]byte, bodyFileSize(1<<20)), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := dr.lock()
			if err != nil {
				t.Fatal(err)
			}
			_, err = l.account(allocated(bodyFileSize(1<<20)), new(usagePage))
			l.unlock()
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := dr.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, version, "data", "*", "*-*"))
		if err != nil || (len(files) == 1) != names {
			t.Errorf("named: %v: %q, %v", names, files, err)
		}
		checkUsage(t, d, shardOf(key))
	}
}

// TestNoCheckpoint: drafts that cannot have one go on as before.
func TestNoCheckpoint(t *testing.T) {
	t.Parallel()
	d := openTest(t, scratchDir(t), DiskOptions{})
	for name, test := range map[string]struct {
		want, written int64
	}{"unknown size": {-1, 1 << 20}, "a small body": {1000, 1000}, "nothing yet": {1 << 20, 0}, "in the buffer": {1 << 20, 100_000}, "too much": {500_000, 600_000}} {
		dr, part := checkpointed(t, d, testKey(1), test.want, make([]byte, test.written))
		if part.Length != 0 || dr.published {
			t.Errorf("%s: %d bytes", name, part.Length)
		}
		if _, err := dr.Commit(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		dr.Close()
	}
}

// TestCheckpointedTooLong writes more than announced. The footer stays.
func TestCheckpointedTooLong(t *testing.T) {
	t.Parallel()
	d, key := openTest(t, scratchDir(t), DiskOptions{}), testKey(1)
	body := pattern(5, 1<<20)
	dr, _ := checkpointed(t, d, key, 1<<20, body[:600_000])
	defer dr.Close()
	if _, err := dr.Write(body[600_000:]); err != nil {
		t.Fatal(err)
	}
	if n, err := dr.Write([]byte("x")); n != 0 || !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("%d, %v", n, err)
	}
	if got, err := readBody(d, mustEntries(t, d, key)[0]); err != nil || !bytes.Equal(got, body[:len(got)]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestWithZeros(t *testing.T) {
	for _, size := range []int64{chunkSize, chunkSize + 1, 3*chunkSize - 1, 5 * chunkSize} {
		sums := withZeros([]uint32{1}, size)
		var dr diskDraft
		dr.addSum(make([]byte, size))
		if dr.summed > 0 {
			dr.sums = append(dr.sums, dr.sum)
		}
		if !slices.Equal(sums[1:], dr.sums[1:]) || sums[0] != 1 {
			t.Errorf("%d bytes: %x, want %x", size, sums, dr.sums)
		}
	}
}
