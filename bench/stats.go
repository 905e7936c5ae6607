package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Arithmetic on samples.

// median returns the median of samples, or NaN if there are none.
func median(samples []float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(samples))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// percentile returns the smallest sample that at least p percent of the samples
// do not exceed (nearest-rank method), or NaN if there are none. It sorts the
// samples.
func percentile(samples []time.Duration, p float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	slices.Sort(samples)
	rank := int(math.Ceil(p / 100 * float64(len(samples))))
	return float64(samples[min(max(rank, 1), len(samples))-1])
}

// spread summarises the rounds of a run.
type spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

func spreadOf(samples []float64) spread {
	if len(samples) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	return spread{slices.Min(samples), median(samples), slices.Max(samples)}
}

// ratios divides the samples of a subject by the samples of the limit in the
// same rounds. It leaves out rounds in which a sample is missing or the limit
// is 0.
func ratios(samples, limit []float64) []float64 {
	var r []float64
	for i := range min(len(samples), len(limit)) {
		if q := samples[i] / limit[i]; !math.IsNaN(q) && !math.IsInf(q, 0) {
			r = append(r, q)
		}
	}
	return r
}

// differences subtracts from each sample the limit in the same round.
func differences(samples, limit []float64) []float64 {
	var r []float64
	for i := range min(len(samples), len(limit)) {
		if d := samples[i] - limit[i]; !math.IsNaN(d) {
			r = append(r, d)
		}
	}
	return r
}

// unit says how a quantity is formatted.
type unit string

const (
	nanoseconds unit = "ns"
	octets      unit = "bytes"
	count       unit = "count"
	factor      unit = "x"
	percent     unit = "%"
)

// format formats a quantity with three significant digits.
func (u unit) format(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	switch u {
	case nanoseconds:
		for _, step := range []struct {
			size float64
			name string
		}{{1e9, "s"}, {1e6, "ms"}, {1e3, "µs"}} {
			if math.Abs(v) >= step.size {
				return digits(v/step.size) + " " + step.name
			}
		}
		return digits(v) + " ns"
	case octets:
		for _, step := range []struct {
			size float64
			name string
		}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
			if math.Abs(v) >= step.size {
				return digits(v/step.size) + " " + step.name
			}
		}
		return digits(v) + " B"
	case factor:
		return digits(v) + "x"
	case percent:
		return fmt.Sprintf("%.1f %%", v)
	}
	return digits(v)
}

func digits(v float64) string {
	switch a := math.Abs(v); {
	case v == math.Trunc(v) && a < 1e6, a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
