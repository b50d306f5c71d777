package handler

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
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
}

// run makes one attempt within its timeout, which it doubles for the next one if
// this one used it up.
func (a *attempts) run(ctx context.Context, attempt func(context.Context) error) error {
	a.made++
	bounded, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	err := attempt(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		a.timeout *= 2
	}
	return err
}

// next returns how long to wait before the attempt after one that failed with
// err, and whether there is to be one: not if the failure is for good, nor if ctx
// ends before the wait does. The wait that a throttled answer asks for comes
// before the backoff.
func (a *attempts) next(ctx context.Context, err error) (wait time.Duration, again bool) {
	if kindOf(err) != Transient || errors.Is(err, errTimeUsedUp) || ctx.Err() != nil {
		return 0, false
	}
	service := serviceErrorOf(err)
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
