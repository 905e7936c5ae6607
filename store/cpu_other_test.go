//go:build !linux

package store

import "time"

var start = time.Now()

func threadTime() time.Duration { return time.Since(start) }
