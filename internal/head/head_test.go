package head

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCopy(t *testing.T) {
	for name, h := range map[string]http.Header{
		"empty": {}, "one": {"A": {"1"}}, "several lines": {"A": {"1", "2"}, "B": {"3"}, "C": {}},
	} {
		t.Run(name, func(t *testing.T) {
			lines := Prepare(h)
			first, room := lines.Copy(1, 2)
			room[0], room[1] = "x", "y"
			first["X"] = room[:1:1]
			for name := range h {
				first[name] = append(first[name], "more")
				if len(h[name]) > 0 {
					first[name][0] = "changed"
				}
			}
			if second, _ := lines.Copy(0, 0); !cmp.Equal(second, h) {
				t.Errorf("after a copy was changed: %s", cmp.Diff(h, second))
			}
		})
	}
}

func TestBytes(t *testing.T) {
	if n := Prepare(http.Header{"Ab": {"123", "4"}, "C": nil}).Bytes(); n != 7 {
		t.Errorf("got %d, want 7", n)
	}
}

func TestSaid(t *testing.T) {
	lines := Prepare(nil)
	if lines.LastSaid() != nil {
		t.Error("something was said")
	}
	lines.Remember(Said{Age: 1, Value: "1"})
	if s := lines.LastSaid(); s == nil || s.Age != 1 || s.Value != "1" {
		t.Errorf("got %v", s)
	}
}
