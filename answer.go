package cachetrip

import "net/http"

// How a request was answered, and how an exchange continues after an attempt.

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

// answer is the result of an attempt.
type answer struct {
	next   next
	kind   answerKind     // of resp
	resp   *http.Response // the caller's response, if next is answered and err is nil
	err    error          // the caller's error
	status Status         // the status, where StatusOf cannot tell it from resp
}

// next says how an exchange continues after an attempt.
type next int

const (
	answered   next = iota
	alone           // try again without waiting for others, because their response was of no use
	impatient       // try again, and do not wait for others any more
	again           // try again, because the stored responses have changed
	unreadable      // try again as if nothing were stored
)
