package attempt

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"increment-backup-download/handler/cloud"
)

// Limits bound the calls to DBS of an instance. They are safe for concurrent use.
type Limits struct {
	Concurrency int           // calls in flight of an invocation
	rate        *rate.Limiter // nil: no limit
}

// NewLimits returns limits of at least one call in flight and, unless perSecond is 0,
// so many calls started a second.
func NewLimits(concurrency, perSecond int) *Limits {
	l := &Limits{Concurrency: max(concurrency, 1)}
	if perSecond > 0 {
		l.rate = rate.NewLimiter(rate.Limit(perSecond), 1)
	}
	return l
}

// pacer is the gate of the calls to DBS. It holds back all calls of an invocation
// while DBS throttles, since it throttles the account and not one call, and spaces
// the starts of calls if MAX_REQUESTS_PER_SECOND asks for it.
type pacer struct {
	places  chan struct{}
	limiter *rate.Limiter // nil: no limit

	mu       sync.Mutex        // guards what follows
	started  map[int]time.Time // the calls in flight
	number   int
	paused   time.Time // when the last pause began
	resume   time.Time // when it ends
	interval time.Duration
}

// NewGate returns the gate of the calls to DBS of one invocation, with at most the given
// number of calls in flight.
func (l *Limits) NewGate(most int) Gate {
	return &pacer{places: make(chan struct{}, most), limiter: l.rate, started: make(map[int]time.Time)}
}

// Enter implements Gate.
func (p *pacer) Enter(ctx context.Context) (number int, err error) {
	select {
	case p.places <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if err := p.wait(ctx); err != nil {
		<-p.places
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	p.started[p.number] = time.Now()
	return p.number, nil
}

// Leave implements Gate.
func (p *pacer) Leave(number int, err error) {
	<-p.places
	p.mu.Lock()
	defer p.mu.Unlock()
	started := p.started[number]
	delete(p.started, number)
	switch service := cloud.ErrorOf(err); {
	case err == nil:
		if p.interval /= 2; p.interval < firstInterval/2 {
			p.interval = 0
		}
	case service.Throttled:
		p.throttledLocked(started, min(service.RetryAfter, maxHint))
	}
}

// throttledLocked pauses all calls after a throttled answer to a call that started at
// the given time: for the wait that the answer asks for, and for an interval that
// doubles while calls that started after the last pause are throttled.
func (p *pacer) throttledLocked(started time.Time, hint time.Duration) {
	now := time.Now()
	if !started.Before(p.paused) {
		p.interval = min(max(2*p.interval, firstInterval), lastInterval)
		p.paused = now
	}
	if resume := now.Add(hint + p.interval/2); resume.After(p.resume) {
		p.resume = resume
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
// at once with ErrTimeUsedUp if the call's turn comes after the deadline of ctx.
func (p *pacer) wait(ctx context.Context) error {
	for {
		for wait := p.pause(); wait > 0; wait = p.pause() {
			if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
				return ErrTimeUsedUp
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
				return ErrTimeUsedUp // the limiter gives up early if the turn comes too late
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
