package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
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
	"increment-backup-download/handler/outbox"
)

func TestHandler_RetriesTransientFailures(t *testing.T) {
	for name, failure := range map[string]error{
		"classified": transient("ServiceUnavailable"),
		"wrapped":    fmt.Errorf("wrapped: %w", transient("InternalError")),
		"not known":  errors.New("unclassified"),
		"EOF":        io.ErrUnexpectedEOF,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				var failures atomic.Int32
				d.dbs.after = func(events.Request) error {
					if failures.Add(1) <= 3 {
						return failure
					}
					return nil
				}
				refusals := 2
				d.results.before = func(context.Context) error {
					if refusals--; refusals >= 0 {
						return failure
					}
					return nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				summary, err := d.Handle(ctx, "", batch(item(1)))
				require.NoError(t, err)
				assert.Equal(t, 1, summary.Created)
				assert.Equal(t, 4, d.dbs.total)
				assert.Len(t, d.dbs.tasks, 1)
				assert.Len(t, d.results.messages, 1)
			})
		})
	}
}

func TestHandler_ThrottlingSlowsTheWholeInvocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		started := time.Now()
		var first atomic.Bool
		var early atomic.Int32
		d.dbs.before = func(context.Context, events.Request) error {
			time.Sleep(10 * time.Millisecond)
			if first.CompareAndSwap(false, true) {
				return &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: 5 * time.Second}
			}
			if at := time.Since(started); at > 20*time.Millisecond && at < 5*time.Second {
				early.Add(1)
			}
			return nil
		}
		summary, err := d.Handle(t.Context(), "", batch(items(40)...))
		require.NoError(t, err)
		assert.Equal(t, 40, summary.Created)
		assert.Zero(t, early.Load(), "calls during the wait that DBS asked for")
		assert.GreaterOrEqual(t, time.Since(started), 5*time.Second)
	})
}

func TestHandler_ALongWaitHintIsTriedByOneCallAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error {
			return &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: time.Hour}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		started := time.Now()
		_, err := d.Handle(ctx, "", batch(items(100)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		assert.Contains(t, err.Error(), "Throttling.User")
		assert.Less(t, time.Since(started), time.Minute)
		assert.LessOrEqual(t, d.dbs.total, 4+5, "of those in flight, and one every ten seconds")
	})
}

func TestHandler_KeepsToTheRequestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.MaxRequestsPerSecond, c.Concurrency = 10, 16 })
		started := time.Now()
		_, err := d.Handle(t.Context(), "", batch(items(51)...))
		require.NoError(t, err)
		assert.InDelta(t, 5.0, time.Since(started).Seconds(), 0.2)
	})
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.MaxRequestsPerSecond = 1 })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := d.Handle(ctx, "", batch(items(40)...))
		assert.Contains(t, err.Error(), "the time of the invocation is used up")
		assert.NotContains(t, d.log.String(), "calling DBS again", "a turn that never comes is not waited for again and again")
	})
}

func TestHandler_AThrottledEventNearTheEndStopsNoOthers(t *testing.T) {
	for range 10 { // the waits are random
		synctest.Test(t, func(t *testing.T) {
			d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
			started := time.Now()
			d.dbs.before = func(_ context.Context, request events.Request) error {
				elapsed := time.Since(started)
				switch {
				case request.ClientToken == "event-0" && elapsed > 42*time.Second:
					return &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true}
				case elapsed < 45*time.Second:
					return transient("ServiceUnavailable")
				}
				return nil
			}
			// Calls end after 49 s. DBS is back before that.
			summary, err := d.handle(t, time.Minute, batch(items(200)...))
			require.Error(t, err)
			assert.Greater(t, summary.Created, 20)
		})
	}
}

// Faults that last: nothing is held up, drowned or swallowed by them.
func TestHandler_FailingEventsHoldUpNoOthers(t *testing.T) {
	const good, latency = 200, 20 * time.Millisecond
	for _, concurrency := range []int{1, 4, 16} {
		t.Run(fmt.Sprintf("CONCURRENCY %d", concurrency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(c *handler.Config) { c.Concurrency = concurrency })
				var mu sync.Mutex
				var last time.Time
				d.dbs.before = func(_ context.Context, request events.Request) error {
					time.Sleep(latency)
					var n int
					_, _ = fmt.Sscanf(request.BackupSetName, "mysql-bin.%d", &n)
					if n < concurrency {
						return transient("ServiceUnavailable")
					}
					mu.Lock()
					defer mu.Unlock()
					last = time.Now()
					return nil
				}
				started := time.Now()
				summary, err := d.handle(t, time.Minute, batch(items(concurrency+good)...))
				require.Error(t, err)
				assert.Equal(t, good, summary.Created)
				alone := time.Duration((good+concurrency-1)/concurrency) * latency
				assert.LessOrEqual(t, last.Sub(started), alone+time.Second)
			})
		})
	}
}

