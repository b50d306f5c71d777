package attempt

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
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

// NewPacer returns the gate of the calls to DBS of one invocation, with at most the given
// number of calls in flight.
func (l *Limits) NewPacer(most int) *Pacer {
	most = max(most, 1)
	p := &Pacer{most: most, rate: l.rate, limit: float64(most)}
	p.timer = time.AfterFunc(time.Hour, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.admitLocked()
	})
	p.timer.Stop() // until a call has to wait
	return p
}

// fall is the factor by which the limit on calls in flight falls in a round of calls
// with a throttled answer.
const fall = 0.7

// longestPause bounds how long a wait hint holds back the calls of other events.
const longestPause = 10 * time.Second

// Pacer is the gate of the calls to DBS, first come, first served. DBS throttles the
// account and not one call, so all calls of an invocation share one limit on calls in
// flight: it starts at most, grows by one for each round of answers that are not
// throttled, and falls once for each round in which one is. At one call in flight a
// pause between calls grows instead. A wait that DBS asks for is kept up to
// longestPause; if DBS asks for more, one call tries alone. Safe for concurrent use.
type Pacer struct {
	most int
	rate *rate.Limiter // of MAX_REQUESTS_PER_SECOND; nil: no limit

	mu       sync.Mutex // guards what follows
	limit    float64
	inFlight int
	started  int           // calls so far; each has a number
	fell     int           // calls that had started when the limit last fell
	interval time.Duration // of the pauses at one call in flight
	resume   time.Time     // the end of the pause
	trial    int           // the number of the call that tries alone; 0: none
	waiting  []*turn
	timer    *time.Timer // admits the first of them
}

// upcoming is the trial of a call that is yet to start.
const upcoming = -1

// turn is a call that waits to start. It has its number once ready is closed.
type turn struct {
	ready  chan struct{}
	number int
}

// Enter implements Gate.
func (p *Pacer) Enter(ctx context.Context) (number int, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	p.mu.Lock()
	if deadline, ok := ctx.Deadline(); ok && p.resume.After(deadline) {
		p.mu.Unlock()
		return 0, ErrTimeUsedUp
	}
	mine := &turn{ready: make(chan struct{})}
	p.waiting = append(p.waiting, mine)
	p.admitLocked()
	p.mu.Unlock()
	select {
	case <-mine.ready:
		return mine.number, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := slices.Index(p.waiting, mine); at >= 0 {
		p.waiting = slices.Delete(p.waiting, at, at+1)
	} else {
		p.leaveLocked(mine.number, upcoming)
	}
	return 0, context.Cause(ctx)
}

// Pause waits until no pause holds attempts back, or ctx ends.
func (p *Pacer) Pause(ctx context.Context) {
	p.mu.Lock()
	pause := time.Until(p.resume)
	p.mu.Unlock()
	_ = sleep(ctx, pause)
}

// Leave implements Gate.
func (p *Pacer) Leave(number int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch service := cloud.ErrorOf(err); {
	case err != nil && service.Throttled:
		p.throttledLocked(number, min(service.RetryAfter, maxHint))
	case errors.Is(err, errNoAnswer):
		p.leaveLocked(number, upcoming) // it says nothing about DBS
	default: // an answer, or a failure that is not about the number of calls
		p.limit = min(p.limit+1/p.limit, float64(p.most))
		p.interval = 0
		p.leaveLocked(number, 0)
	}
}

// throttledLocked notes a throttled answer, with the wait that it asks for.
func (p *Pacer) throttledLocked(number int, hint time.Duration) {
	if number > p.fell {
		p.fell = p.started
		if p.limit <= 1 {
			p.interval = min(max(2*p.interval, firstInterval), lastInterval)
		}
		p.limit = max(p.limit*fall, 1)
	}
	pause := min(hint, longestPause)
	if p.interval > 0 {
		pause = max(pause, p.interval/2+rand.N(p.interval/2)) //nolint:gosec // G404: jitter needs no secret
	}
	if resume := time.Now().Add(pause); resume.After(p.resume) {
		p.resume = resume
	}
	after := 0
	if hint > longestPause {
		after = upcoming
		if p.trial == 0 {
			p.trial = upcoming
		}
	}
	p.leaveLocked(number, after)
}

// leaveLocked gives back the place of a call; trial is what follows if it was the one
// that tried alone.
func (p *Pacer) leaveLocked(number, trial int) {
	p.inFlight--
	if p.trial == number {
		p.trial = trial
	}
	p.admitLocked()
}

// admitLocked lets the calls start that may, and sets the timer for the next one.
func (p *Pacer) admitLocked() {
	for len(p.waiting) > 0 && p.hasPlaceLocked() {
		if wait := p.waitLocked(); wait > 0 {
			p.timer.Reset(wait)
			return
		}
		p.started++
		p.inFlight++
		if p.trial == upcoming {
			p.trial = p.started
		}
		p.waiting[0].number = p.started
		close(p.waiting[0].ready)
		p.waiting = slices.Delete(p.waiting, 0, 1)
	}
}

// hasPlaceLocked reports whether the number of calls in flight allows another one.
func (p *Pacer) hasPlaceLocked() bool {
	return p.trial == upcoming || p.trial == 0 && p.inFlight < int(p.limit)
}

// waitLocked returns how long a call has to wait though it has a place. If it need not,
// it takes its turn of MAX_REQUESTS_PER_SECOND.
func (p *Pacer) waitLocked() time.Duration {
	now := time.Now()
	if pause := p.resume.Sub(now); pause > 0 {
		return pause
	}
	if p.rate == nil || p.rate.AllowN(now, 1) {
		return 0
	}
	missing := 1 - p.rate.TokensAt(now)
	return time.Duration(missing/float64(p.rate.Limit())*float64(time.Second)) + 1
}
