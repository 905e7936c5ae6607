package store_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// put stores a response as a Transport does: the body first, then the entry
// that names it.
func put(ctx context.Context, s store.Store, key, url, body string) error {
	draft, err := s.Create(ctx, key, int64(len(body)))
	if err != nil {
		return err
	}
	defer draft.Close()
	if _, err := io.WriteString(draft, body); err != nil {
		return err
	}
	blob, err := draft.Commit()
	if err != nil {
		return err
	}
	entry := &store.Entry{
		Key:          key,
		URL:          url,
		Method:       http.MethodGet,
		Status:       http.StatusOK,
		Header:       http.Header{"Content-Type": {"text/plain"}},
		RequestTime:  time.Now(),
		ResponseTime: time.Now(),
		Length:       blob.Size,
		Parts:        []store.Part{{Length: blob.Size, Blob: blob}},
	}
	return s.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
		return append([]*store.Entry{entry}, current...)
	})
}

// A Disk keeps its entries in a directory, for later runs of the program and
// for other programs.
func ExampleOpenDisk() {
	dir, err := os.MkdirTemp("", "cachetrip")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	disk, err := store.OpenDisk(dir, store.DiskOptions{MaxBytes: 100 << 20})
	if err != nil {
		log.Fatal(err)
	}
	if err := put(ctx, disk, strings.Repeat("0", 64), "https://example.com/", "hello"); err != nil {
		log.Fatal(err)
	}
	if err := disk.Close(); err != nil {
		log.Fatal(err)
	}

	disk, err = store.OpenDisk(dir, store.DiskOptions{MaxBytes: 100 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	for entry, err := range disk.All(ctx, "") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(entry.URL, entry.Status, entry.Length)
	}
	// Output:
	// https://example.com/ 200 5
}

// A Memory keeps its entries in the process. Like every Store, it maps a key to
// entries, and each entry names the blobs that hold its body.
func ExampleNewMemory() {
	ctx := context.Background()
	memory := store.NewMemory(10 << 20) // bytes
	key := strings.Repeat("0", 64)
	if err := put(ctx, memory, key, "https://example.com/", "hello"); err != nil {
		log.Fatal(err)
	}

	entries, err := memory.Entries(ctx, key)
	if err != nil {
		log.Fatal(err)
	}
	for _, part := range entries[0].Parts {
		body, err := memory.Open(ctx, key, part.Blob)
		if err != nil {
			log.Fatal(err)
		}
		content := make([]byte, part.Length)
		if _, err := body.ReadAt(content, part.Skip); err != nil && err != io.EOF {
			log.Fatal(err)
		}
		body.Close()
		fmt.Printf("%s\n", content)
	}

	// To remove a key, replace its entries by none.
	err = memory.Update(ctx, key, func([]*store.Entry) []*store.Entry { return nil })
	if err != nil {
		log.Fatal(err)
	}
	entries, err = memory.Entries(ctx, key)
	fmt.Println(len(entries), err)
	// Output:
	// hello
	// 0 <nil>
}
