package handler

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"increment-backup-download/handler/cloud"
)

// Backoff between the attempts of a call: full jitter, that is, evenly from
// nothing to an interval that doubles up to lastInterval. See
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
const (
	firstInterval = 200 * time.Millisecond
	lastInterval  = 10 * time.Second
)

// maxUnrecognized bounds the attempts of a call that the service refuses with a
// code that no table has: it may never succeed.
const maxUnrecognized = 3

// attempts is the state of one call over its attempts. It is the only owner of
// repeats: the adapters make one attempt for each.
type attempts struct {
	made    int
	timeout time.Duration // of the next attempt
	shared  *patience     // with other calls; nil: with none
}

// run makes one attempt within its timeout, which it doubles for the next one if
// this one used it up.
func (a *attempts) run(ctx context.Context, attempt func(context.Context) error) error {
	a.made++
	a.timeout = max(a.timeout, a.shared.least())
	bounded, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	started := time.Now()
	err := attempt(bounded)
	switch {
	case err == nil || bounded.Err() == nil:
		a.shared.answered(time.Since(started))
	case ctx.Err() == nil:
		a.shared.exhausted(a.timeout)
		a.timeout *= 2
	}
	return err
}

// patience is the least timeout of the calls that share it. If a service is slow
// for good, the first attempt of every call would otherwise time out, and a large
// batch would use up its time with those. It is safe for concurrent use; nil is
// that of a call that shares none.
type patience struct {
	usual time.Duration

	mu      sync.Mutex // guards what follows
	timeout time.Duration
}

func newPatience(usual time.Duration) *patience { return &patience{usual: usual, timeout: usual} }

func (p *patience) least() time.Duration {
	if p == nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.timeout
}

// exhausted doubles the timeout after an attempt that used it up. An attempt with a
// shorter timeout says nothing new; one with a longer timeout is of a call that
// timed out before, and may be slow by itself.
func (p *patience) exhausted(timeout time.Duration) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if timeout == p.timeout {
		p.timeout *= 2
	}
}

// answered returns to the usual timeout after an answer within that.
func (p *patience) answered(took time.Duration) {
	if p == nil || took > p.usual {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = p.usual
}

// next returns how long to wait before the attempt after one that failed with
// err, and whether there is to be one: not if the failure is for good, nor if ctx
// ends before the wait does. The wait that a throttled answer asks for comes
// before the backoff.
func (a *attempts) next(ctx context.Context, err error) (wait time.Duration, again bool) {
	if cloud.KindOf(err) != cloud.Transient || errors.Is(err, errTimeUsedUp) || ctx.Err() != nil {
		return 0, false
	}
	service := cloud.ErrorOf(err)
	if service.Unrecognized && a.made >= maxUnrecognized {
		return 0, false
	}
	wait = backoff(a.made)
	if service.Throttled {
		wait += service.RetryAfter
	}
	deadline, bounded := ctx.Deadline()
	return wait, !bounded || time.Until(deadline) > wait
}

// backoff draws the wait after the given number of failed attempts.
func backoff(made int) time.Duration {
	interval := lastInterval
	if shift := made - 1; shift < 10 {
		interval = min(firstInterval<<shift, lastInterval)
	}
	return rand.N(interval) //nolint:gosec // G404: jitter needs no secret
}

// retry makes attempts until one succeeds, fails for good, or ctx ends, and
// returns the error of the last. Before each wait it calls notify.
func retry(ctx context.Context, timeout time.Duration, attempt func(context.Context) error, notify func(error, time.Duration)) error {
	state := attempts{timeout: timeout}
	for {
		err := state.run(ctx, attempt)
		if err == nil {
			return nil
		}
		wait, again := state.next(ctx, err)
		if !again {
			return err
		}
		notify(err, wait)
		if sleep(ctx, wait) != nil {
			return err
		}
	}
}

// sleep waits, and returns early with the cause of ctx's end.
func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
