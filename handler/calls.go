package handler

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"increment-backup-download/handler/cloud"
)

// callLog counts the attempts of an invocation, and logs its repeats. It is safe
// for concurrent use.
type callLog struct {
	log       *slog.Logger
	attempts  atomic.Int64 // calls made to DBS
	throttled atomic.Int64 // answers of DBS and MNS that ask to be called less often
}

// repeat notes that a call is made again after err and a wait.
func (l *callLog) repeat(text string, made int, wait time.Duration, err error, what ...slog.Attr) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	l.log.LogAttrs(ctx, slog.LevelDebug, text, append(what, slog.Int("attempts", made),
		slog.Int64("waitMs", wait.Milliseconds()), slog.String("error", err.Error()))...)
}

// caller makes the calls to DBS of one invocation: each attempt paced, within its
// own timeout and the time budget, and counted. It is safe for concurrent use.
type caller struct {
	starting context.Context // no attempt starts after its end
	running  context.Context // attempts that have started go on until its end
	pacer    *pacer
	log      *callLog
	places   chan struct{} // of the calls in flight, for do
}

// attempt makes one attempt of a call, and returns its error with the wait before
// the next attempt and whether there is to be one.
func (c *caller) attempt(state *attempts, call func(context.Context) error, what ...slog.Attr) (wait time.Duration, again bool, err error) {
	if err := c.pacer.wait(c.starting); err != nil {
		return 0, false, err
	}
	c.log.attempts.Add(1)
	started := time.Now()
	err = state.run(c.running, call)
	if err == nil {
		c.pacer.succeeded()
		return 0, false, nil
	}
	if service := cloud.ErrorOf(err); service.Throttled {
		c.log.throttled.Add(1)
		c.pacer.throttled(started, service.RetryAfter)
	}
	if wait, again = state.next(c.starting, err); again {
		c.log.repeat("calling DBS again", state.made, wait, err, what...)
	}
	return wait, again, err
}

// do makes a call until it succeeds, fails for good, or there is no time, and
// returns the error of the last attempt. It holds one of the places in flight
// during an attempt, and none while it waits.
func (c *caller) do(call func(context.Context) error, what ...slog.Attr) error {
	state := attempts{timeout: callTimeout}
	for {
		select {
		case c.places <- struct{}{}:
		case <-c.starting.Done():
			return context.Cause(c.starting)
		}
		wait, again, err := c.attempt(&state, call, what...)
		<-c.places
		if err == nil || !again {
			return err
		}
		if sleep(c.starting, wait) != nil {
			return err
		}
	}
}
