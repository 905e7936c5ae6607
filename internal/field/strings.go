package field

import "github.com/dunglas/httpsfv"

// Strings returns the members of a field that is a List of Strings (RFC 9651,
// sections 3.1 and 3.3.3), without their parameters. A malformed field, and one
// with other members, has none. ok is false if the lines have more than
// maxBytes bytes, or more than maxMembers members: then Strings does not read
// them.
func Strings(lines []string, maxBytes, maxMembers int) (members []string, ok bool) {
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	if size == 0 {
		return nil, true
	}
	if size > maxBytes {
		return nil, false
	}
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil, true
	}
	if len(list) > maxMembers {
		return nil, false
	}
	for _, member := range list {
		item, isItem := member.(httpsfv.Item)
		text, isString := item.Value.(string)
		if !isItem || !isString {
			return nil, true
		}
		members = append(members, text)
	}
	return members, true
}
