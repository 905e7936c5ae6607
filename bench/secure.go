package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"time"
)

// The same origin over HTTP/2 and TLS, and clients with a deadline.

// startSecure lets the origin listen at a second port, with a certificate made
// for this run.
func (o *origin) startSecure() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	o.secureURL = "https://" + l.Addr().String()
	o.roots = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	o.secure = &http.Server{Handler: o, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}}
	go o.secure.ServeTLS(l, "", "") // returns when close closes the listener
	return nil
}

// base returns the transport below the job's cache. It speaks real HTTP.
func (j *job) base() (http.RoundTripper, error) {
	t := newBase()
	if !j.TLS {
		return t, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(j.Roots)) {
		return nil, fmt.Errorf("%s: no certificate of the origin", j.Subject)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool}
	t.ForceAttemptHTTP2 = true
	return onlyHTTP2{t}, nil
}

// onlyHTTP2 fails if a response comes by another protocol.
type onlyHTTP2 struct{ http.RoundTripper }

func (o onlyHTTP2) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.RoundTripper.RoundTrip(req)
	if err == nil && resp.ProtoMajor != 2 {
		resp.Body.Close()
		return nil, fmt.Errorf("%s came by %s instead of HTTP/2", req.URL, resp.Proto)
	}
	return resp, err
}

// clientTimeout is far longer than any request takes.
const clientTimeout = time.Minute

// client returns what the job sends its requests through: t, or an http.Client
// with a timeout above it.
func (j *job) client(t http.RoundTripper) http.RoundTripper {
	if !j.Timeout {
		return t
	}
	return clientTripper{&http.Client{Transport: t, Timeout: clientTimeout}}
}

type clientTripper struct{ *http.Client }

func (c clientTripper) RoundTrip(req *http.Request) (*http.Response, error) { return c.Do(req) }
