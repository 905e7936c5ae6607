package main

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strconv"
)

// peakMemory returns the largest resident size of the process in bytes, if
// /proc tells it. Otherwise it returns the memory that the Go runtime has
// obtained from the system.
func peakMemory() (n int64, how string) {
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		lines := bufio.NewScanner(bytes.NewReader(status))
		for lines.Scan() {
			fields := bytes.Fields(lines.Bytes())
			if len(fields) == 3 && string(fields[0]) == "VmHWM:" {
				if kib, err := strconv.ParseInt(string(fields[1]), 10, 64); err == nil {
					return kib << 10, "resident set"
				}
			}
		}
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.Sys), "of the Go runtime"
}
