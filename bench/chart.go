package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// The chart: how many times the limit each subject takes, on a logarithmic
// scale.

const (
	chartWidth  = 980
	chartLeft   = 372 // where the scale begins
	chartRight  = 820 // and ends
	chartTop    = 74
	chartRow    = 24
	chartBottom = 40

	// Values beyond the scale are drawn at its ends.
	chartLeast, chartMost = 0.01, 1000
)

// chartStyle is legible on light and dark pages. Colour-blind readers can tell
// the colours apart, and shapes repeat the information.
const chartStyle = `
	text { font: 12px system-ui, sans-serif; fill: #24292f }
	.small { font-size: 11px; fill: #57606a }
	.head { font-weight: 600 }
	.grid { stroke: #d0d7de; stroke-width: 1 }
	.one { stroke: #57606a; stroke-width: 1.5 }
	.target { stroke: #1a7f37; stroke-width: 3 }
	.missed { fill: #b35900; font-weight: 600 }
	.cachetrip { fill: #0969da; stroke: #0969da }
	.cachetrip-memory { fill: none; stroke: #0969da; stroke-width: 2 }
	.gregjones { fill: #bc4c00; stroke: #bc4c00 }
	.gregjones-memory { fill: none; stroke: #bc4c00; stroke-width: 2 }
	.bartventer { fill: #8250df; stroke: #8250df }
	.sandrolain { fill: #1b7c83; stroke: #1b7c83 }
	.no-cache { fill: none; stroke: #6e7781; stroke-width: 1.5 }
	@media (prefers-color-scheme: dark) {
		text { fill: #e6edf3 }
		.small { fill: #9198a1 }
		.grid { stroke: #30363d }
		.one { stroke: #9198a1 }
		.target { stroke: #3fb950 }
		.missed { fill: #f0883e }
		.cachetrip { fill: #4493f8; stroke: #4493f8 }
		.cachetrip-memory { stroke: #4493f8 }
		.gregjones { fill: #f0883e; stroke: #f0883e }
		.gregjones-memory { stroke: #f0883e }
		.bartventer { fill: #ab7df8; stroke: #ab7df8 }
		.sandrolain { fill: #42a0a8; stroke: #42a0a8 }
		.no-cache { stroke: #9198a1 }
	}
`

// charted is the subjects in the chart. More would hide each other.
var charted = []string{cachetripDisk, cachetripMemory, gregjonesDisk, gregjonesMemory, bartventerDisk, sandrolainDisk, noCache}

// chart draws all figures that can be seen as multiples of a limit.
func (r *report) chart() string {
	var rows []figure
	for _, f := range r.Figures {
		if !f.metric.minor {
			rows = append(rows, f)
		}
	}
	height := chartTop + chartRow*len(rows) + chartBottom
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`, chartWidth, height, chartWidth, height)
	fmt.Fprintf(&b, "\n<title>Multiples of the physical limit, by workload and subject</title>\n<style>%s</style>\n", chartStyle)

	// Legend.
	text(&b, 12, 22, "head", "start", "Multiples of the physical limit; left is better")
	x := 12.0
	for _, s := range charted {
		mark(&b, s, x+6, 44)
		text(&b, x+18, 48, "", "start", subjectTitles[s])
		x += 34 + 7*float64(len(subjectTitles[s]))
	}
	fmt.Fprintf(&b, `<line class="target" x1="%.1f" y1="37" x2="%.1f" y2="51"/>`+"\n", x+6, x+6)
	text(&b, x+18, 48, "", "start", "target")
	text(&b, chartRight+12, 48, "small", "start", "cachetrip · target")

	// Scale.
	bottom := float64(chartTop + chartRow*len(rows))
	for v := chartLeast; v <= chartMost*1.01; v *= 10 {
		class := "grid"
		if math.Abs(v-1) < 1e-9 {
			class = "one"
		}
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" y1="%d" x2="%.1f" y2="%.1f"/>`+"\n", class, place(v), chartTop-8, place(v), bottom)
		text(&b, place(v), bottom+16, "small", "middle", factor.format(v))
	}

	for i := range rows {
		f := &rows[i]
		y := float64(chartTop+chartRow*i) + chartRow/2
		text(&b, chartLeft-14, y+4, "", "end", f.Title)
		marks, target := f.multiples()
		if target > 0 {
			fmt.Fprintf(&b, `<line class="target" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", place(target), y-8, place(target), y+8)
		}
		for _, s := range slices.Backward(charted) { // ours on top
			m, ok := marks[s]
			if !ok {
				continue
			}
			fmt.Fprintf(&b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", s, place(m.Min), y, place(m.Max), y)
			mark(&b, s, place(m.Median), y)
		}
		if c, ok := f.Cells[f.Of]; ok && c.Compared != nil {
			class, words := "small", f.compared(c.Compared.Median)
			if f.Target > 0 {
				words += " · ≤ " + f.compared(f.Target)
			}
			if v := f.verdict(); v != "" && v != "met" {
				class = "missed"
			}
			text(&b, chartRight+12, y+4, class, "start", words)
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// multiples returns how many times the limit each subject takes, and the target
// in the same unit. A metric without a limit has the ideal 1.
func (f *figure) multiples() (marks map[string]spread, target float64) {
	marks = make(map[string]spread)
	l, limited := f.Cells[limit]
	for s, c := range f.Cells {
		switch {
		case c.Void || s == limit || len(c.Samples) == 0:
		case limited:
			if r := ratios(c.Samples, l.Samples); len(r) > 0 {
				marks[s] = spreadOf(r)
			}
		default:
			marks[s] = c.Absolute
		}
	}
	target = f.Target
	if limited && f.metric.how == byValue {
		target /= l.Absolute.Median
	}
	return marks, target
}

// place returns where on the scale v is.
func place(v float64) float64 {
	v = math.Log10(min(max(v, chartLeast), chartMost))
	from, to := math.Log10(chartLeast), math.Log10(chartMost)
	return chartLeft + (v-from)/(to-from)*(chartRight-chartLeft)
}

func text(b *strings.Builder, x, y float64, class, anchor, words string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, html.EscapeString(words))
}

// mark draws the shape that stands for a subject.
func mark(b *strings.Builder, subject string, x, y float64) {
	switch subject {
	case gregjonesDisk, gregjonesMemory:
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%.1f" width="9" height="9"/>`+"\n", subject, x-4.5, y-4.5)
	case bartventerDisk:
		fmt.Fprintf(b, `<path class="%s" d="M%.1f %.1fl5 5l-5 5l-5 -5z"/>`+"\n", subject, x, y-5)
	case sandrolainDisk:
		fmt.Fprintf(b, `<path class="%s" d="M%.1f %.1fl5 -9h-10z"/>`+"\n", subject, x, y+4.5)
	case noCache:
		fmt.Fprintf(b, `<path class="%s" d="M%.1f %.1fl5 9h-10z"/>`+"\n", subject, x, y-5)
	default:
		fmt.Fprintf(b, `<circle class="%s" cx="%.1f" cy="%.1f" r="5"/>`+"\n", subject, x, y)
	}
}
