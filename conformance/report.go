package main

// This file turns outcomes into verdicts, counts and text.

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A verdict is what the outcome of a test says about the cache.
type verdict string

const (
	pass       verdict = "pass"
	fail       verdict = "fail"       // a required test was not passed
	missed     verdict = "missed"     // an optional test was not passed
	yes        verdict = "yes"        // the answer of a check
	no         verdict = "no"         //
	dependency verdict = "dependency" // a test that this one depends on was not passed
	setup      verdict = "setup"      // the test failed before it could show anything
	retry      verdict = "retry"      // the cache sent a request twice
)

// unpassed lists the verdicts other than pass and yes, the worst first.
var unpassed = []verdict{fail, setup, retry, missed, dependency, no}

// A result is a test with its verdict.
type result struct {
	Suite    string  `json:"suite"`
	ID       string  `json:"id"`
	Name     string  `json:"name"`
	Kind     kind    `json:"kind"`
	Verdict  verdict `json:"verdict"`
	Reason   string  `json:"reason,omitempty"`   // the expectation, and the actual result
	Declined string  `json:"declined,omitempty"` // why the cache fails it on purpose
	trace    []string
}

func (r result) passed() bool { return r.Verdict == pass || r.Verdict == yes }

// judge returns the results of the tests in report, in the suite's order.
func judge(suites []suite, report map[string]bool, outcomes map[string]outcome) []result {
	byID := testsByID(suites)
	judged := map[string]*result{}
	var of func(t *test) result
	of = func(t *test) result {
		if r, ok := judged[t.ID]; ok {
			return *r
		}
		// This value holds until the test is judged, in case of a cycle of
		// dependencies.
		r := &result{ID: t.ID, Name: t.Name, Kind: t.Kind, Verdict: dependency}
		judged[t.ID] = r
		v, reason := verdictOf(t.Kind, outcomes[t.ID].failure)
		for _, id := range t.DependsOn {
			if on := byID[id]; on == nil {
				v, reason = dependency, "builds on "+id+", which is not there"
			} else if d := of(on); !d.passed() {
				v, reason = dependency, fmt.Sprintf("builds on %s (%s)", id, d.Verdict)
			} else {
				continue
			}
			break
		}
		r.Verdict, r.Reason, r.trace = v, reason, outcomes[t.ID].trace
		return *r
	}
	var results []result
	for _, s := range suites {
		for _, t := range s.Tests {
			if report[t.ID] {
				r := of(t)
				r.Suite = s.ID
				results = append(results, r)
			}
		}
	}
	return results
}

func verdictOf(k kind, f *failure) (verdict, string) {
	switch {
	case f == nil && k == check:
		return yes, ""
	case f == nil:
		return pass, ""
	case f.class == setupFailure:
		return setup, f.reason
	case f.class == retryFailure:
		return retry, f.reason
	case k == check:
		return no, f.reason
	case k == optimal:
		return missed, f.reason
	}
	return fail, f.reason
}

// refused returns the required tests that failed, or did not come to a verdict,
// for a reason of their own. It omits tests that only depend on such a test,
// and the ids in allow.
func refused(results []result, allow []string) []string {
	var ids []string
	for _, r := range results {
		if r.Kind == required && !r.passed() && r.Verdict != dependency && !slices.Contains(allow, r.ID) {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// A tally counts results by kind and by verdict.
type tally struct {
	Required count           `json:"required"`
	Optimal  count           `json:"optimal"`
	Check    count           `json:"check"`
	Verdicts map[verdict]int `json:"verdicts"`
}

// A count is the number of tests of a kind, and of those that passed or said
// yes.
type count struct {
	Passed int `json:"passed"`
	Of     int `json:"of"`
}

func (c count) String() string { return fmt.Sprintf("%d/%d", c.Passed, c.Of) }

func tallyOf(results []result) tally {
	t := tally{Verdicts: map[verdict]int{}}
	for _, r := range results {
		c := map[kind]*count{required: &t.Required, optimal: &t.Optimal, check: &t.Check}[r.Kind]
		c.Of++
		if r.passed() {
			c.Passed++
		}
		t.Verdicts[r.Verdict]++
	}
	return t
}

// bySuite groups results, which are in the suite's order.
func bySuite(results []result) [][]result {
	var groups [][]result
	for i, r := range results {
		if i == 0 || r.Suite != results[i-1].Suite {
			groups = append(groups, nil)
		}
		last := &groups[len(groups)-1]
		*last = append(*last, r)
	}
	return groups
}

// printText writes the counts, then the tests that did not pass. If verbose, it
// adds the tests that passed, and the requests and responses of those that
// failed.
func printText(w io.Writer, results []result, verbose bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "suite\trequired\toptimal\tcheck\t")
	for _, v := range unpassed {
		fmt.Fprint(table, v, "\t")
	}
	fmt.Fprintln(table)
	row := func(name string, t tally) {
		fmt.Fprint(table, name, "\t", t.Required, "\t", t.Optimal, "\t", t.Check, "\t")
		for _, v := range unpassed {
			if n := t.Verdicts[v]; n > 0 {
				fmt.Fprint(table, n)
			}
			fmt.Fprint(table, "\t")
		}
		fmt.Fprintln(table)
	}
	for _, group := range bySuite(results) {
		row(group[0].Suite, tallyOf(group))
	}
	row("total", tallyOf(results))
	if err := table.Flush(); err != nil {
		return err
	}

	var b strings.Builder
	for _, v := range unpassed {
		for _, r := range results {
			if r.Verdict != v {
				continue
			}
			fmt.Fprintf(&b, "\n%s: %s/%s (%s)\n    %s\n", v, r.Suite, r.ID, r.Kind, r.Name)
			fmt.Fprintf(&b, "    %s\n", r.Reason)
			if r.Declined != "" {
				fmt.Fprintf(&b, "    declined: %s\n", r.Declined)
			}
			if verbose && v != dependency {
				for _, l := range r.trace {
					fmt.Fprintf(&b, "        %s\n", l)
				}
			}
		}
	}
	if verbose {
		b.WriteString("\n")
		for _, r := range results {
			if r.passed() {
				fmt.Fprintf(&b, "%s: %s/%s (%s)\n", r.Verdict, r.Suite, r.ID, r.Kind)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printJSON writes everything as one object.
func printJSON(w io.Writer, subject string, results []result) error {
	type suiteTally struct {
		ID string `json:"id"`
		tally
	}
	out := struct {
		Subject string       `json:"subject"`
		Total   tally        `json:"total"`
		Suites  []suiteTally `json:"suites"`
		Tests   []result     `json:"tests"`
	}{Subject: subject, Total: tallyOf(results), Suites: []suiteTally{}, Tests: results}
	for _, group := range bySuite(results) {
		out.Suites = append(out.Suites, suiteTally{group[0].Suite, tallyOf(group)})
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}
