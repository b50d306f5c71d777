package attempt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"increment-backup-download/handler/cloud"
)

// The invocation's time is divided backwards from its deadline: first the answer, then
// publishing, and the rest is for calling DBS. A short deadline gives shares instead;
// but settling the events of a large payload takes its time in any case.
const (
	answerReserve  = time.Second
	answerShare    = 10                    // a tenth
	settlePerByte  = 300 * time.Nanosecond // settles an event of 700 bytes in 0.2 ms: 10 µs at 0.05 vCPU
	settleShare    = 2                     // half
	publishReserve = 10 * time.Second
	publishShare   = 5 // a fifth
)

// ErrTimeUsedUp is the cause with which the contexts of a budget end.
var ErrTimeUsedUp = errors.New("the time of the invocation is used up")

// CheckDeadline returns an error if the deadline of an invocation has passed when the
// invocation begins: the clock of the instance and that of the platform differ.
func CheckDeadline(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	now := time.Now()
	if !ok || now.Before(deadline) {
		return nil
	}
	return &cloud.Error{
		Kind: cloud.OperatorFault, Service: "Function Compute", Code: "DeadlinePassed",
		Message: fmt.Sprintf("the deadline of the invocation, %s, had passed when it began, at %s by the clock of the instance",
			deadline.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
		Fix: "wait for a new instance, whose clock may be right; if it is wrong too, report it to Function Compute",
	}
}

// Invocation is what the calls of one invocation share: its time, its log, and their
// counts. It is safe for concurrent use.
type Invocation struct {
	Calls      context.Context // ends before Publishing does
	Publishing context.Context // ends before the deadline of the invocation
	Log        *slog.Logger

	calls, throttled atomic.Int64
}

// NewInvocation divides the time of an invocation with a payload of the given size in
// bytes. If ctx has no deadline, neither context has one.
func NewInvocation(ctx context.Context, payload int, log *slog.Logger) (*Invocation, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		ctx, cancel := context.WithCancel(ctx)
		return &Invocation{Calls: ctx, Publishing: ctx, Log: log}, cancel
	}
	callsEnd, publishingEnd := divide(time.Now(), deadline, payload)
	publishing, cancelPublishing := context.WithDeadlineCause(ctx, publishingEnd, ErrTimeUsedUp)
	calls, cancelCalls := context.WithDeadlineCause(publishing, callsEnd, ErrTimeUsedUp)
	return &Invocation{Calls: calls, Publishing: publishing, Log: log}, func() { cancelCalls(); cancelPublishing() }
}

// CallDBS returns a caller of DBS, whose calls end with the time for them. They share a
// gate, and what they learn of a slow service.
func (i *Invocation) CallDBS(gate Gate) *Caller {
	return &Caller{Gate: gate, Starting: i.Calls, Running: i.Calls, service: "DBS", patience: newPatience(callTimeout), invocation: i}
}

// CallMNS returns a caller of MNS, whose calls end with the time for publishing. Nothing
// holds them back.
func (i *Invocation) CallMNS() *Caller {
	return &Caller{Gate: open{}, Starting: i.Publishing, Running: i.Publishing, service: "MNS",
		patience: newPatience(publishTimeout), invocation: i}
}

// Counts returns how many calls to DBS were made, and how many answers of DBS and MNS
// were throttled, as attributes of the invocation's log line.
func (i *Invocation) Counts() []slog.Attr {
	return []slog.Attr{slog.Int64("attempts", i.calls.Load()), slog.Int64("throttled", i.throttled.Load())}
}

// divide returns when calls to DBS end and when publishing ends.
func divide(now, deadline time.Time, payload int) (calls, publishing time.Time) {
	left := deadline.Sub(now)
	answer := min(answerReserve, left/answerShare)
	settling := min(time.Duration(payload)*settlePerByte, left/settleShare)
	publishing = deadline.Add(-answer - settling)
	calls = publishing.Add(-min(publishReserve, left/publishShare))
	return calls, publishing
}
