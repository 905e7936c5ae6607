package main

// declined has the reason for each optional test that the caches of this module
// fail on purpose. docs/rfc9111.md explains each of them.
var declined = map[string]string{
	"conditional-lm-fresh-no-lm": "the stored response is newer than what the client has, so that it is sent (RFC 9111, section 4.3.2)",
	"vary-normalise-lang-order":  "many origins take the first of several languages with equal weights, so that another order may have another answer",
}

// withDeclined adds to a subject's results why it fails a test on purpose.
func withDeclined(subject string, results []result) []result {
	if subject == "none" {
		return results
	}
	for i := range results {
		if r := &results[i]; r.Verdict == missed {
			r.Declined = declined[r.ID]
		}
	}
	return results
}
