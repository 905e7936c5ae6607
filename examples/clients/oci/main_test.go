package main

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
)

func TestRun(t *testing.T) {
	table := demotest.Run(t, "oci", run)
	demotest.Want(t, table, map[string][2]int{
		"without a cache (1004650 bytes of blobs)":            {14, 0},
		"first run (1004650 bytes of blobs)":                  {14, 0},
		"second run (0 bytes of blobs)":                       {8, 1},
		"third run, of another user (0 bytes of blobs)":       {8, 0},
		"without Policy, first run (1004650 bytes of blobs)":  {14, 0},
		"without Policy, second run (1004650 bytes of blobs)": {14, 1},
	})
	if n := len(table[0].Data.(map[string]uint32)); n != layerCount+1 {
		t.Errorf("%d blobs, want %d", n, layerCount+1)
	}
}

// A stored blob is given to nobody whom the registry does not let in.
func TestWhoMayPull(t *testing.T) {
	fake := newFake()
	origin, err := demo.Start(fake)
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	fake.blobs.address = strings.Replace(origin.URL, "127.0.0.1", "localhost", 1)
	ref, err := name.ParseReference(strings.TrimPrefix(origin.URL, "http://")+"/team/app:latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := push(ref); err != nil {
		t.Fatal(err)
	}
	cache, err := cachetrip.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	image, err := remote.Image(ref, options(cache, "alice")...)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	blob := ref.Context().Digest(digest.String())
	for _, test := range []struct {
		name  string
		auth  authn.Authenticator
		wants int // status of the failure; 0 if there is none
	}{
		{"first", &authn.Basic{Username: "alice", Password: "alice"}, 0},
		{"again", &authn.Basic{Username: "bob", Password: "bob"}, 0},
		{"wrong password", &authn.Basic{Username: "alice", Password: "guess"}, http.StatusUnauthorized},
		{"nobody", authn.Anonymous, http.StatusUnauthorized},
	} {
		layer, err := remote.Layer(blob, append(options(cache, ""), remote.WithAuth(test.auth))...)
		if err != nil {
			t.Fatal(err)
		}
		sum, err := sumOf(layer)
		if failed := (*transport.Error)(nil); test.wants == 0 && err != nil || test.wants != 0 && (!errors.As(err, &failed) || failed.StatusCode != test.wants) {
			t.Errorf("%s: %x, %v, want status %d", test.name, sum, err, test.wants)
		}
	}
	// Without a signature, the storage has the last word.
	resp, err := cache.Client().Get(fake.blobs.address + "/storage/sha256/" + digest.Hex)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: status %d, want 403", resp.StatusCode)
	}
}
