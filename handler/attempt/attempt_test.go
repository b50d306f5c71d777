package attempt_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
)

func failure(code string, change func(*cloud.Error)) error {
	err := &cloud.Error{Service: "DBS", Code: code}
	if change != nil {
		change(err)
	}
	return err
}

func throttled(hint time.Duration) error {
	return failure("Throttling.User", func(e *cloud.Error) { e.Throttled, e.RetryAfter = true, hint })
}

// open returns a caller of an invocation with the given time.
func open(t *testing.T, timeout time.Duration, gate attempt.Gate) *attempt.Caller {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), timeout, attempt.ErrTimeUsedUp)
	t.Cleanup(cancel)
	invocation, release := attempt.NewInvocation(ctx, 0, slog.New(slog.DiscardHandler))
	t.Cleanup(release)
	return invocation.CallDBS(gate).Within(ctx)
}

func TestBackoff_DoublesUpToTenSeconds(t *testing.T) {
	assert.Equal(t, 200*time.Millisecond, attempt.Backoff(1))
	assert.Equal(t, 400*time.Millisecond, attempt.Backoff(2))
	assert.Equal(t, 6400*time.Millisecond, attempt.Backoff(6))
	assert.Equal(t, 10*time.Second, attempt.Backoff(7))
	assert.Equal(t, 10*time.Second, attempt.Backoff(1<<40))
}

func TestDo_RepeatsWhatMayPass(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		calls int // 0: until the time is used up
	}{
		"success":             {nil, 1},
		"transient":           {failure("ServiceUnavailable", nil), 0},
		"unclassified":        {errors.New("odd"), 0},
		"wrapped":             {fmt.Errorf("wrapped: %w", failure("InternalError", nil)), 0},
		"permanent":           {failure("InvalidParameter", func(e *cloud.Error) { e.Kind = cloud.Permanent }), 1},
		"operator fault":      {failure("NoPermission", func(e *cloud.Error) { e.Kind = cloud.OperatorFault }), 1},
		"unknown refusal":     {failure("Odd", func(e *cloud.Error) { e.Unrecognized = true }), 3},
		"a hint past the end": {throttled(time.Hour), 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				started := time.Now()
				err := open(t, time.Minute, attempt.NewLimits(16, 0).NewPacer(16)).Do(func(context.Context) error { calls++; return c.err })
				assert.Equal(t, c.err, err)
				if c.calls > 0 {
					assert.Equal(t, c.calls, calls)
					return
				}
				assert.Greater(t, calls, 7)
				assert.Less(t, time.Since(started), time.Minute)
			})
		})
	}
}

// Failures that say nothing about the request bring it no closer to its end.
func TestDo_CountsOnlyRefusalsAsRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{
			failure("InternalError", nil), throttled(0), errors.New("no answer"),
			failure("Odd", func(e *cloud.Error) { e.Unrecognized = true }), nil,
		}
		err := open(t, time.Minute, attempt.NewLimits(16, 0).NewPacer(16)).Do(func(context.Context) (err error) {
			err, answers = answers[0], answers[1:]
			return err
		})
		require.NoError(t, err)
		assert.Empty(t, answers)
	})
}

// A call whose gate closes after a failure ends with that failure, which says more.
func TestDo_ReturnsTheLastFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(1, 0).NewPacer(1)
		caller := open(t, 10*time.Second, gate)
		first := true
		err := caller.Do(func(context.Context) error {
			if first {
				first = false
				// Another call holds the only place from now on.
				go func() {
					_ = caller.Do(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				}()
				return failure("ServiceUnavailable", nil)
			}
			return nil
		})
		require.ErrorContains(t, err, "ServiceUnavailable")
	})
}

func TestGate_NeverLetsInMoreThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller := open(t, time.Minute, attempt.NewLimits(4, 0).NewPacer(4))
		var mu sync.Mutex
		inFlight, peak := 0, 0
		var calls sync.WaitGroup
		for range 40 {
			calls.Go(func() {
				assert.NoError(t, caller.Do(func(context.Context) error {
					mu.Lock()
					inFlight++
					peak = max(peak, inFlight)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					inFlight--
					mu.Unlock()
					return nil
				}))
			})
		}
		calls.Wait()
		assert.Equal(t, 4, peak)
	})
}

// What ends with the time of the invocation says nothing about DBS: a call that tries
// alone after a long wait hint is followed by another that does.
func TestGate_OneCallTriesAfterALongHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(8, 0).NewPacer(8)
		caller := open(t, time.Minute, gate)
		require.Error(t, caller.Once(&attempt.State{}, func(context.Context) error { return throttled(30 * time.Second) }))
		hinted := time.Now()
		var mu sync.Mutex
		var starts []time.Duration
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				_ = caller.Once(&attempt.State{}, func(context.Context) error {
					mu.Lock()
					starts = append(starts, time.Since(hinted))
					mu.Unlock()
					time.Sleep(time.Second)
					return nil
				})
			})
		}
		calls.Wait()
		require.Len(t, starts, 8)
		assert.Equal(t, 10*time.Second, starts[0], "the hint is kept for ten seconds")
		assert.GreaterOrEqual(t, starts[1], 11*time.Second, "the others wait for the answer of the first")
	})
}

func TestGate_PauseLastsAsLongAsAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(8, 0).NewPacer(8)
		_ = open(t, time.Minute, gate).Once(&attempt.State{}, func(context.Context) error { return throttled(5 * time.Second) })
		hinted := time.Now()
		gate.Pause(t.Context())
		assert.Equal(t, 5*time.Second, time.Since(hinted))
	})
}

func TestCheckDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, attempt.CheckDeadline(t.Context()))
		for age, kind := range map[time.Duration]cloud.Kind{-time.Second: cloud.Transient, 0: cloud.OperatorFault, time.Hour: cloud.OperatorFault} {
			ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-age))
			defer cancel()
			assert.Equal(t, kind, cloud.KindOf(attempt.CheckDeadline(ctx)), age)
		}
	})
}

// The time for calls, publishing and the answer, for deadlines and payloads of all sizes.
func TestNewInvocation_DividesTheTime(t *testing.T) {
	for name, c := range map[string]struct {
		timeout           time.Duration
		payload           int
		calls, publishing time.Duration
	}{
		"five minutes, one event":       {5 * time.Minute, 700, 288_999_790 * time.Microsecond, 298_999_790 * time.Microsecond},
		"five minutes, 32 MB":           {5 * time.Minute, 32 << 20, 278_933_670_400, 288_933_670_400},
		"a second":                      {time.Second, 0, 700 * time.Millisecond, 900 * time.Millisecond},
		"three seconds, 10,000 events":  {3 * time.Second, 7_000_000, 600 * time.Millisecond, 1200 * time.Millisecond},
		"five seconds, 10,000 events":   {5 * time.Second, 7_000_000, 1400 * time.Millisecond, 2400 * time.Millisecond},
		"twenty seconds, 10,000 events": {20 * time.Second, 7_000_000, 12_900 * time.Millisecond, 16_900 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
				defer cancel()
				invocation, release := attempt.NewInvocation(ctx, c.payload, slog.New(slog.DiscardHandler))
				defer release()
				<-invocation.Calls.Done()
				assert.Equal(t, c.calls, time.Since(started))
				require.ErrorIs(t, context.Cause(invocation.Calls), attempt.ErrTimeUsedUp)
				<-invocation.Publishing.Done()
				assert.Equal(t, c.publishing, time.Since(started))
				assert.NoError(t, ctx.Err())
			})
		})
	}
}
