package command

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloseWhileNothingComes: a body is closed while it is read, as the cache
// does when its reader has left. That ends the read, and the race detector
// finds nothing.
func TestCloseWhileNothingComes(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Hour} {
		t.Run(timeout.String(), func(t *testing.T) {
			body, origin := io.Pipe()
			n := &network{roundTripper(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: body, Request: req}, nil
			}), timeout}
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := n.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			read := make(chan error)
			go func() {
				_, err := io.Copy(io.Discard, resp.Body)
				read <- err
			}()
			if _, err := origin.Write([]byte("the beginning")); err != nil { // until it is read
				t.Fatal(err)
			}
			resp.Body.Close()
			if err := <-read; err != io.ErrClosedPipe {
				t.Errorf("got %v, want %v", err, io.ErrClosedPipe)
			}
		})
	}
}

// TestSlowIsNotSilent has an origin that sends a byte now and then, and a reader
// that pauses. Only silence of the origin ends the request.
func TestSlowIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 300 * time.Millisecond
		body, origin := io.Pipe()
		n := &network{roundTripper(func(req *http.Request) (*http.Response, error) {
			context.AfterFunc(req.Context(), func() { origin.CloseWithError(context.Cause(req.Context())) })
			return &http.Response{StatusCode: 200, Body: body, Request: req}, nil
		}), limit}
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://origin.example/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := n.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		go func() {
			for range 5 {
				time.Sleep(limit - time.Millisecond)
				io.WriteString(origin, "x")
			}
		}()
		got := make([]byte, 5)
		if n, err := io.ReadFull(resp.Body, got[:3]); err != nil {
			t.Errorf("after %d bytes: %v", n, err)
		}
		time.Sleep(10 * limit)
		if n, err := io.ReadFull(resp.Body, got[3:]); err != nil {
			t.Errorf("after 3 bytes, a pause and %d bytes: %v", n, err)
		}
		began := time.Now()
		_, err = resp.Body.Read(got)
		if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "the server sent nothing for 300ms") || took != limit {
			t.Errorf("got %v after %v, want an error after %v", err, took, limit)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
