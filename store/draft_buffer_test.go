package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// lend makes a draft of an announced size, and returns it with the first of
// content, by AvailableBuffer.
func lend(t *testing.T, d *Disk, size int64, content []byte) (*diskDraft, []byte) {
	t.Helper()
	draft, err := d.Create(t.Context(), testKeyOne, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { draft.Close() })
	dr := draft.(*diskDraft)
	return dr, fillAvailable(t, dr, content)
}

// fillAvailable writes content by AvailableBuffer, as far as it fits, and
// returns what fitted.
func fillAvailable(t *testing.T, dr *diskDraft, content []byte) []byte {
	t.Helper()
	b := dr.AvailableBuffer()
	content = content[:min(len(content), cap(b))]
	if b = append(b, content...); len(b) == 0 {
		return nil
	}
	if n, err := dr.Write(b); n != len(b) || err != nil {
		t.Fatalf("%d bytes written, %v; want %d", n, err, len(b))
	}
	return content
}

func TestAvailableBuffer(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	for _, size := range []int{writeSize/2 + 1, writeSize, 2 * writeSize, 5*writeSize + 12345} {
		for _, announced := range []int64{int64(size), -1} {
			t.Run(fmt.Sprint(size, announced), func(t *testing.T) {
				content := pattern(3, size)
				dr, _ := lend(t, d, announced, nil)
				var got []byte
				r := rand.New(rand.NewPCG(1, 2))
				lent := 0
				for n := 0; n < size; n += len(got) {
					next := content[n:min(size, n+1+r.IntN(writeSize))]
					if got = fillAvailable(t, dr, next); got == nil {
						got = next[:min(len(next), 50_000)]
						if _, err := dr.Write(got); err != nil {
							t.Fatal(err)
						}
					} else if lent++; !bytes.HasSuffix(dr.buf, got) {
						t.Fatal("the draft has something else")
					}
					if all := make([]byte, n+len(got)); !readsAll(dr, all) || !bytes.Equal(all, content[:len(all)]) {
						t.Fatalf("other bytes read after %d", n)
					}
				}
				if lent == 0 && (announced > 0 || size > writeSize) {
					t.Error("no buffer was lent")
				}
				blob, err := dr.Commit()
				if err != nil {
					t.Fatal(err)
				}
				wantBody(t, d, blob, content)
			})
		}
	}
}

// readsAll reads as many bytes as p has from the beginning of a draft.
func readsAll(dr *diskDraft, p []byte) bool {
	n, _ := dr.ReadAt(p, 0)
	return n == len(p)
}

func wantBody(t *testing.T, d *Disk, blob Blob, want []byte) {
	t.Helper()
	body, err := d.Open(t.Context(), testKeyOne, blob)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got := make([]byte, len(want))
	if _, err := body.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("another body, %v", err)
	}
}

// A download may be reading its source into the buffer when it is abandoned.
func TestLentBufferIsTheBorrowers(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	content := pattern(5, 2*writeSize)
	for _, commits := range []bool{false, true} {
		t.Run(fmt.Sprintf("commits=%t", commits), func(t *testing.T) {
			dr, got := lend(t, d, int64(len(content)), content[:writeSize-1000])
			lent := dr.AvailableBuffer()
			lent = lent[:cap(lent)]
			done := make(chan bool)
			go func() {
				defer close(done)
				for i := range lent {
					lent[i] = 0xee
				}
			}()
			var blob Blob
			if commits {
				var err error
				if blob, err = dr.Commit(); err != nil {
					t.Fatal(err)
				}
			}
			dr.Close()
			<-done
			for range 4 {
				if other := writePool.Get().(*[writeSize]byte); &other[len(got)] == &lent[0] {
					t.Fatal("another draft has the buffer")
				}
			}
			if commits {
				wantBody(t, d, blob, got)
			}
			if n := d.staging.Load(); n != 0 {
				t.Errorf("%d bytes count as gathered", n)
			}
		})
	}
}

func TestAvailableBufferHasLimits(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	for range 200 {
		if dr, _ := lend(t, d, 1<<20, nil); dr.buf == nil {
			t.Fatal("no buffer")
		}
	}
	if n := d.staging.Load(); n > stagingMax+200*stagingMin {
		t.Errorf("200 drafts gather %d bytes in memory, want %d at most", n, stagingMax+200*stagingMin)
	}
	small := openTest(t, t.TempDir(), DiskOptions{MaxBytes: 1 << 20})
	if dr, _ := lend(t, small, 200<<10, nil); cap(dr.buf) > 1<<20/8 {
		t.Errorf("a buffer of %d bytes in a cache of 1 MiB", cap(dr.buf))
	}
	dr, _ := lend(t, d, 100, nil)
	if b := dr.AvailableBuffer(); b != nil {
		t.Errorf("%d bytes lent for a body of 100", cap(b))
	}
}
