package main

import (
	"fmt"
	"math"
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
}

// cell is the result of a subject.
type cell struct {
	Samples  []float64 `json:"samples"`  // one for each round
	Absolute spread    `json:"absolute"` // of the samples
	Compared *spread   `json:"compared"` // in the unit of the target: compared with the limit of the same round, or not
	Void     bool      `json:"void"`     // responses were wrong, so the figure does not count
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
			f := figure{Workload: w.name, Metric: m.name, Title: m.title, Limit: m.limit, Unit: m.unit, Target: m.target, Of: m.subject, Cells: make(map[string]cell), metric: m}
			if f.Of == "" {
				f.Of = cachetripDisk
			}
			for subject, samples := range of {
				c := cell{Samples: samples, Absolute: spreadOf(samples), Void: w.kind != "trace" && h.failed(w.name, subject)}
				if compared := m.how.compare(samples, of[limit]); len(compared) > 0 {
					s := spreadOf(compared)
					c.Compared = &s
				}
				f.Cells[subject] = c
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

// failures returns the number of faults of subjects that must have none. Faults
// of peers only appear in the tables.
func (r *report) failures() (n int) {
	for _, f := range r.Faults {
		if !isPeer(f.Subject) && (f.Wrong+f.Errors > 0 || f.Outdated > 0 && f.Workload != "recrawl") {
			n++
		}
	}
	return n
}

func isPeer(subject string) bool { return subject == gregjonesDisk || subject == gregjonesMemory }

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
	return text
}

// trimUnit removes the unit, where the next word repeats it.
func trimUnit(s string) string { return strings.TrimSuffix(s, "x") }

// markdown returns the tables.
func (r *report) markdown() string {
	var b strings.Builder
	form := ""
	if r.Short {
		form = ", short form"
	}
	fmt.Fprintf(&b, "%s, %s, %d rounds%s. Medians, with the least and the most of the rounds.\n\n", r.Date, r.Machine, r.Rounds, form)
	b.WriteString("| workload | target |")
	for _, s := range subjects {
		fmt.Fprintf(&b, " %s |", subjectTitles[s])
	}
	b.WriteString(" |\n|---|---|")
	b.WriteString(strings.Repeat("---|", len(subjects)+1) + "\n")
	missed := 0
	for _, f := range r.Figures {
		target := ""
		switch {
		case f.Target == none:
			target = "0"
		case f.Target > 0:
			target = "≤ " + f.compared(f.Target)
		}
		fmt.Fprintf(&b, "| %s | %s |", f.Title, target)
		for _, s := range subjects {
			fmt.Fprintf(&b, " %s |", f.cell(s))
		}
		v := f.verdict()
		if v != "" && v != "met" {
			missed++
		}
		fmt.Fprintf(&b, " %s |\n", v)
	}
	fmt.Fprintf(&b, "\n%d targets missed.\n", missed)
	if len(r.Faults) > 0 {
		b.WriteString("\n| workload | subject | wrong | outdated | errors | the first |\n|---|---|---|---|---|---|\n")
		for _, f := range r.Faults {
			fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s |\n", f.Workload, f.Subject, f.Wrong, f.Outdated, f.Errors, oneLine(f.First))
		}
	}
	return b.String()
}

// oneLine makes text fit into a table cell.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.ReplaceAll(s, "|", "\\|")
	if r := []rune(s); len(r) > 160 {
		s = string(r[:160]) + "…"
	}
	return s
}
