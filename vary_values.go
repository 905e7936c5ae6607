package cachetrip

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

// The values of selecting fields: when two of them mean the same, and what they
// prefer.

// normalise returns a form of a field value that is equal for values with the
// same meaning. It joins lines and removes white space around commas.
//
// In fields that weigh alternatives it also ignores empty members, upper and
// lower case, and the spelling of weights. In Accept and Accept-Language it
// sorts members by weight, and keeps the order of members with the same weight:
// many origins take the first, so `en, de` is not `de, en`. In Accept-Charset
// and Accept-Encoding it sorts the members, because every acceptable choice is
// the same text.
func normalise(name string, lines []string) string {
	weighted, ranked := false, false
	switch name {
	case "Accept", "Accept-Language":
		weighted, ranked = true, true
	case "Accept-Charset", "Accept-Encoding":
		weighted = true
	}
	if len(lines) == 1 && isNormal(lines[0], weighted) {
		return lines[0]
	}
	quoted := func(line string) bool { return strings.Contains(line, `"`) } // a comma in quotes would be misread
	if !weighted || slices.ContainsFunc(lines, quoted) {
		return field.Combined(lines)
	}
	var members []string
	field.Members(lines, func(member string) bool {
		members = append(members, normaliseWeighted(member))
		return true
	})
	if ranked {
		rank(members)
	} else {
		slices.Sort(members)
	}
	return strings.Join(members, ",")
}

// maxRanked is the largest number of members that are sorted by weight.
// Browsers send about ten.
const maxRanked = 32

// rank sorts normalised members by weight, the greatest first, and keeps the
// order of equal weights. It changes nothing if a weight is malformed or a name
// occurs twice, because then the order may matter.
func rank(members []string) {
	if len(members) < 2 || len(members) > maxRanked {
		return
	}
	type weighted struct {
		member, name string
		weight       float64
	}
	ranked := make([]weighted, 0, maxRanked)
	for _, member := range members {
		name, weight, ok := weightOf(member)
		if !ok || slices.ContainsFunc(ranked, func(other weighted) bool { return other.name == name }) {
			return
		}
		ranked = append(ranked, weighted{member, name, weight})
	}
	slices.SortStableFunc(ranked, func(a, b weighted) int { return cmp.Compare(b.weight, a.weight) })
	for i := range ranked {
		members[i] = ranked[i].member
	}
}

// isNormal reports whether a value is a single member that needs no
// normalisation. It may say false for some that need none.
func isNormal(value string, weighted bool) bool {
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c <= ' ' || c == ',' || c == '"' || c >= 0x7f:
			return false
		case weighted && (c == ';' || 'A' <= c && c <= 'Z'):
			return false
		}
	}
	return value != ""
}

// normaliseWeighted normalises one alternative with its parameters. RFC 9110,
// section 12.4.2.
func normaliseWeighted(member string) string {
	parts := strings.Split(member, ";")
	kept := parts[:0]
	for i, part := range parts {
		part = strings.Trim(part, " \t")
		name, value, has := strings.Cut(part, "=")
		name = strings.ToLower(strings.Trim(name, " \t"))
		if !has {
			part = name
		} else {
			value = strings.Trim(value, " \t")
			if name == "q" && i > 0 && kept[0] != "" && isWeight(value) {
				if strings.Contains(value, ".") {
					value = strings.TrimRight(strings.TrimRight(value, "0"), ".")
				}
				if value == "1" {
					continue // the default
				}
			}
			part = name + "=" + value
		}
		kept = append(kept, part)
	}
	return strings.Join(kept, ";")
}

// isWeight reports whether a value is a weight, of any number of digits.
func isWeight(value string) bool {
	whole, fraction, _ := strings.Cut(value, ".")
	return (whole == "0" || whole == "1") && strings.Trim(fraction, "0123456789") == ""
}

// prefersLanguage reports whether a stored response is in the one language that
// the request prefers to all others. Then no other response could suit the
// request better.
func prefersLanguage(accepted string, contentLanguage []string) bool {
	var stored []string
	field.Members(contentLanguage, func(member string) bool {
		stored = append(stored, strings.ToLower(member))
		return true
	})
	if len(stored) != 1 {
		return false
	}
	best, alone := -1.0, false
	preferred := ""
	for member := range strings.SplitSeq(accepted, ",") {
		language, weight := splitWeight(member)
		switch {
		case weight > best:
			best, alone, preferred = weight, true, language
		case weight == best:
			alone = false
		}
	}
	return alone && best > 0 && preferred == stored[0]
}

// acceptsCoding reports whether a normalised Accept-Encoding accepts a coding,
// by name or by "*". "identity" is accepted unless the field excludes it.
func acceptsCoding(accepted, coding string) bool {
	coding = strings.TrimPrefix(coding, "x-") // RFC 9110, section 8.4.1
	answer := coding == "identity"
	for member := range strings.SplitSeq(accepted, ",") {
		name, weight := splitWeight(member)
		switch {
		case strings.TrimPrefix(name, "x-") == coding:
			return weight > 0
		case name == "*":
			answer = weight > 0
		}
	}
	return answer
}

// splitWeight splits a normalised member into name and weight. A malformed
// weight counts as 0.
func splitWeight(member string) (name string, weight float64) {
	name, weight, ok := weightOf(member)
	if !ok {
		return name, 0
	}
	return name, weight
}

// weightOf splits a normalised member into name and weight. ok is false if the
// weight is malformed. Parameters after the weight are not part of the name.
func weightOf(member string) (name string, weight float64, ok bool) {
	name, q, has := strings.Cut(member, ";q=")
	if !has {
		return name, 1, true
	}
	q, _, _ = strings.Cut(q, ";")
	weight, err := strconv.ParseFloat(q, 64)
	return name, weight, err == nil && weight >= 0 && weight <= 1
}
