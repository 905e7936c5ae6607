package command

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDemo runs the demo twice in one directory, and checks what the demo says
// about the cache.
func TestDemo(t *testing.T) {
	const (
		stored    = "not in the cache: fetched and stored"
		variant   = "only other variants in the cache: fetched and stored"
		fresh     = "fresh for another N: served from the cache"
		confirmed = "stale: the origin confirmed it (304), served from the cache"
		replaced  = "stale: fetched and stored"
		unmatched = "stale: fetched and stored (unmatched-304)"
	)
	type row struct {
		request, asked string
		words          string
	}
	dir := filepath.Join(t.TempDir(), "cache")
	for _, test := range []struct {
		start string
		rows  []row
		with  int // requests at the origin
	}{
		{"\nIt starts cold: nothing is stored.\n", []row{
			{"GET /style.css", "once", stored},
			{"GET /style.css", "no", fresh},
			{"GET /catalogue", "once", stored},
			{"GET /catalogue", "once", confirmed},
			{"GET /catalogue", "once", confirmed},
			{"GET /news", "once", stored},
			{"GET /news", "once", replaced},
			{"GET /hello (en)", "once", stored},
			{"GET /hello (de)", "once", variant},
			{"GET /hello (en)", "no", fresh},
			{"GET /hello (de)", "no", fresh},
			{"GET /mirror", "once", stored},
			{"GET /mirror", "twice", unmatched},
		}, 11},
		{"\nIt starts warm: 6 responses are stored.\n", []row{
			{"GET /style.css", "no", fresh},
			{"GET /style.css", "no", fresh},
			{"GET /catalogue", "once", confirmed},
			{"GET /catalogue", "once", confirmed},
			{"GET /catalogue", "once", confirmed},
			{"GET /news", "once", replaced},
			{"GET /news", "once", replaced},
			{"GET /hello (en)", "no", fresh},
			{"GET /hello (de)", "no", fresh},
			{"GET /hello (en)", "no", fresh},
			{"GET /hello (de)", "no", fresh},
			{"GET /mirror", "twice", unmatched},
			{"GET /mirror", "once", replaced}, // the URL is asked without conditions for a while
		}, 8},
	} {
		code, stdout, stderr := command(t, "demo", "--dir", dir)
		if code != exitDone || stderr != "" {
			t.Fatalf("exit code %d, stderr %q, stdout:\n%s", code, stderr, stdout)
		}
		for _, want := range []string{
			"\nThe cache is in " + dir + ".\n",
			test.start,
			fmt.Sprintf("\nrequests at the origin   %16d %16d\n", test.with, len(test.rows)),
			"\nAll 13 responses were the same, byte for byte, with and without the cache.\n",
			"\n6 responses are stored in " + dir + ".\n",
		} {
			if !strings.Contains(stdout, want) {
				t.Errorf("the demo does not say %q", want)
			}
		}
		found := regexp.MustCompile(`(?m)^  (GET .*?)  +(\d+)  +(\S+)  +(\S+ k?B)  (.*)$`).FindAllStringSubmatch(stdout, -1)
		if len(found) != len(test.rows) {
			t.Fatalf("%d requests, want %d:\n%s", len(found), len(test.rows), stdout)
		}
		for i, want := range test.rows {
			words := regexp.MustCompile(`another \w+`).ReplaceAllString(found[i][5], "another N")
			got := row{found[i][1], found[i][3], words}
			if got != want || found[i][2] != "200" {
				t.Errorf("request %d is %v, status %s, want %v", i+1, got, found[i][2], want)
			}
			if noBytes := found[i][4] == "0 B"; noBytes != (want.asked == "no") {
				t.Errorf("request %d: %s on the wire, asked %s", i+1, found[i][4], want.asked)
			}
		}
		if t.Failed() {
			t.Fatal(stdout)
		}
	}
}