func TestHandler_TenThousandEventsMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		var calls, goroutines atomic.Int64
		d.dbs.before = func(context.Context, events.Request) error {
			if n := calls.Add(1); n > 10_000 {
				goroutines.Store(max(goroutines.Load(), int64(runtime.NumGoroutine())))
				return nil
			}
			return transient("ServiceUnavailable")
		}
		summary, err := d.handle(t, time.Minute, batch(items(10_000)...))
		require.NoError(t, err)
		assert.Equal(t, 10_000, summary.Created)
		assert.EqualValues(t, 20_000, calls.Load(), "first attempts go before repeats")
		assert.Less(t, goroutines.Load(), int64(200), "a waiting event holds no goroutine")
	})
}

func TestHandler_AServiceThatIsSlowForGoodIsWaitedFor(t *testing.T) {
	t.Run("DBS answers in 16 s", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(ctx context.Context, _ events.Request) error {
				return answerAfter(ctx, 16*time.Second)
			}
			summary, err := d.handle(t, 5*time.Minute, batch(items(4)...))
			require.NoError(t, err)
			assert.Equal(t, 4, summary.Created)
			assert.Equal(t, 8, d.dbs.total)
		})
	})
	t.Run("DBS answers in 16 s, and first attempts alone would outlast the invocation", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
			d.dbs.before = func(ctx context.Context, _ events.Request) error { return answerAfter(ctx, 16*time.Second) }
			summary, err := d.handle(t, 5*time.Minute, batch(items(1000)...))
			require.Error(t, err)
			assert.Greater(t, summary.Created, 250)
		})
	})
	t.Run("calls that time out together double the timeout once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
			started := time.Now()
			d.dbs.before = func(ctx context.Context, _ events.Request) error {
				if time.Since(started) < 20*time.Second {
					return hang(ctx)
				}
				return nil
			}
			_, err := d.handle(t, 5*time.Minute, batch(items(16)...))
			require.NoError(t, err)
			assert.Less(t, time.Since(started), 47*time.Second, "after 15 s and 30 s, and two waits")
		})
	})
	t.Run("but no longer once it is quick again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(func(c *handler.Config) { c.Concurrency = 1 })
			var hung []time.Duration
			d.dbs.before = func(ctx context.Context, request events.Request) error {
				if request.ClientToken == "event-1" || d.dbs.calls[request.ClientToken] > 1 {
					return nil
				}
				started := time.Now()
				defer func() { hung = append(hung, time.Since(started)) }()
				return hang(ctx)
			}
			_, err := d.handle(t, 5*time.Minute, batch(items(3)...))
			require.NoError(t, err)
			assert.Equal(t, []time.Duration{15 * time.Second, 15 * time.Second}, hung)
		})
	})
	t.Run("MNS stores at once and answers in 5 s", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			slow := &slowQueue{answersIn: 5 * time.Second}
			h := handler.New(handler.Config{Concurrency: 4}, handler.Ports{Tasks: d.dbs, Results: slow, DeadLetters: d.deadLetters}, discard)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			_, err := h.Handle(ctx, "", batch(items(10)...))
			require.NoError(t, err)
			assert.Len(t, slow.messages, 20)
		})
	})
}

// answerAfter is a call to a service that takes its time.
func answerAfter(ctx context.Context, latency time.Duration) error {
	select {
	case <-time.After(latency):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// slowQueue accepts messages at once, and answers later.
type slowQueue struct {
	fakeQueue
	answersIn time.Duration
}

func (q *slowQueue) Send(ctx context.Context, messages []outbox.Message) []error {
	answers := q.fakeQueue.Send(ctx, messages)
	if err := answerAfter(ctx, q.answersIn); err != nil {
		for i := range answers {
			answers[i] = err
		}
	}
	return answers
}
