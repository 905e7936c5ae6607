package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// This file presents the results of a run as tables and as data.

// report is a whole run.
type report struct {
	Date    string   `json:"date"`
	Machine string   `json:"machine"`
	Rounds  int      `json:"rounds"`
	Short   bool     `json:"short"`
	Figures []figure `json:"figures"`
	Faults  []fault  `json:"faults"`
}

// figure is a metric with its samples.
type figure struct {
	Workload string          `json:"workload"`
	Metric   string          `json:"metric"`
	Title    string          `json:"title"`
	Limit    string          `json:"limit,omitempty"`
	Unit     unit            `json:"unit"`
	Target   float64         `json:"target,omitempty"`
	Of       string          `json:"of"`    // the subject that has the target
	Cells    map[string]cell `json:"cells"` // by subject
	metric   metric
	kind     string // of the workload
}

// cell is the result of a subject.
type cell struct {
	Samples  []float64 `json:"samples"`          // one for each round
	Absolute spread    `json:"absolute"`         // of the samples
	Compared *spread   `json:"compared"`         // in the unit of the target: compared with the limit of the same round, or not
	Void     bool      `json:"void"`             // responses were wrong, so the figure does not count
	Faults   string    `json:"faults,omitempty"` // of a trace, whose figures count nevertheless
}

// report returns the figures of the workloads that are done.
func (h *harness) report(done []*workload) *report {
	r := &report{Faults: h.faults}
	for _, w := range done {
		for _, m := range w.metrics {
			of := h.results[w.name][m.name]
			if len(of) == 0 {
				continue
			}
			f := figure{Workload: w.name, Metric: m.name, Title: m.title, Limit: m.limit, Unit: m.unit, Target: m.target, Of: m.subject, Cells: make(map[string]cell), metric: m, kind: w.kind}
			if f.Of == "" {
				f.Of = cachetripDisk
			}
			for subject, samples := range of {
				c := cell{Samples: samples, Absolute: spreadOf(samples), Void: !isTrace(w.kind) && h.failed(w.name, subject)}
				if isTrace(w.kind) {
					c.Faults = h.faultsOf(w.name, subject)
				}
				if compared := m.how.compare(samples, of[limit]); len(compared) > 0 {
					s := spreadOf(compared)
					c.Compared = &s
				}
				f.Cells[subject] = c
			}
			for _, subject := range w.subjects {
				if _, ok := f.Cells[subject]; !ok && h.failed(w.name, subject) {
					f.Cells[subject] = cell{Void: true}
				}
			}
			r.Figures = append(r.Figures, f)
		}
	}
	return r
}

// compare relates the samples of a subject to those of the limit.
func (how how) compare(samples, limit []float64) []float64 {
	switch how {
	case byRatio:
		return ratios(samples, limit)
	case byDifference:
		return differences(samples, limit)
	}
	return samples
}

func (h *harness) failed(workload, subject string) bool {
	for _, f := range h.faults {
		if f.Workload == workload && f.Subject == subject {
			return true
		}
	}
	return false
}

// faultsOf describes what a subject did wrong in a workload, in a few words.
func (h *harness) faultsOf(workload, subject string) string {
	for _, f := range h.faults {
		if f.Workload == workload && f.Subject == subject {
			var words []string
			for _, part := range []struct {
				n    int
				word string
			}{{f.Wrong, "wrong"}, {f.Outdated, "outdated"}, {f.Errors, "errors"}} {
				if part.n > 0 {
					words = append(words, fmt.Sprintf("%d %s", part.n, part.word))
				}
			}
			return strings.Join(words, ", ")
		}
	}
	return ""
}

// failures returns the number of faults of subjects that must have none. Faults
// of peers only appear in the tables, and so do outdated bodies where a cache
// may guess a lifetime.
func (r *report) failures() (n int) {
	for _, f := range r.Faults {
		if !isPeer(f.Subject) && (f.Wrong+f.Errors > 0 || f.Outdated > 0 && f.Workload != "recrawl" && !strings.HasPrefix(f.Workload, "tool-")) {
			n++
		}
	}
	return n
}

func isPeer(subject string) bool { return slices.Contains(peers, subject) }

// verdict says whether the target was met.
func (f *figure) verdict() string {
	c, ok := f.Cells[f.Of]
	switch {
	case f.Target == 0 || !ok || c.Compared == nil:
		return ""
	case c.Void:
		return "failed"
	case shown(f.Unit, c.Compared.Median) <= f.Target:
		return "met"
	}
	return "**missed**"
}

// shown rounds v to about the precision of the tables. So 1.0000001 counts as
// 1, and 20.01 allocations count as 20.
func shown(u unit, v float64) float64 {
	if u == count {
		return math.Round(v*10) / 10
	}
	return math.Round(v*1000) / 1000
}

// compared formats a quantity in the unit of the target of f.
func (f *figure) compared(v float64) string {
	if f.metric.how == byRatio {
		return factor.format(v)
	}
	return f.Unit.format(v)
}

func (f *figure) cell(subject string) string {
	c, ok := f.Cells[subject]
	switch {
	case !ok:
		return ""
	case c.Void && len(c.Samples) == 0:
		return "failed"
	case c.Void:
		return "wrong"
	case subject == limit || c.Compared == nil:
		return f.Unit.format(c.Absolute.Median)
	}
	text := f.compared(c.Compared.Median)
	if c.Compared.Min != c.Compared.Max {
		text += fmt.Sprintf(" <sub>%s – %s</sub>", trimUnit(f.compared(c.Compared.Min)), f.compared(c.Compared.Max))
	}
	if f.metric.how == byRatio && subject == f.Of {
		text += "<br>" + f.Unit.format(c.Absolute.Median)
	}
	if c.Faults != "" && f.kind == "tool" {
		text += "<br>" + c.Faults
	}
	return text
}

// trimUnit removes the unit, where the next word repeats it.
func trimUnit(s string) string { return strings.TrimSuffix(s, "x") }

// oneLine makes text fit into a table cell.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.ReplaceAll(s, "|", "\\|")
	if r := []rune(s); len(r) > 160 {
		s = string(r[:160]) + "…"
	}
	return s
}
