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
		lines := Prepare(h)
		for how, copied := range map[string]func(fields, lines int) (http.Header, []string){
			"prepared": lines.Copy,
			"once":     func(fields, lines int) (http.Header, []string) { return Copy(h, fields, lines) },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				first, room := copied(1, 2)
				room[0], room[1] = "x", "y"
				first["X"] = room[:1:1]
				for name := range h {
					if cap(first[name]) > len(first[name]) {
						t.Errorf("an append to %s writes into another field", name)
					}
					first[name] = append(first[name], "more")
					if len(h[name]) > 0 {
						first[name][0] = "changed"
					}
				}
				if second, _ := copied(0, 0); !cmp.Equal(second, h) {
					t.Errorf("after a copy was changed: %s", cmp.Diff(h, second))
				}
			})
		}
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
