package handler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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
