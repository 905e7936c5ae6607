package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// fake serves the objects of one bucket like S3:
//
//   - It sends ETag, Last-Modified and Accept-Ranges. It sends no Cache-Control and no Vary unless
//     the object has one:
//     https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_ResponseSyntax
//   - It sends the checksum of the whole object, if x-amz-checksum-mode asks for it and there is
//     no range: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
//   - It answers 403 unless the signature fits the fields that it covers. It must cover Host and all
//     X-Amz fields. Other fields may be added on the way:
//     https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
//   - A signature in the query covers the other parameters, and holds for X-Amz-Expires seconds:
//     https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
type fake struct{}

const (
	fakeObjects = 12
	fakeSize    = 100_000
)

func secretOf(key string) string { return "secret of " + key }

func (fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "AmazonS3")
	h.Set("X-Amz-Request-Id", "TX6M7T3VZ8Y3X2W1")
	h.Set("X-Amz-Id-2", "eftixk72aD6Ap51TnqcoF8eFidJG9Z/2mkiDFu8yU9AS1ed4OpIszj7UDNEHGran")
	isSigned := signed
	if r.Header.Get("Authorization") == "" {
		isSigned = signedInQuery
	}
	if !isSigned(r) {
		h.Set("Content-Type", "application/xml")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<Error><Code>SignatureDoesNotMatch</Code></Error>`)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/bucket/")
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, `<Error><Code>NotImplemented</Code></Error>`, http.StatusNotImplemented)
		return
	}
	body := object(name)
	h.Set("ETag", tagOf(body))
	h.Set("Content-Type", "binary/octet-stream")
	h.Set("X-Amz-Server-Side-Encryption", "AES256")
	if r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" && r.Header.Get("Range") == "" {
		h.Set("X-Amz-Checksum-Crc32", base64.StdEncoding.EncodeToString(
			binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body))))
		h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	http.ServeContent(w, r, "", time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), bytes.NewReader(body))
}

// tagOf returns an entity tag. S3 uses an MD5.
func tagOf(body []byte) string { return fmt.Sprintf(`"%032x"`, crc32.ChecksumIEEE(body)) }

// object returns the content of an object, computed from its name. It cannot be
// compressed.
func object(name string) []byte {
	seed := fnv.New64a()
	fmt.Fprint(seed, name)
	random := rand.New(rand.NewPCG(seed.Sum64(), 0))
	body := make([]byte, fakeSize)
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	return body
}

// signed checks a signature. It computes the signature of the covered fields
// again, and compares.
func signed(r *http.Request) bool {
	authorization := r.Header.Get("Authorization")
	_, credential, _ := strings.Cut(authorization, "Credential=")
	scope := strings.Split(strings.TrimSuffix(strings.Fields(credential + " ")[0], ","), "/")
	_, names, _ := strings.Cut(authorization, "SignedHeaders=")
	names, _, _ = strings.Cut(names, ",")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || len(scope) != 5 || time.Since(at).Abs() > 15*time.Minute {
		return false
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.String(), nil)
	if err != nil {
		return false
	}
	covered := map[string]bool{}
	for name := range strings.SplitSeq(names, ";") {
		covered[http.CanonicalHeaderKey(name)] = true
		if values := r.Header.Values(name); values != nil {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") && !covered[name] {
			return false
		}
	}
	who := aws.Credentials{AccessKeyID: scope[0], SecretAccessKey: secretOf(scope[0])}
	err = v4.NewSigner().SignHTTP(context.Background(), who, again, r.Header.Get("X-Amz-Content-Sha256"),
		"s3", scope[2], at, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return err == nil && covered["Host"] && again.Header.Get("Authorization") == authorization
}

// signedInQuery checks the signature in a query in the same way.
func signedInQuery(r *http.Request) bool {
	query := r.URL.Query()
	scope := strings.Split(query.Get("X-Amz-Credential"), "/")
	at, err := time.Parse("20060102T150405Z", query.Get("X-Amz-Date"))
	lifetime, lerr := strconv.Atoi(query.Get("X-Amz-Expires"))
	if err != nil || lerr != nil || len(scope) != 5 || query.Get("X-Amz-SignedHeaders") != "host" ||
		time.Since(at) > time.Duration(lifetime)*time.Second {
		return false
	}
	signature := query.Get("X-Amz-Signature")
	for _, added := range []string{"Algorithm", "Credential", "Date", "SignedHeaders", "Signature"} {
		query.Del("X-Amz-" + added)
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.Path+"?"+query.Encode(), nil)
	if err != nil {
		return false
	}
	who := aws.Credentials{AccessKeyID: scope[0], SecretAccessKey: secretOf(scope[0])}
	signed, _, err := v4.NewSigner().PresignHTTP(context.Background(), who, again, "UNSIGNED-PAYLOAD",
		"s3", scope[2], at, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil {
		return false
	}
	u, err := url.Parse(signed)
	return err == nil && u.Query().Get("X-Amz-Signature") == signature
}
