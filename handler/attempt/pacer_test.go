package attempt_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/handler/attempt"
)

// enter has n calls ask for a place, and returns the numbers of those that get one at once.
func enter(t *testing.T, gate *attempt.Pacer, n int) (numbers []int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan int, n)
	for range n {
		go func() {
			if number, err := gate.Enter(ctx); err == nil {
				entered <- number
			}
		}()
	}
	synctest.Wait()
	cancel()
	synctest.Wait()
	close(entered)
	for number := range entered {
		numbers = append(numbers, number)
	}
	return numbers
}

func leave(gate *attempt.Pacer, numbers []int, err error) {
	for _, number := range numbers {
		gate.Leave(number, err)
	}
}

func TestGate_TheLimitFallsOnceARoundAndGrowsByOneARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(10, 0).NewPacer(10)
		leave(gate, enter(t, gate, 20), throttled(0))
		for _, places := range []int{7, 7, 8, 9, 10, 10} { // 7, 7.9, 8.8, ...
			numbers := enter(t, gate, 20)
			require.Len(t, numbers, places)
			leave(gate, numbers, failure("InternalError", nil))
		}
	})
}

func TestGate_AtOneCallInFlightAPauseDoubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(2, 0).NewPacer(2)
		for range 2 { // from 2 to 1.4, and to 1
			started := time.Now()
			number, err := gate.Enter(t.Context())
			require.NoError(t, err)
			require.Zero(t, time.Since(started), "no pause before")
			gate.Leave(number, throttled(0))
		}
		for _, interval := range []time.Duration{200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000} {
			number, err := gate.Enter(t.Context())
			require.NoError(t, err)
			left := time.Now()
			gate.Leave(number, throttled(0))
			gate.Pause(t.Context())
			interval *= time.Millisecond
			assert.GreaterOrEqual(t, time.Since(left), interval/2)
			assert.Less(t, time.Since(left), interval)
		}
	})
}

// A wait that would end after the deadline is not waited for, nor asked for again and again.
func TestDo_EndsAtOnceIfThePauseOutlastsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(4, 0).NewPacer(4)
		_ = open(t, time.Minute, gate).Once(&attempt.State{}, func(context.Context) error { return throttled(8 * time.Second) })
		started := time.Now()
		err := open(t, 5*time.Second, gate).Do(func(context.Context) error { return nil })
		require.ErrorIs(t, err, attempt.ErrTimeUsedUp)
		assert.Zero(t, time.Since(started))
	})
}

// The time of a plan is up while its call tries alone: the next call tries alone too.
func TestGate_AnAttemptCutShortSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(8, 0).NewPacer(8)
		caller := open(t, time.Minute, gate)
		_ = caller.Once(&attempt.State{}, func(context.Context) error { return throttled(30 * time.Second) })
		share, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		err := caller.Within(share).Once(&attempt.State{}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Len(t, enter(t, gate, 8), 1)
	})
}

func TestGate_AllGoOnOnceTheTrialIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(8, 0).NewPacer(8)
		leave(gate, enter(t, gate, 1), throttled(30*time.Second))
		gate.Pause(t.Context())
		trial := enter(t, gate, 8)
		require.Len(t, trial, 1)
		leave(gate, trial, nil)
		assert.Len(t, enter(t, gate, 8), 5)
	})
}

// A call that started before the trial is answered with a long hint as well.
func TestGate_ALateHintMakesNoSecondTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(8, 0).NewPacer(8)
		numbers := enter(t, gate, 2)
		gate.Leave(numbers[0], throttled(30*time.Second))
		gate.Pause(t.Context())
		require.Len(t, enter(t, gate, 8), 1, "one tries")
		gate.Leave(numbers[1], throttled(30*time.Second))
		gate.Pause(t.Context())
		assert.Empty(t, enter(t, gate, 8), "while it does, no other")
	})
}

// A call that gives up as it gets its place gives the place back.
func TestGate_LosesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := attempt.NewLimits(1, 0).NewPacer(1)
		for range 50 {
			numbers := enter(t, gate, 1)
			require.Len(t, numbers, 1)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if number, err := gate.Enter(ctx); err == nil {
					gate.Leave(number, nil)
				}
			}()
			synctest.Wait()
			cancel()
			gate.Leave(numbers[0], nil)
			<-ended
		}
	})
}

// A call that timed out keeps its longer timeout, whatever others are answered meanwhile.
func TestOnce_ATimeoutDoublesThatOfItsOwnCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller := open(t, 5*time.Minute, attempt.NewLimits(16, 0).NewPacer(16))
		var slow attempt.State
		for _, timeout := range []time.Duration{15 * time.Second, 30 * time.Second, time.Minute} {
			started := time.Now()
			require.Error(t, caller.Once(&slow, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }))
			assert.Equal(t, timeout, time.Since(started))
			require.NoError(t, caller.Once(&attempt.State{}, func(context.Context) error { return nil }))
		}
	})
}

func TestDo_BoundsAWaitHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{throttled(time.Hour), nil}
		started := time.Now()
		require.NoError(t, open(t, 10*time.Minute, attempt.NewLimits(16, 0).NewPacer(16)).Do(func(context.Context) (err error) {
			err, answers = answers[0], answers[1:]
			return err
		}))
		assert.InDelta(t, time.Minute, time.Since(started), float64(time.Second))
	})
}

// The time of a plan ends while one of its calls tries alone and another waits: whichever
// of them has the trial then leaves it to the next.
func TestGate_LosesNoTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			gate := attempt.NewLimits(8, 0).NewPacer(8)
			caller := open(t, time.Minute, gate)
			leave(gate, enter(t, gate, 1), throttled(30*time.Second))
			share, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			var calls sync.WaitGroup
			for range 2 {
				calls.Go(func() {
					_ = caller.Within(share).Once(&attempt.State{}, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				})
			}
			calls.Wait()
			cancel()
			assert.Len(t, enter(t, gate, 8), 1)
		}
	})
}
