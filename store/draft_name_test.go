package store

import (
	"bytes"
	"io"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// commitLarge commits a body with a file of its own. No entry names it yet.
func commitLarge(t *testing.T, d *Disk, key string, content []byte) (*diskDraft, Blob) {
	t.Helper()
	draft, err := d.Create(t.Context(), key, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { draft.Close() })
	if _, err := draft.Write(content); err != nil {
		t.Fatal(err)
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return draft.(*diskDraft), blob
}

// Between Commit and Update, a body is there under one name or the other,
// whatever comes first.
func TestCommittedBodyIsKept(t *testing.T) {
	const size = 3*writeSize + 1234
	content := pattern(7, size)
	for name, before := range map[string]func(t *testing.T, d *Disk, dr *diskDraft, blob Blob){
		"Update first": func(*testing.T, *Disk, *diskDraft, Blob) {},
		"Close first": func(t *testing.T, d *Disk, dr *diskDraft, blob Blob) {
			if err := dr.Close(); err != nil {
				t.Fatal(err)
			}
			wantBody(t, d, blob, content)
		},
		"Open first": func(t *testing.T, d *Disk, dr *diskDraft, blob Blob) { wantBody(t, d, blob, content) },
		"listed by another process": func(t *testing.T, d *Disk, dr *diskDraft, blob Blob) {
			other := openTest(t, d.Dir(), DiskOptions{})
			if _, err := other.scan(t.Context(), shardOf(testKeyOne)); err != nil {
				t.Fatal(err)
			}
		},
		"closed, and listed by another process": func(t *testing.T, d *Disk, dr *diskDraft, blob Blob) {
			dr.Close()
			other := openTest(t, d.Dir(), DiskOptions{})
			if _, err := other.scan(t.Context(), shardOf(testKeyOne)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := openTest(t, t.TempDir(), DiskOptions{})
			dr, blob := commitLarge(t, d, testKeyOne, content)
			before(t, d, dr, blob)
			nameBlob(t, d, testKeyOne, blob.Size, Part{Length: blob.Size, Blob: blob})
			if !isMissing(dr.temp()) || isMissing(d.path(dr.name())) {
				t.Error("the file does not have its name")
			}
			dr.Close()
			wantBody(t, d, blob, content)
			checkUsage(t, d, shardOf(testKeyOne))
		})
	}
}

// The lock may be held for long, and the readers of the body wait for Commit.
func TestCommitNeedsNoLock(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be renamed, so Commit does it")
	}
	d := openTest(t, t.TempDir(), DiskOptions{})
	draft, err := d.Create(t.Context(), testKeyOne, 2*writeSize)
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	if _, err := draft.Write(pattern(7, 2*writeSize)); err != nil {
		t.Fatal(err)
	}
	l, err := d.lock(t.Context(), shardOf(testKeyOne), lockWait)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := draft.Commit()
	l.unlock()
	if err != nil {
		t.Fatal(err)
	}
	nameBlob(t, d, testKeyOne, blob.Size, Part{Length: blob.Size, Blob: blob})
	wantBody(t, d, blob, pattern(7, 2*writeSize))
}

// A process that is killed between Commit and Update leaves a draft.
func TestCommittedBodyOfKilledProcess(t *testing.T) {
	dir := scratchDir(t)
	d := openTest(t, dir, DiskOptions{})
	dr, _ := commitLarge(t, d, testKeyOne, pattern(7, 2*writeSize))
	if isMissing(dr.temp()) {
		t.Skip("the file has its name already")
	}
	dr.file.Close() // as the end of the process does
	other := openTest(t, dir, DiskOptions{})
	if _, err := other.scan(t.Context(), shardOf(testKeyOne)); err != nil {
		t.Fatal(err)
	}
	if !isMissing(dr.temp()) {
		t.Error("the file is still there")
	}
	checkUsage(t, d, shardOf(testKeyOne))
}

// A reader that is a piece behind finds the end of the body in memory.
func TestEndOfDraftStaysInMemory(t *testing.T) {
	const size = 3*writeSize + 1234
	content := pattern(7, size)
	d := openTest(t, t.TempDir(), DiskOptions{})
	dr, _ := commitLarge(t, d, testKeyOne, content)
	if err := os.Truncate(dr.file.Name(), 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1234)
	if n, err := dr.ReadAt(got, size-1234); n != len(got) || err != nil && err != io.EOF || !bytes.Equal(got, content[size-1234:]) {
		t.Errorf("%d bytes read, %v", n, err)
	}
	dr.Close()
	if n := d.staging.Load(); n != 0 {
		t.Errorf("%d bytes count as gathered", n)
	}
}

// TestOpenWhileNamed opens bodies while the Update runs that gives their files
// a name.
func TestOpenWhileNamed(t *testing.T) {
	const size = 70_000
	d := openTest(t, scratchDir(t), DiskOptions{})
	for i := range testtier.Pick(100, 1500) {
		key := testKey(i)
		draft, err := d.Create(t.Context(), key, size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := draft.Write(pattern(1, size)); err != nil {
			t.Fatal(err)
		}
		blob, err := draft.Commit()
		if err != nil {
			t.Fatal(err)
		}
		var together sync.WaitGroup
		for range 2 {
			together.Go(func() {
				body, err := d.Open(t.Context(), key, blob)
				if CauseOf(err) == CauseLocked {
					return // a busy machine
				}
				if err != nil {
					t.Errorf("body %d: %v", i, err)
					return
				}
				body.Close()
			})
		}
		together.Go(func() {
			e := testHead(key)
			e.Length, e.Parts = size, []Part{{Blob: blob, Length: size}}
			if err := patiently(func() error {
				return d.Update(t.Context(), key, func(es []*Entry) []*Entry { return append(es, e) })
			}); err != nil {
				t.Errorf("body %d: %v", i, err)
			}
		})
		together.Wait()
		draft.Close()
		if es := mustEntries(t, d, key); len(es) != 1 {
			t.Fatalf("body %d: %d entries, want 1", i, len(es))
		}
	}
}
