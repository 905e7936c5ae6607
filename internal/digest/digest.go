// Package digest checks content against the fields Content-Digest and
// Repr-Digest of RFC 9530. It promises:
//
//   - The algorithms sha-256 and sha-512 count, and of one field only the
//     stronger one. Other algorithms and malformed fields are ignored.
//   - Content is hashed once for each algorithm, while it passes. Memory does not
//     grow with the content.
//   - Without a digest there is no [Check], and a nil Check costs nothing.
package digest

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"slices"

	"github.com/dunglas/httpsfv"
)

// The fields of RFC 9530, sections 2 and 3.
const (
	ContentField = "Content-Digest" // of the content of the message
	ReprField    = "Repr-Digest"    // of the whole representation, in its content coding
)

// algorithm is a hash function that counts.
type algorithm struct {
	name string
	size int
	new  func() hash.Hash
}

// algorithms has the strongest one first. RFC 9530, section 7.2.
var algorithms = [...]algorithm{
	{"sha-512", sha512.Size, sha512.New},
	{"sha-256", sha256.Size, sha256.New},
}

// maxBytes limits a field that is parsed. All registered algorithms together
// take less than a tenth of it.
const maxBytes = 4 << 10

// Digest is a digest that a field states.
type Digest struct {
	field     string
	algorithm *algorithm
	value     []byte
}

// Of returns the strongest digest in the lines of a field. ok is false if there
// is none that counts.
func Of(field string, lines []string) (d Digest, ok bool) {
	values := parse(lines)
	for i, value := range values {
		if value != nil {
			return Digest{field, &algorithms[i], value}, true
		}
	}
	return Digest{}, false
}

// Differ reports whether the lines of a field in two messages state different
// digests. Then the two do not describe the same bytes.
func Differ(a, b []string) bool {
	if len(a) == 0 || len(b) == 0 || slices.Equal(a, b) {
		return false // nearly always
	}
	first, second := parse(a), parse(b)
	for i := range first {
		if first[i] != nil && second[i] != nil && !bytes.Equal(first[i], second[i]) {
			return true
		}
	}
	return false
}

// parse returns the digests in the lines of a field, in the order of
// algorithms. A value of the wrong type or length counts as absent.
func parse(lines []string) (values [len(algorithms)][]byte) {
	size := 0
	for _, line := range lines {
		size += len(line)
	}
	if size == 0 || size > maxBytes {
		return values
	}
	members, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return values
	}
	for i, algorithm := range algorithms {
		member, _ := members.Get(algorithm.name)
		item, _ := member.(httpsfv.Item)
		if value, _ := item.Value.([]byte); len(value) == algorithm.size {
			values[i] = value
		}
	}
	return values
}
