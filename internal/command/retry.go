package command

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// retryPause is how long get waits before it tries again for the first time.
// Each further pause is twice as long.
var retryPause = time.Second

const (
	// retryLongest limits the pauses between attempts that get chooses itself.
	retryLongest = time.Minute

	// retryPatience is how long get waits if the origin asks for that.
	retryPatience = 10 * time.Minute
)

// pauseBefore returns how long to wait before another attempt, after so many
// failed. after is the Retry-After field of the response, if there was one. It
// reports false if the origin wants a pause that is too long.
func pauseBefore(failed int, after string, now time.Time) (time.Duration, bool) {
	pause := retryPause
	for range failed - 1 {
		pause = min(2*pause, retryLongest)
	}
	if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(after); err == nil {
		pause = max(date.Sub(now), 0)
	}
	return pause, pause <= retryPatience
}

// worthRetrying reports whether another attempt may succeed after an error of a
// request or a body. A name that does not exist and a certificate that is wrong
// stay so.
func worthRetrying(err error) bool {
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.As(err, &name) && name.IsNotFound, errors.As(err, &certificate), errors.Is(err, context.Canceled):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	}
	var op *net.OpError
	return errors.As(err, &op) || errors.As(err, &network) && network.Timeout()
}

// retriedStatus reports whether a status may be another one soon.
func retriedStatus(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
