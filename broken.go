package cachetrip

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/cachetrip/cachetrip/internal/inflight"
)

// Which errors say that a transfer broke off. A broken transfer can be continued.

// connectionLost reports whether an error of a body or of Base says that a
// connection broke. Any other error was made on purpose, for instance by a
// transport that limits or verifies bodies. The caller gets such an error.
func connectionLost(err error) bool {
	var op *net.OpError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return false
	case err == io.ErrUnexpectedEOF || err == io.EOF: // bodies of net/http end so; a wrapped error has another meaning
		return true
	case errors.As(err, &op), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ETIMEDOUT):
		return true
	}
	for ; err != nil; err = errors.Unwrap(err) {
		text := err.Error()
		if slices.ContainsFunc(lostTexts, func(begin string) bool { return strings.HasPrefix(text, begin) }) {
			return true
		}
	}
	return false
}

// lostTexts are the beginnings of errors of a broken connection whose types net/http does not export.
var lostTexts = []string{
	"stream error: stream ID ", "http2: ", "connection error: ", // of HTTP/2
	"net/http: HTTP/1.x transport connection broken: ", "net/http: Transport failed to read from server: ",
}

// transferBroken reports whether an error of a body says that its transfer
// broke off, or that all readers have left.
func transferBroken(err error) bool { return err == inflight.ErrAbandoned || connectionLost(err) }
