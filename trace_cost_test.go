package cachetrip

import (
	"net/http"
	"testing"
)

// TestUntoldCostsNothing tells an answer that nobody wants to know of.
func TestUntoldCostsNothing(t *testing.T) {
	req, err := http.NewRequest("GET", "http://example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	cache, resp := new(Transport), &http.Response{StatusCode: 200}
	if n := testing.AllocsPerRun(100, func() { cache.tell(answerHit, req, "", resp, Status{}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
