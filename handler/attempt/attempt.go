// Package attempt makes one call to a service over all its attempts: when an attempt
// may start, how long it may take, whether there is another and how long to wait for
// it, all within the time budget of an invocation. It is the only owner of repeats:
// the adapters make one attempt for each call.
package attempt

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"increment-backup-download/handler/cloud"
)

// Timeouts of a first attempt, so that one hanging call does not use up the time that
// a second attempt could use.
const (
	callTimeout    = 15 * time.Second // of a call to DBS
	publishTimeout = 4 * time.Second  // of a call to MNS
)

// Backoff between the attempts of a call: full jitter, that is, evenly from nothing to an
// interval that doubles up to lastInterval. See
// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.
const (
	firstInterval = 200 * time.Millisecond
	lastInterval  = 10 * time.Second
)

// Backoff returns the longest wait after the given number of failed attempts.
func Backoff(made int) time.Duration {
	return min(firstInterval<<min(made-1, 10), lastInterval)
}

// maxHint bounds the wait that a throttled answer asks for: it comes from outside.
const maxHint = time.Minute

// maxUnrecognized bounds how often the service refuses a call with an unknown code: it
// may never succeed.
const maxUnrecognized = 3

// State is the state of one call over its attempts. The zero value is that of a call
// that was not made yet. One goroutine at a time may use it.
type State struct {
	Made int   // attempts
	Last error // of the last attempt that was made

	throttled int           // of those made
	refused   int           // of those made, with an unknown code
	timeout   time.Duration // of the next one, once one has timed out
}

// RefusedForGood reports whether the call has ended because the service keeps refusing it
// with an unknown code.
func (s *State) RefusedForGood() bool {
	return s.refused >= maxUnrecognized && cloud.ErrorOf(s.Last).Unrecognized
}

// run makes one attempt within its timeout, and doubles that for the next one if this
// one used it up.
func (s *State) run(ctx context.Context, patience *patience, call func(context.Context) error) error {
	s.Made++
	s.timeout = max(s.timeout, patience.least())
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	started := time.Now()
	err := call(bounded)
	s.Last = err
	switch {
	case err == nil || bounded.Err() == nil:
		patience.answered(time.Since(started))
	case ctx.Err() == nil:
		patience.exhausted(s.timeout)
		s.timeout *= 2
	}
	switch service := cloud.ErrorOf(err); {
	case service.Throttled:
		s.throttled++
	case service.Unrecognized:
		s.refused++
	}
	return err
}

// next returns how long to wait before the attempt after the last one, which failed, and
// whether there is to be one: not if the failure is for good, nor if ctx ends before the
// wait does. A throttled answer does not lengthen the backoff, since it lowers the limit
// on calls in flight; the wait that it asks for comes before it.
func (s *State) next(ctx context.Context) (wait time.Duration, again bool) {
	if cloud.KindOf(s.Last) != cloud.Transient || ctx.Err() != nil || s.RefusedForGood() {
		return 0, false
	}
	wait = rand.N(Backoff(max(s.Made-s.throttled, 1))) //nolint:gosec // G404: jitter needs no secret
	if service := cloud.ErrorOf(s.Last); service.Throttled {
		wait += min(service.RetryAfter, maxHint)
	}
	deadline, bounded := ctx.Deadline()
	return wait, !bounded || time.Until(deadline) > wait
}

// errNoAnswer marks an attempt that ended because its time was up, for the gate.
var errNoAnswer = errors.New("no answer in time")

// Gate decides when an attempt may start. It is safe for concurrent use.
type Gate interface {
	// Enter waits until an attempt may start, and returns its number, or the cause of
	// ctx's end. It may return ErrTimeUsedUp at once if the attempt could only start
	// after the deadline of ctx.
	Enter(ctx context.Context) (number int, err error)
	// Leave notes that an attempt ended, and how.
	Leave(number int, err error)
}

// open is the gate of calls that nothing holds back.
type open struct{}

func (open) Enter(ctx context.Context) (int, error) { return 0, context.Cause(ctx) }
func (open) Leave(int, error)                       {}

// Caller makes calls to one service. It is safe for concurrent use.
type Caller struct {
	Gate     Gate
	Starting context.Context // no attempt starts after its end
	Running  context.Context // an attempt that has started goes on until its end

	service    string // DBS or MNS
	patience   *patience
	invocation *Invocation
}

// Within returns a caller whose attempts also end with ctx.
func (c *Caller) Within(ctx context.Context) *Caller {
	bounded := *c
	bounded.Starting, bounded.Running = ctx, ctx
	return &bounded
}

// Once makes one attempt of a call, and returns its error. ErrTimeUsedUp or the cause
// of Starting's end means that none was made.
func (c *Caller) Once(state *State, call func(context.Context) error) error {
	number, err := c.Gate.Enter(c.Starting)
	if err != nil {
		return err
	}
	err = state.run(c.Running, c.patience, call)
	if err != nil && c.Running.Err() != nil {
		c.Gate.Leave(number, errors.Join(errNoAnswer, err))
	} else {
		c.Gate.Leave(number, err)
	}
	if c.service == "DBS" {
		c.invocation.calls.Add(1)
	}
	if cloud.ErrorOf(err).Throttled {
		c.invocation.throttled.Add(1)
	}
	return err
}

// Attempt makes one attempt of a call, and returns its error, with the wait before the
// next attempt and whether there is to be one. If there is no time for the attempt, the
// error is that of the one before, which says more.
func (c *Caller) Attempt(state *State, call func(context.Context) error, what ...slog.Attr) (wait time.Duration, again bool, err error) {
	made := state.Made
	if err = c.Once(state, call); err == nil {
		return 0, false, nil
	}
	if state.Made == made {
		return 0, false, cmp.Or(state.Last, err)
	}
	if wait, again = state.next(c.Starting); again {
		c.invocation.Log.LogAttrs(c.Running, slog.LevelDebug, "calling "+c.service+" again", append(what,
			slog.Int("attempts", state.Made), slog.Int64("waitMs", wait.Milliseconds()), slog.String("error", err.Error()))...)
	}
	return wait, again, err
}

// Do makes a call until it succeeds, fails for good, or there is no time left, and
// returns the error of the last attempt. It leaves the gate while it waits.
func (c *Caller) Do(call func(context.Context) error, what ...slog.Attr) error {
	var state State
	for {
		wait, again, err := c.Attempt(&state, call, what...)
		if !again || sleep(c.Starting, wait) != nil {
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
