package handler

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"
)

// The invocation's time is divided backwards from its deadline: the answer needs
// up to answerReserve, publishing before that up to publishReserve, and what is
// left is for calling DBS. Short deadlines give shares instead.
const (
	answerReserve  = time.Second
	answerShare    = 10 // a tenth
	publishReserve = 10 * time.Second
	publishShare   = 5 // a fifth
)

// Bounds of a single attempt, so that one hanging call does not use up the budget
// that a second attempt could use.
const (
	callTimeout    = 15 * time.Second
	publishTimeout = 4 * time.Second
)

// errTimeUsedUp is the cause with which the budget's contexts end.
var errTimeUsedUp = errors.New("the time of the invocation is used up")

// budget returns when calls to DBS end and when publishing ends.
func budget(now, deadline time.Time) (calls, publishing time.Time) {
	left := deadline.Sub(now)
	publishing = deadline.Add(-min(answerReserve, left/answerShare))
	calls = publishing.Add(-min(publishReserve, left/publishShare))
	return calls, publishing
}

// withBudget returns the contexts for calls to DBS and for publishing. Without a
// deadline in ctx neither has one.
func withBudget(ctx context.Context) (calls, publishing context.Context, cancel context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		ctx, cancel = context.WithCancel(ctx)
		return ctx, ctx, cancel
	}
	callsEnd, publishingEnd := budget(time.Now(), deadline)
	publishing, cancelPublishing := context.WithDeadlineCause(ctx, publishingEnd, errTimeUsedUp)
	calls, cancelCalls := context.WithDeadlineCause(publishing, callsEnd, errTimeUsedUp)
	return calls, publishing, func() { cancelCalls(); cancelPublishing() }
}

// Backoff between attempts: full jitter over a doubling interval, that is, evenly
// from nothing to the interval.
const (
	firstInterval = 200 * time.Millisecond
	lastInterval  = 10 * time.Second
)

// retry calls attempt until it succeeds, fails for good, or ctx ends, and returns
// the last attempt's error, or the cause of ctx's end before the first. It is the
// only owner of repeats: the SDKs' own are switched off. With an error that
// carries the service's wait hint it waits as long as that says; it gives up at
// once when the wait would outlast ctx. Before each wait it calls notify.
func retry(ctx context.Context, attempt func() error, notify func(error, time.Duration)) error {
	var last error
	deadline, bounded := ctx.Deadline()
	outlasts := func(wait time.Duration) bool { return bounded && time.Until(deadline) <= wait }
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		if ctx.Err() != nil {
			return struct{}{}, backoff.Permanent(context.Cause(ctx))
		}
		if last = attempt(); last == nil {
			return struct{}{}, nil
		}
		if kindOf(last) != Transient || errors.Is(last, errTimeUsedUp) {
			return struct{}{}, backoff.Permanent(last)
		}
		var service *ServiceError
		if errors.As(last, &service) && service.RetryAfter > 0 {
			if outlasts(service.RetryAfter) {
				return struct{}{}, backoff.Permanent(last)
			}
			return struct{}{}, &backoff.RetryAfterError{Duration: service.RetryAfter}
		}
		return struct{}{}, last
	},
		backoff.WithBackOff(&jitter{
			ExponentialBackOff: backoff.ExponentialBackOff{
				// The library draws from interval ± RandomizationFactor × interval;
				// a factor of 1 over half the interval is full jitter.
				InitialInterval:     firstInterval / 2,
				MaxInterval:         lastInterval / 2,
				Multiplier:          2,
				RandomizationFactor: 1,
			},
			outlasts: outlasts,
		}),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(_ error, wait time.Duration) { notify(last, wait) }),
	)
	if err != nil && last != nil {
		return last
	}
	return err
}

// jitter is the library's exponential backoff, stopped where a wait would outlast
// the time there is.
type jitter struct {
	backoff.ExponentialBackOff
	outlasts func(time.Duration) bool
}

func (j *jitter) NextBackOff() time.Duration {
	wait := j.ExponentialBackOff.NextBackOff()
	if j.outlasts(wait) {
		return backoff.Stop
	}
	return wait
}

// pacer holds back all workers of an invocation when DBS throttles one of them,
// and spaces the starts of calls where MAX_REQUESTS_PER_SECOND asks for it. It is
// safe for concurrent use.
type pacer struct {
	limiter *rate.Limiter // nil: no limit

	mu     sync.Mutex
	resume time.Time
	spread time.Duration
}

// pause holds back every call that has not started for the given time.
func (p *pacer) pause(wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if resume := time.Now().Add(wait); resume.After(p.resume) {
		p.resume, p.spread = resume, wait/2
	}
}

// wait returns when a call may start, or with the cause of ctx's end. Behind a
// pause the calls start spread out, not all at once.
func (p *pacer) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		wait := time.Until(p.resume)
		if wait > 0 && p.spread > 0 {
			wait += rand.N(p.spread) //nolint:gosec // G404: jitter needs no secret
		}
		p.mu.Unlock()
		if wait <= 0 {
			break
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if p.limiter == nil {
		return nil
	}
	if p.limiter.Wait(ctx) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// The limiter gives up early where the deadline is nearer than the turn.
	return errTimeUsedUp
}
