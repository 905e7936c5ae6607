package patience

import (
	"context"
	"time"
)

// Until returns a context like parent but with another deadline, which does not
// end it. A zero deadline is none. So a call can be told how long its caller
// waits, without being ended when the caller goes on.
func Until(parent context.Context, deadline time.Time) context.Context {
	if _, ok := parent.Deadline(); !ok && deadline.IsZero() {
		return parent
	}
	return until{parent, deadline}
}

// Lasting returns a context with the values and the deadline of ctx that never
// ends.
func Lasting(ctx context.Context) context.Context {
	if ctx.Done() == nil {
		return ctx
	}
	deadline, _ := ctx.Deadline()
	return until{context.WithoutCancel(ctx), deadline}
}

type until struct {
	context.Context
	deadline time.Time
}

func (c until) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }
