package handler_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
)

func throttled(hint time.Duration) error {
	return &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: hint}
}

func TestHandler_CallsThatAreThrottledTogetherPauseOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
		var mu sync.Mutex
		var starts []time.Time
		d.dbs.before = func(context.Context, events.Request) error {
			mu.Lock()
			starts = append(starts, time.Now())
			first := len(starts) <= 16
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			if first {
				return throttled(0)
			}
			return nil
		}
		started := time.Now()
		_, err := d.handle(t, time.Minute, batch(items(16)...))
		require.NoError(t, err)
		assert.Less(t, time.Since(started), time.Second)
		again := map[time.Time]bool{}
		for _, start := range starts[16:] {
			again[start] = true
		}
		assert.Greater(t, len(again), 8, "the calls do not start all at once after the pause")
	})
}

func TestHandler_PausesLongerWhileDBSKeepsThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
		d.dbs.before = func(context.Context, events.Request) error {
			time.Sleep(20 * time.Millisecond)
			return throttled(0)
		}
		_, err := d.handle(t, time.Minute, batch(items(1000)...))
		require.Error(t, err)
		assert.Less(t, d.dbs.total, 500)
	})
}

func TestHandler_PausesShortlyAgainAfterSuccesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 1 })
		var last time.Time
		var pause time.Duration
		d.dbs.before = func(context.Context, events.Request) error {
			since := time.Since(last)
			last = time.Now()
			switch n := d.dbs.total; {
			case n <= 8, n == 30:
				return throttled(0)
			case n == 31:
				pause = since
			}
			return nil
		}
		_, err := d.handle(t, 5*time.Minute, batch(items(40)...))
		require.NoError(t, err)
		assert.Positive(t, pause)
		assert.Less(t, pause, time.Second)
	})
}

func TestHandler_AnAnswerWithoutAHintDoesNotShortenAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 2 })
		started := time.Now()
		var early atomic.Int64
		d.dbs.before = func(_ context.Context, request events.Request) error {
			switch since := time.Since(started); {
			case since > 0:
				if since < 5*time.Second {
					early.Add(1)
				}
				return nil
			case request.ClientToken == "event-0":
				time.Sleep(10 * time.Millisecond)
				return throttled(5 * time.Second)
			}
			time.Sleep(20 * time.Millisecond)
			return throttled(0)
		}
		_, err := d.handle(t, time.Minute, batch(items(8)...))
		require.NoError(t, err)
		assert.Zero(t, early.Load())
	})
}

func TestHandler_NoEventWaitsLongerThanTheLastInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
		var mu sync.Mutex
		last := map[string]time.Time{}
		var longest time.Duration
		d.dbs.before = func(_ context.Context, request events.Request) error {
			mu.Lock()
			defer mu.Unlock()
			if earlier, ok := last[request.ClientToken]; ok {
				longest = max(longest, time.Since(earlier))
			}
			last[request.ClientToken] = time.Now()
			return transient("ServiceUnavailable")
		}
		_, err := d.handle(t, 5*time.Minute, batch(items(50)...))
		require.Error(t, err)
		assert.LessOrEqual(t, longest, 10*time.Second)
		assert.Greater(t, longest, 9*time.Second, "and the waits grow that far")
	})
}

func TestHandler_OnlyATimeoutMakesTheNextAttemptLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		var hung []time.Duration
		d.dbs.before = func(ctx context.Context, request events.Request) error {
			switch n := d.dbs.calls[request.ClientToken]; {
			case n <= 5:
				return transient("ServiceUnavailable")
			case n <= 7:
				started := time.Now()
				defer func() { hung = append(hung, time.Since(started)) }()
				return hang(ctx)
			}
			return nil
		}
		_, err := d.handle(t, 5*time.Minute, batch(item(1)))
		require.NoError(t, err)
		assert.Equal(t, []time.Duration{15 * time.Second, 30 * time.Second}, hung)
	})
}

func TestHandler_APauseHoldsAfterTheRateLimitToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.MaxRequestsPerSecond = 1 })
		var throttled time.Time
		var early int
		d.dbs.before = func(context.Context, events.Request) error {
			switch {
			case throttled.IsZero():
				time.Sleep(500 * time.Millisecond) // the others wait for their turn meanwhile
				throttled = time.Now()
				return &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: 5 * time.Second}
			case time.Since(throttled) < 5*time.Second:
				early++
			}
			return nil
		}
		_, err := d.handle(t, time.Minute, batch(items(4)...))
		require.NoError(t, err)
		assert.Zero(t, early)
	})
}

func TestHandler_AWaitHintCountsOnlyBesideThrottling(t *testing.T) {
	calls := func(t *testing.T, hint time.Duration) (total int) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
			d.dbs.before = func(context.Context, events.Request) error {
				return &cloud.Error{Service: "DBS", Code: "ServiceUnavailable", HTTPStatusCode: 503, RetryAfter: hint}
			}
			_, err := d.handle(t, 10*time.Second, batch(items(16)...))
			require.Error(t, err)
			total = d.dbs.total
		})
		return total
	}
	for _, hint := range []time.Duration{0, time.Millisecond, 58 * time.Second} {
		total := calls(t, hint)
		assert.Greater(t, total, 16*3, "hint %v", hint)
		assert.Less(t, total, 16*20, "hint %v", hint)
	}
	t.Run("and is a floor under the backoff", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(context.Context, events.Request) error {
				return &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: time.Millisecond}
			}
			_, err := d.handle(t, 10*time.Second, batch(items(16)...))
			require.Error(t, err)
			assert.Less(t, d.dbs.total, 100)
		})
	})
}

func TestHandler_CountsThrottlingByMNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		first := true
		d.results.before = func(context.Context) error {
			if first {
				first = false
				return &cloud.Error{Service: "MNS", Code: "QpsLimitExceeded", Throttled: true}
			}
			return nil
		}
		_, err := d.handle(t, time.Minute, batch(item(1)))
		require.NoError(t, err)
		assert.InDelta(t, 1, d.lines(t, "invocation done")[0]["throttled"], 0)
		again := d.lines(t, "calling MNS again")
		require.Len(t, again, 1)
		assert.Equal(t, "DEBUG", again[0]["level"])
	})
}
