//go:build !unix

package main

import (
	"os"
	"time"
)

type rawFile struct{ *os.File }

func openRaw(path string) (rawFile, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return rawFile{}, 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return rawFile{}, 0, err
	}
	return rawFile{f}, fi.Size(), nil
}

func writeRaw(path string, b []byte) error { return os.WriteFile(path, b, 0o600) }

func processorTime() time.Duration { return 0 }
