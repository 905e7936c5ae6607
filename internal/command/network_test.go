package command

import (
	"io"
	"net/http"
	"testing"
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

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
