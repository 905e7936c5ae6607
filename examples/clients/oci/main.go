// Oci pulls a container image with google/go-containerregistry through a cache,
// and prints the cost of each run. The registry is a loopback server that
// redirects to signed URLs:
//
//	go run ./oci
package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
)

func main() { demo.Main(run) }

// options puts the cache below the credentials of the registry.
func options(cache *cachetrip.Transport, user string) []remote.Option {
	cache.Policy = blobs
	cache.Identity = admitted
	return []remote.Option{
		remote.WithTransport(cache),
		remote.WithAuth(&authn.Basic{Username: user, Password: user}),
	}
}

var blobPath = regexp.MustCompile(`^/v2/.+/blobs/sha256:[0-9a-f]{64}$`)

// blobOf returns the request for a blob from which a registry has redirected to
// req, or nil.
func blobOf(req *http.Request) *http.Request {
	if req.Response == nil {
		return nil
	}
	first := req
	for first.Response != nil {
		first = first.Response.Request
	}
	if !blobPath.MatchString(first.URL.Path) {
		return nil
	}
	return first
}

// blobs stores a blob under its URL at the registry, wherever that redirects
// to.
func blobs(req *http.Request) cachetrip.Policy {
	if first := blobOf(req); first != nil {
		return cachetrip.Policy{URL: first.URL}
	}
	return cachetrip.Policy{}
}

// admitted gives one name to all requests that the registry has redirected to a
// blob: the registry has checked who may read it.
func admitted(req *http.Request) string {
	if blobOf(req) != nil {
		return "admitted by the registry"
	}
	return ""
}

// pull reads an image, and returns the checksum of each blob. The client
// compares each blob with its digest.
func pull(ref name.Reference, options ...remote.Option) (any, error) {
	image, err := remote.Image(ref, options...)
	if err != nil {
		return nil, err
	}
	sums := map[string]uint32{}
	config, err := image.RawConfigFile()
	if err != nil {
		return nil, err
	}
	sums["config"] = crc32.ChecksumIEEE(config)
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	for i, layer := range layers {
		if sums[fmt.Sprint("layer ", i)], err = sumOf(layer); err != nil {
			return nil, err
		}
	}
	return sums, nil
}

func sumOf(layer v1.Layer) (uint32, error) {
	content, err := layer.Compressed()
	if err != nil {
		return 0, err
	}
	defer content.Close()
	sum := crc32.NewIEEE()
	_, err = io.Copy(sum, content)
	return sum.Sum32(), err
}

const (
	layerCount = 5
	layerSize  = 200_000
)

// push puts an image into the registry, without a cache.
func push(ref name.Reference) error {
	image, err := random.Image(layerSize, layerCount, random.WithSource(rand.NewSource(1)))
	if err != nil {
		return err
	}
	return remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "alice", Password: "alice"}))
}

func run(dir string) (demo.Table, error) {
	fake := newFake()
	origin, err := demo.Start(fake)
	if err != nil {
		return nil, err
	}
	defer origin.Close()
	fake.blobs.address = strings.Replace(origin.URL, "127.0.0.1", "localhost", 1) // another host
	ref, err := name.ParseReference(strings.TrimPrefix(origin.URL, "http://")+"/team/app:latest", name.Insecure)
	if err != nil {
		return nil, err
	}
	if err := push(ref); err != nil {
		return nil, err
	}

	var table demo.Table
	noPolicy := func(cache *cachetrip.Transport) { cache.Policy, cache.Identity = nil, nil }
	for _, r := range []struct {
		name, user, dir string
		change          func(*cachetrip.Transport)
	}{
		{"without a cache", "alice", "none", func(cache *cachetrip.Transport) { cache.Store = nil }},
		{"first run", "alice", "pulled", nil},
		{"second run", "alice", "pulled", nil},
		{"third run, of another user", "bob", "pulled", nil},
		{"without Policy, first run", "alice", "apart", noPolicy},
		{"without Policy, second run", "alice", "apart", noPolicy},
	} {
		fake.blobs.sent.Store(0)
		err := table.Add(r.name, origin, func() (any, error) {
			cache, err := cachetrip.Open(filepath.Join(dir, r.dir))
			if err != nil {
				return nil, err
			}
			defer cache.Close()
			options := options(cache, r.user)
			if r.change != nil {
				r.change(cache)
			}
			return pull(ref, options...)
		})
		if err != nil {
			return nil, err
		}
		row := &table[len(table)-1]
		row.Name = fmt.Sprintf("%s (%d bytes of blobs)", row.Name, fake.blobs.sent.Load())
	}
	return table, nil
}
