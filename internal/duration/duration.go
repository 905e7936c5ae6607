// Package duration formats durations for people.
package duration

import (
	"fmt"
	"time"
)

// Format formats d by its two largest units that are not zero, separated by
// separator, such as "1d3h" or "59m12s". It truncates the rest. Durations below
// one second, including negative ones, are "0s".
func Format(d time.Duration, separator string) string {
	units := []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.size {
			continue
		}
		s := fmt.Sprintf("%d%s", d/u.size, u.name)
		if i+1 < len(units) {
			if rest := d % u.size / units[i+1].size; rest > 0 {
				s += fmt.Sprintf("%s%d%s", separator, rest, units[i+1].name)
			}
		}
		return s
	}
	return "0s"
}
