package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/cachetrip/cachetrip"
)

// sharedLinks prepares a cache for a program that is given presigned URLs.
func sharedLinks(cache *cachetrip.Transport) *http.Client {
	cache.Policy = presigned
	cache.Identity = presigner
	cache.ModifyResponse = askFirst
	return cache.Client()
}

// presigned stores an object under its URL without the signature.
func presigned(req *http.Request) cachetrip.Policy {
	return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "X-Amz-*")}
}

// presigner returns the access key that has signed a URL.
func presigner(req *http.Request) string {
	key, _, _ := strings.Cut(req.URL.Query().Get("X-Amz-Credential"), "/")
	return key
}

// link returns a URL of an object that is signed anew. Without a cache two
// links of one second would be the same, so each link has another lifetime.
func link(ctx context.Context, signer *s3.PresignClient, key string, lifetime time.Duration) (string, error) {
	signed, err := signer.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String(key)},
		s3.WithPresignExpires(lifetime))
	if err != nil {
		return "", err
	}
	return signed.URL, nil
}

// readLinks reads all objects by links that are valid for lifetime, and returns
// the checksum of each.
func readLinks(ctx context.Context, client *http.Client, signer *s3.PresignClient, lifetime time.Duration) (any, error) {
	sums := map[string]uint32{}
	for i := range fakeObjects {
		key := fmt.Sprintf("data/part-%d", i)
		url, err := link(ctx, signer, key, lifetime)
		if err != nil {
			return nil, err
		}
		resp, err := client.Get(url)
		if err != nil {
			return nil, err
		}
		sum := crc32.NewIEEE()
		_, err = io.Copy(sum, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s: %s: %w", key, resp.Status, err)
		}
		sums[key] = sum.Sum32()
	}
	return sums, nil
}
