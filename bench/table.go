package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// The tables of a report: the measurements, the peers, the traces, and the
// failures.

// isTrace reports whether a workload counts what a trace transfers.
func isTrace(kind string) bool { return kind == "trace" || kind == "tool" }

// markdown returns the tables.
func (r *report) markdown() string {
	var b strings.Builder
	form := ""
	if r.Short {
		form = ", short form"
	}
	fmt.Fprintf(&b, "%s, %s, %d rounds%s. Medians, with the least and the most of the rounds.\n", r.Date, r.Machine, r.Rounds, form)
	tables := r.tables()
	for _, part := range tableParts {
		if tables[part.name] != "" {
			fmt.Fprintf(&b, "%s\n%s", part.heading, tables[part.name])
		}
	}
	missed := 0
	for i := range r.Figures {
		if v := r.Figures[i].verdict(); v != "" && v != "met" {
			missed++
		}
	}
	fmt.Fprintf(&b, "\n%d targets missed.\n", missed)
	if tables["failures"] != "" {
		b.WriteString("\n" + tables["failures"])
	}
	return b.String()
}

// tableParts are the tables in their order, with what stands above them.
var tableParts = []struct{ name, heading string }{
	{"measured", ""},
	{"peers", "\nThe peers, as multiples of the limit or as values:\n"},
	{"traces", "\nThe traces:\n"},
	{"tools", "\nTools in daily use:\n"},
}

// tables returns the tables by name. A table without rows is empty.
func (r *report) tables() map[string]string {
	var measured, traced, tooled []figure
	for _, f := range r.Figures {
		switch f.kind {
		case "trace":
			traced = append(traced, f)
		case "tool":
			tooled = append(tooled, f)
		default:
			measured = append(measured, f)
		}
	}
	tables := map[string]string{
		"measured": tableOf(measured, summaryColumns()),
		"traces":   tableOf(traced, traceColumns()),
		"tools":    tableOf(tooled, traceColumns()),
		"failures": r.faultTable(),
	}
	if anyPeer(measured) {
		tables["peers"] = tableOf(measured, peerColumns())
	}
	return tables
}

// column is a column of a table. It is left out if all of its cells are empty.
type column struct {
	title string
	cell  func(*figure) string
}

func subjectColumn(s string) column {
	return column{subjectTitles[s], func(f *figure) string { return f.cell(s) }}
}

var (
	titleColumn   = column{"workload", func(f *figure) string { return f.Title }}
	targetColumn  = column{"target", (*figure).targetText}
	verdictColumn = column{"verdict", (*figure).verdict}
)

// summaryColumns are those of the first table.
func summaryColumns() []column {
	return []column{
		titleColumn, targetColumn, subjectColumn(limit),
		subjectColumn(cachetripDisk + beforeSuffix), subjectColumn(cachetripDisk), {"after / before", func(f *figure) string { return f.change(cachetripDisk) }},
		subjectColumn(cachetripMemory + beforeSuffix), subjectColumn(cachetripMemory), {"memory, after / before", func(f *figure) string { return f.change(cachetripMemory) }},
		{"best peer", (*figure).bestPeer}, subjectColumn(noCache), verdictColumn,
	}
}

func peerColumns() []column {
	columns := []column{titleColumn, subjectColumn(cachetripDisk), subjectColumn(cachetripMemory)}
	for _, p := range peers {
		columns = append(columns, subjectColumn(p))
	}
	return columns
}

func traceColumns() []column {
	columns := []column{titleColumn, targetColumn, subjectColumn(limit)}
	for _, s := range subjects[1:] {
		if s == cachetripDisk || s == cachetripMemory {
			columns = append(columns, subjectColumn(s+beforeSuffix))
		}
		columns = append(columns, subjectColumn(s))
	}
	return append(columns, verdictColumn)
}

// anyPeer reports whether a peer was measured.
func anyPeer(figures []figure) bool {
	for _, f := range figures {
		for _, p := range peers {
			if f.cell(p) != "" {
				return true
			}
		}
	}
	return false
}

func tableOf(figures []figure, columns []column) string {
	if len(figures) == 0 {
		return ""
	}
	var b strings.Builder
	var used []column
	for _, c := range columns {
		for i := range figures {
			if c.cell(&figures[i]) != "" {
				used = append(used, c)
				break
			}
		}
	}
	for _, c := range used {
		fmt.Fprintf(&b, "| %s ", c.title)
	}
	b.WriteString("|\n" + strings.Repeat("|---", len(used)) + "|\n")
	for i := range figures {
		for _, c := range used {
			fmt.Fprintf(&b, "| %s ", c.cell(&figures[i]))
		}
		b.WriteString("|\n")
	}
	return b.String()
}

// targetText is the target of a figure as a table shows it.
func (f *figure) targetText() string {
	switch {
	case f.Target == none:
		return "0"
	case f.Target > 0:
		return "≤ " + f.compared(f.Target)
	}
	return ""
}

// change compares a subject with its version before, in the same rounds.
func (f *figure) change(subject string) string {
	after, ok := f.Cells[subject]
	before, was := f.Cells[subject+beforeSuffix]
	if !ok || !was || after.Void || before.Void {
		return ""
	}
	r := ratios(after.Samples, before.Samples)
	if len(r) == 0 {
		return ""
	}
	return factor.format(median(r))
}

// bestPeer is the peer with the lowest figure. It stands in bold letters if
// that is lower than the figure of cachetrip.
func (f *figure) bestPeer() string {
	best, least := "", math.Inf(1)
	for _, p := range peers {
		if c, ok := f.Cells[p]; ok && !c.Void && c.Compared != nil && c.Compared.Median < least {
			best, least = p, c.Compared.Median
		}
	}
	if best == "" {
		return ""
	}
	text := subjectTitles[best] + " " + f.compared(least)
	if own, ok := f.Cells[f.Of]; ok && !own.Void && own.Compared != nil && least < own.Compared.Median {
		text = "**" + text + "**"
	}
	return text
}

// faultTable is the table of failures, if there were any.
func (r *report) faultTable() string {
	if len(r.Faults) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| workload | subject | wrong | outdated | errors | the first |\n|---|---|---|---|---|---|\n")
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s |\n", f.Workload, f.Subject, f.Wrong, f.Outdated, f.Errors, oneLine(f.First))
	}
	return b.String()
}

// paste replaces tables in a document. A table stands between two comments,
// such as <!-- bench:peers --> and <!-- /bench:peers -->. A table that is
// empty, or whose comments are missing, is left alone.
func paste(document string, tables map[string]string) string {
	for name, table := range tables {
		begin, end := "<!-- bench:"+name+" -->\n", "<!-- /bench:"+name+" -->"
		before, rest, found := strings.Cut(document, begin)
		_, after, closed := strings.Cut(rest, end)
		if table != "" && found && closed {
			document = before + begin + "\n" + table + "\n" + end + after
		}
	}
	return document
}

// pasteInto replaces tables in a file.
func pasteInto(file string, tables map[string]string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(paste(string(b), tables)), 0o644)
}
