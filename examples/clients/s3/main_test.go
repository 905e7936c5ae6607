package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
)

// hermetic makes the tests independent of the user's AWS configuration.
func hermetic(t *testing.T) {
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, t.TempDir()+"/none")
	}
	for _, name := range []string{
		"PROFILE", "CA_BUNDLE", "ENDPOINT_URL", "ENDPOINT_URL_S3", "USE_FIPS_ENDPOINT",
		"USE_DUALSTACK_ENDPOINT", "RESPONSE_CHECKSUM_VALIDATION",
	} {
		t.Setenv("AWS_"+name, "")
	}
}

func TestRun(t *testing.T) {
	hermetic(t)
	table := demotest.Run(t, "s3", run)
	demotest.Want(t, table, map[string][2]int{
		"without a cache":                                    {12, 0},
		"first run":                                          {12, 0},
		"second run":                                         {12, 12},
		"third run, with another access key":                 {12, 0},
		"without Identity, first run":                        {12, 0},
		"without Identity, second run":                       {12, 0},
		"without ModifyResponse, first run":                  {12, 0},
		"without ModifyResponse, second run":                 {0, 0},
		"presigned URLs, first run":                          {12, 0},
		"presigned URLs, second run":                         {12, 12},
		"presigned URLs, third run, with another access key": {12, 0},
		"presigned URLs without Policy, first run":           {12, 0},
		"presigned URLs without Policy, second run":          {12, 0},
	})
	if n := len(table[0].Data.(map[string]uint32)); n != fakeObjects {
		t.Errorf("%d objects, want %d", n, fakeObjects)
	}
}

// client returns a client with a cache.
func client(t *testing.T, options ...func(*config.LoadOptions) error) *s3.Client {
	hermetic(t)
	origin, err := demo.Start(fake{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	cache, err := cachetrip.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	cfg, err := config.LoadDefaultConfig(context.Background(),
		append([]func(*config.LoadOptions) error{loopback(origin.URL, "AKIAREADER")}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(cfg, cache)
}

func get(client *s3.Client, change func(*s3.GetObjectInput)) ([]byte, error) {
	in := &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("x")}
	change(in)
	out, err := client.GetObject(context.Background(), in)
	if err != nil {
		return nil, err
	}
	defer out.Body.Close()
	return io.ReadAll(out.Body)
}

func whole(*s3.GetObjectInput) {}

func part(of string) func(*s3.GetObjectInput) {
	return func(in *s3.GetObjectInput) { in.Range = aws.String(of) }
}

// The loopback server is as strict as S3: signed fields must not change.
func TestFakeChecksSignatures(t *testing.T) {
	client := client(t, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("AKIAREADER", "wrong", "")))
	_, err := get(client, whole)
	if api := smithy.APIError(nil); !errors.As(err, &api) || api.ErrorCode() != "SignatureDoesNotMatch" {
		t.Errorf("got %v, want SignatureDoesNotMatch", err)
	}
}

// Ranges and conditions that the caller sets are signed, and answered as they
// are without a cache.
func TestSignedFields(t *testing.T) {
	body := object("x")
	for _, test := range []struct {
		name  string
		first func(*s3.GetObjectInput)
		then  func(*s3.GetObjectInput)
		want  []byte // nil: 304
	}{
		{"a part, then all", part("bytes=10-19"), whole, body},
		{"a part, then the same", part("bytes=10-19"), part("bytes=10-19"), body[10:20]},
		{"a part, then another", part("bytes=10-19"), part("bytes=15-39"), body[15:40]},
		{"all, then a part", whole, part("bytes=10-19"), body[10:20]},
		{"all, then with its tag", whole, func(in *s3.GetObjectInput) {
			in.IfNoneMatch = aws.String(tagOf(body))
		}, nil},
		{"all, then with another tag", whole, func(in *s3.GetObjectInput) {
			in.IfNoneMatch = aws.String(`"other"`)
		}, body},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := client(t)
			if _, err := get(client, test.first); err != nil {
				t.Fatal(err)
			}
			got, err := get(client, test.then)
			if resp := (*smithyhttp.ResponseError)(nil); test.want == nil {
				if !errors.As(err, &resp) || resp.HTTPStatusCode() != http.StatusNotModified {
					t.Errorf("got %v, want a 304", err)
				}
			} else if err != nil || !bytes.Equal(got, test.want) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, len(test.want))
			}
		})
	}
}

// A link that S3 does not accept gets nothing, although the object is stored:
// each use is confirmed.
func TestLinks(t *testing.T) {
	hermetic(t)
	origin, err := demo.Start(fake{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	cache, err := cachetrip.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	cfg, err := config.LoadDefaultConfig(t.Context(), loopback(origin.URL, "AKIAREADER"))
	if err != nil {
		t.Fatal(err)
	}
	signer := s3.NewPresignClient(s3.NewFromConfig(cfg))
	good, err := link(t.Context(), signer, "x", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other, err := link(t.Context(), signer, "x", time.Minute)
	if err != nil || other == good {
		t.Fatal(other, err)
	}
	unsigned, _, _ := strings.Cut(good, "?")
	client := sharedLinks(cache)
	for _, test := range []struct {
		name, url string
		status    int
		stored    bool
	}{
		{"first", good, http.StatusOK, false},
		{"another link", other, http.StatusOK, true},
		{"a changed link", strings.Replace(good, "X-Amz-Expires=3600", "X-Amz-Expires=7200", 1), http.StatusForbidden, false},
		{"no signature", unsigned, http.StatusForbidden, false},
		{"the first again", good, http.StatusOK, false}, // a 403 may have been meant for the condition
		{"and again", good, http.StatusOK, true},
	} {
		resp, err := client.Get(test.url)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != test.status || test.status == http.StatusOK && !bytes.Equal(body, object("x")) {
			t.Errorf("%s: status %d, %d bytes, %v, want %d", test.name, resp.StatusCode, len(body), err, test.status)
		}
		if got := cachetrip.StatusOf(resp).Revalidated; got != test.stored {
			t.Errorf("%s: from the cache: %v, want %v: %+v", test.name, got, test.stored, cachetrip.StatusOf(resp))
		}
	}
}
