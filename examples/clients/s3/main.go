// S3 reads objects with aws-sdk-go-v2 through a cache, and prints the cost of
// each run. S3 is a loopback server that checks signatures:
//
//	go run ./s3
package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
)

func main() { demo.Main(run) }

// newClient puts the cache below the signatures, for S3 only. Other uses of
// cfg, such as getting credentials, have no cache.
func newClient(cfg aws.Config, cache *cachetrip.Transport) *s3.Client {
	cache.Base = http.DefaultTransport
	if own, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cache.Base = own.GetTransport() // with the timeouts of the SDK, and AWS_CA_BUNDLE
	}
	cache.Identity = signer
	cache.ModifyResponse = askFirst
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: cache} })
}

// signer returns the access key that a request is signed with. The rest of
// Authorization changes each second, so without signer the cache would never
// have a hit.
func signer(req *http.Request) string {
	_, credential, _ := strings.Cut(req.Header.Get("Authorization"), "Credential=")
	key, _, _ := strings.Cut(credential, "/")
	return key
}

// askFirst makes the cache ask before each use whether an object has changed,
// unless the object has a Cache-Control. S3 sends none by default, and the
// cache would guess a lifetime.
func askFirst(resp *http.Response) error {
	if resp.Header.Get("Cache-Control") == "" {
		resp.Header.Set("Cache-Control", "no-cache")
	}
	return nil
}

// loopback sets the address of the loopback server and the access key.
func loopback(url, key string) config.LoadOptionsFunc {
	return func(o *config.LoadOptions) error {
		o.Region = "eu-central-1"
		o.BaseEndpoint = url
		o.Credentials = credentials.NewStaticCredentialsProvider(key, secretOf(key), "")
		return nil
	}
}

// read reads all objects, and returns the checksum of each.
func read(ctx context.Context, client *s3.Client) (any, error) {
	sums := map[string]uint32{}
	for i := range fakeObjects {
		key := fmt.Sprintf("data/part-%d", i)
		object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key)})
		if err != nil {
			return nil, err
		}
		sum := crc32.NewIEEE()
		_, err = io.Copy(sum, object.Body) // the SDK also compares with the object's checksum
		object.Body.Close()
		if err != nil {
			return nil, err
		}
		sums[key] = sum.Sum32()
	}
	return sums, nil
}

func run(dir string) (demo.Table, error) {
	origin, err := demo.Start(fake{})
	if err != nil {
		return nil, err
	}
	defer origin.Close()

	var table demo.Table
	noIdentity := func(cache *cachetrip.Transport) { cache.Identity = nil }
	noModifyResponse := func(cache *cachetrip.Transport) { cache.ModifyResponse = nil }
	noPolicy := func(cache *cachetrip.Transport) { cache.Policy = nil }
	for _, r := range []struct {
		name, key, dir string
		change         func(*cachetrip.Transport)
	}{
		{"without a cache", "AKIAREADER", "none", func(cache *cachetrip.Transport) { cache.Store = nil }},
		{"first run", "AKIAREADER", "asking", nil},
		{"second run", "AKIAREADER", "asking", nil},
		{"third run, with another access key", "AKIAWRITER", "asking", nil},
		{"without Identity, first run", "AKIAREADER", "apart", noIdentity},
		{"without Identity, second run", "AKIAREADER", "apart", noIdentity},
		{"without ModifyResponse, first run", "AKIAREADER", "guessing", noModifyResponse},
		{"without ModifyResponse, second run", "AKIAREADER", "guessing", noModifyResponse},
		{"presigned URLs, first run", "AKIAREADER", "links", nil},
		{"presigned URLs, second run", "AKIAREADER", "links", nil},
		{"presigned URLs, third run, with another access key", "AKIAWRITER", "links", nil},
		{"presigned URLs without Policy, first run", "AKIAREADER", "many", noPolicy},
		{"presigned URLs without Policy, second run", "AKIAREADER", "many", noPolicy},
	} {
		err := table.Add(r.name, origin, func() (any, error) {
			cache, err := cachetrip.Open(filepath.Join(dir, r.dir))
			if err != nil {
				return nil, err
			}
			defer cache.Close()
			ctx := context.Background()
			cfg, err := config.LoadDefaultConfig(ctx, loopback(origin.URL, r.key))
			if err != nil {
				return nil, err
			}
			client := newClient(cfg, cache)
			if strings.HasPrefix(r.name, "presigned") {
				signer := s3.NewPresignClient(client)
				client := sharedLinks(cache)
				if r.change != nil {
					r.change(cache)
				}
				return readLinks(ctx, client, signer, time.Duration(len(table))*time.Minute)
			}
			if r.change != nil {
				r.change(cache)
			}
			return read(ctx, client)
		})
		if err != nil {
			return nil, err
		}
	}
	return table, nil
}
