package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/google/go-containerregistry/pkg/registry"
)

// fake is a registry whose blobs are in a storage of another host, as Docker
// Hub and the registries of the large clouds have it. The registry itself is
// that of go-containerregistry. This is added:
//
//   - It asks for a name and password.
//   - A GET of a blob is answered 307, with the URL of the storage. The URL has a signature and a time,
//     so it differs each time: https://distribution.github.io/distribution/about/configuration/#redirect
//   - A manifest has its digest as entity tag, as with distribution:
//     https://github.com/distribution/distribution/blob/main/registry/handlers/manifests.go
//   - The storage answers 403 unless the signature fits. It sends ETag, Last-Modified and Accept-Ranges,
//     and no Cache-Control, as S3 does:
//     https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_ResponseSyntax
type fake struct {
	registry http.Handler
	blobs    *storage
}

func newFake() *fake {
	s := &storage{BlobHandler: registry.NewInMemoryBlobHandler()}
	return &fake{registry.New(registry.WithBlobHandler(s), registry.Logger(log.New(io.Discard, "", 0))), s}
}

const pullers = "alice, bob" // have their names as passwords

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/storage/") {
		f.blobs.ServeHTTP(w, r)
		return
	}
	user, password, _ := r.BasicAuth()
	if user == "" || user != password || !strings.Contains(pullers, user) {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodGet {
		w = &tagged{ResponseWriter: w, held: r.Header.Get("If-None-Match")}
	}
	f.registry.ServeHTTP(w, r)
}

// tagged adds an entity tag to a manifest, and answers 304 if the client holds
// it.
type tagged struct {
	http.ResponseWriter
	held        string
	notModified bool
}

func (t *tagged) WriteHeader(status int) {
	if digest := t.Header().Get("Docker-Content-Digest"); digest != "" && status == http.StatusOK {
		tag := fmt.Sprintf("%q", digest)
		t.Header().Set("ETag", tag)
		if t.held == tag {
			t.notModified = true
			t.Header().Del("Content-Length")
			status = http.StatusNotModified
		}
	}
	t.ResponseWriter.WriteHeader(status)
}

func (t *tagged) Write(b []byte) (int, error) {
	if t.notModified {
		return len(b), nil
	}
	return t.ResponseWriter.Write(b)
}

// storage has the content of blobs.
type storage struct {
	registry.BlobHandler
	address string       // scheme, host and port
	signed  atomic.Int64 // URLs
	sent    atomic.Int64 // bytes of content
}

// Get redirects. It is called for a blob that a client of the registry may
// read.
func (s *storage) Get(_ context.Context, _ string, h v1.Hash) (io.ReadCloser, error) {
	path := "/storage/sha256/" + h.Hex
	date := fmt.Sprint(s.signed.Add(1))
	return nil, registry.RedirectError{
		Location: fmt.Sprintf("%s%s?X-Date=%s&X-Signature=%s", s.address, path, date, sign(path, date)),
		Code:     http.StatusTemporaryRedirect,
	}
}

func (s *storage) Stat(ctx context.Context, repo string, h v1.Hash) (int64, error) {
	return s.BlobHandler.(registry.BlobStatHandler).Stat(ctx, repo, h)
}

func (s *storage) Put(ctx context.Context, repo string, h v1.Hash, rc io.ReadCloser) error {
	return s.BlobHandler.(registry.BlobPutHandler).Put(ctx, repo, h, rc)
}

func sign(path, date string) string {
	mac := hmac.New(sha256.New, []byte("the registry and the storage know this"))
	fmt.Fprint(mac, path, "\n", date)
	return fmt.Sprintf("%x", mac.Sum(nil))
}

func (s *storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Get("X-Signature") != sign(r.URL.Path, query.Get("X-Date")) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	hash := v1.Hash{Algorithm: "sha256", Hex: strings.TrimPrefix(r.URL.Path, "/storage/sha256/")}
	content, err := s.BlobHandler.Get(r.Context(), "", hash)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	defer content.Close()
	body, err := io.ReadAll(content)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", fmt.Sprintf("%q", hash.Hex[:32]))
	modified := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	http.ServeContent(&countsBody{w, s}, r, "", modified, bytes.NewReader(body))
}

type countsBody struct {
	http.ResponseWriter
	storage *storage
}

func (c *countsBody) Write(b []byte) (int, error) {
	c.storage.sent.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}
