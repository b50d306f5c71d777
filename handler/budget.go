package handler

import (
	"context"
	"errors"
	"time"
)

// The invocation's time is divided backwards from its deadline: the answer needs
// up to answerReserve and what a payload of that size adds, publishing before
// that up to publishReserve, and what is left is for calling DBS. Short deadlines
// give shares instead.
const (
	answerReserve  = time.Second
	answerPerByte  = 300 * time.Nanosecond // settles an event of 700 bytes in 0.2 ms: 10 µs at 0.05 vCPU
	answerShare    = 10                    // a tenth
	publishReserve = 10 * time.Second
	publishShare   = 5 // a fifth
)

// Usual timeouts of a first attempt, so that one hanging call does not use up the
// time that a second attempt could use.
const (
	callTimeout    = 15 * time.Second
	publishTimeout = 4 * time.Second
)

// codeNotTried stands in the log for the code of an event that there was no time to
// call DBS for.
const codeNotTried = "NotTried"

// errTimeUsedUp is the cause with which the budget's contexts end.
var errTimeUsedUp = errors.New("the time of the invocation is used up")

// budget returns when calls to DBS end and when publishing ends, for a payload of
// the given size.
func budget(now, deadline time.Time, payload int) (calls, publishing time.Time) {
	left := deadline.Sub(now)
	answer := answerReserve + time.Duration(payload)*answerPerByte
	publishing = deadline.Add(-min(answer, left/answerShare))
	calls = publishing.Add(-min(publishReserve, left/publishShare))
	return calls, publishing
}

// withBudget returns the contexts for calls to DBS and for publishing. If ctx has
// no deadline, neither has one.
func withBudget(ctx context.Context, payload int) (calls, publishing context.Context, cancel context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		ctx, cancel = context.WithCancel(ctx)
		return ctx, ctx, cancel
	}
	callsEnd, publishingEnd := budget(time.Now(), deadline, payload)
	publishing, cancelPublishing := context.WithDeadlineCause(ctx, publishingEnd, errTimeUsedUp)
	calls, cancelCalls := context.WithDeadlineCause(publishing, callsEnd, errTimeUsedUp)
	return calls, publishing, func() { cancelCalls(); cancelPublishing() }
}
