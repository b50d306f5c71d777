package handler

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pacer decides when a call to DBS may start. It holds back all calls of an
// invocation while DBS throttles, since it throttles the account and not one
// call, and spaces the starts of calls if MAX_REQUESTS_PER_SECOND asks for it. It
// is safe for concurrent use.
type pacer struct {
	limiter *rate.Limiter // nil: no limit

	mu       sync.Mutex // guards what follows
	paused   time.Time  // when the last pause began
	resume   time.Time  // when it ends
	interval time.Duration
}

// throttled pauses all calls after a throttled answer to a call that started at
// the given time: for the wait that the answer asks for, and for an interval that
// doubles while calls that started after the last pause are throttled.
func (p *pacer) throttled(started time.Time, hint time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !started.Before(p.paused) {
		p.interval = min(max(2*p.interval, firstInterval), lastInterval)
		p.paused = now
	}
	if resume := now.Add(hint + p.interval/2); resume.After(p.resume) {
		p.resume = resume
	}
}

// succeeded shortens the next pause: DBS takes calls again.
func (p *pacer) succeeded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.interval /= 2; p.interval < firstInterval/2 {
		p.interval = 0
	}
}

// pause returns how long a call has to wait now. After a pause the calls start
// spread out over half an interval, not all at once.
func (p *pacer) pause() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := time.Until(p.resume)
	if wait > 0 && p.interval > 1 {
		wait += rand.N(p.interval / 2) //nolint:gosec // G404: jitter needs no secret
	}
	return wait
}

// wait returns nil when a call may start, or the cause of ctx's end. It returns
// at once with errTimeUsedUp if the call's turn comes after the deadline of ctx.
func (p *pacer) wait(ctx context.Context) error {
	for {
		for wait := p.pause(); wait > 0; wait = p.pause() {
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
				return errTimeUsedUp
			}
			if err := sleep(ctx, wait); err != nil {
				return err
			}
		}
		if p.limiter == nil {
			break
		}
		if p.limiter.Wait(ctx) != nil {
			if ctx.Err() == nil {
				return errTimeUsedUp // the limiter gives up early if the turn comes too late
			}
			break
		}
		// A pause may have begun meanwhile.
		if p.pause() <= 0 {
			break
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
