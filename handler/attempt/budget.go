package attempt

import (
	"context"
	"errors"
	"time"
)

// The invocation's time is divided backwards from its deadline: the answer needs
// up to answerReserve and what a payload of that size adds, publishing before
// that up to publishReserve, and the rest is for calling DBS. Short deadlines
// give shares instead.
const (
	answerReserve  = time.Second
	answerPerByte  = 300 * time.Nanosecond // settles an event of 700 bytes in 0.2 ms: 10 µs at 0.05 vCPU
	answerShare    = 10                    // a tenth
	publishReserve = 10 * time.Second
	publishShare   = 5 // a fifth
)

// ErrTimeUsedUp is the cause with which the contexts of a budget end.
var ErrTimeUsedUp = errors.New("the time of the invocation is used up")

// Budget divides the time of an invocation.
type Budget struct {
	Calls      context.Context // ends before Publishing does
	Publishing context.Context // ends before the deadline of the invocation
}

// NewBudget returns the budget of an invocation with a payload of the given size in
// bytes. If ctx has no deadline, neither context has one.
func NewBudget(ctx context.Context, payload int) (Budget, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		ctx, cancel := context.WithCancel(ctx)
		return Budget{Calls: ctx, Publishing: ctx}, cancel
	}
	callsEnd, publishingEnd := divide(time.Now(), deadline, payload)
	publishing, cancelPublishing := context.WithDeadlineCause(ctx, publishingEnd, ErrTimeUsedUp)
	calls, cancelCalls := context.WithDeadlineCause(publishing, callsEnd, ErrTimeUsedUp)
	return Budget{Calls: calls, Publishing: publishing}, func() { cancelCalls(); cancelPublishing() }
}

// divide returns when calls to DBS end and when publishing ends.
func divide(now, deadline time.Time, payload int) (calls, publishing time.Time) {
	left := deadline.Sub(now)
	answer := answerReserve + time.Duration(payload)*answerPerByte
	publishing = deadline.Add(-min(answer, left/answerShare))
	calls = publishing.Add(-min(publishReserve, left/publishShare))
	return calls, publishing
}
