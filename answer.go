package cachetrip

import "net/http"

// How a request was answered, and how an exchange goes on after an attempt to answer it.

// answerKind is how a request was answered.
type answerKind int

const (
	answerHit answerKind = iota
	answerStale
	answerRevalidated
	answerCollapsed
	answerMiss
	answerRefused
)

// String names how a request was answered, for logs.
func (k answerKind) String() string {
	return [...]string{"hit", "stale hit", "revalidated", "collapsed", "miss", "refused"}[k]
}

func (k answerKind) hook(t *Trace) func(AnswerInfo) {
	return [...]func(AnswerInfo){t.Hit, t.StaleHit, t.Revalidated, t.Collapsed, t.Miss, t.Refused}[k]
}

// answer is what an attempt of an exchange has led to.
type answer struct {
	next   next
	kind   answerKind     // of resp
	resp   *http.Response // what the caller gets, if next is answered and err is nil
	err    error          // what the caller gets instead
	status Status         // what StatusOf cannot tell from resp
}

// next is how an exchange goes on after an attempt.
type next int

const (
	answered   next = iota
	alone           // it begins again without waiting for others: their response was of no use
	impatient       // it begins again, and waits no longer for others
	again           // it begins again: what is stored has changed
	unreadable      // it begins again as if nothing were stored
)
