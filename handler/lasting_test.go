package handler_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
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

func TestHandler_AnUnrecognizedRefusalGetsThreeAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(_ context.Context, request events.Request) error {
			if request.ClientToken == "event-7" {
				return &cloud.Error{Service: "DBS", Code: "Instance.Strange", HTTPStatusCode: 400, Unrecognized: true}
			}
			return nil
		}
		started := time.Now()
		summary, err := d.handle(t, 5*time.Minute, batch(items(100)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		assert.Contains(t, err.Error(), "Instance.Strange")
		assert.Equal(t, 3, d.dbs.calls["event-7"])
		assert.Equal(t, 99, summary.Created)
		assert.Less(t, time.Since(started), 5*time.Second)
		assert.Empty(t, d.deadLetters.messages, "it may be our table that is incomplete")
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

func TestHandler_OpenEventsDoNotDrownTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.before = hang
		_, err := d.handle(t, time.Minute, batch(items(10_000)...))
		require.Error(t, err)
		assert.Len(t, d.lines(t, "event open, to be delivered again"), 100)
		more := d.lines(t, "more events open, without a line of their own")
		require.Len(t, more, 1)
		assert.InDelta(t, 10_000, more[0]["open"], 0)
		assert.Contains(t, err.Error(), "10000 of 10000 events are open")
	})
}

func TestHandler_RemembersWithinBounds(t *testing.T) {
	h := handler.New(handler.Config{Concurrency: 4}, handler.Ports{Tasks: forgetfulDBS{}, Results: discardQueue{}, DeadLetters: discardQueue{}}, discard)
	name := strings.Repeat("😀", 1000)
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	for round := range 180 {
		bodies := make([]string, 100)
		for i := range bodies {
			bodies[i] = fmt.Sprintf(`{"BackupSetJobId":"job","BackupSetId":"%d-%d-%s"}`, round, i, name)
		}
		_, err := h.Handle(t.Context(), "", []byte(strings.ReplaceAll(string(batch(bodies...)), "event-", fmt.Sprintf("%d-", round))))
		require.NoError(t, err)
	}
	grown := int64(heap()) - int64(before)
	runtime.KeepAlive(h)
	assert.Less(t, grown, int64(16<<20), "18,000 names of 4,000 bytes")
}

// forgetfulDBS and discardQueue keep nothing.
type forgetfulDBS struct{}

func (forgetfulDBS) CreateTask(context.Context, events.Request) (handler.Task, error) {
	return handler.Task{ID: "1jydacm000001", RequestID: "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"}, nil
}

type discardQueue struct{ inspected }

func (discardQueue) Send(_ context.Context, messages []outbox.Message) []error {
	return make([]error, len(messages))
}

func TestHandler_DeadLettersOnceWhileTheResultQueueIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.before = func(context.Context) error { return transient("InternalServerError") }
		bodies := make([]string, 1500)
		for i := range bodies {
			bodies[i] = fmt.Sprintf("rubbish %d", i)
		}
		for range 3 {
			_, err := d.handle(t, 10*time.Second, batch(bodies...))
			require.Error(t, err)
		}
		assert.Len(t, d.deadLetters.messages, 1500)
	})
}

func TestHandler_AFailedEventWithoutAMessageIDIsTriedAgain(t *testing.T) {
	d := deploy(nil)
	payload := []byte(`[{"specversion":"1.0","id":"1","source":"rule","type":"t","data":{"BackupSetId":"a","BackupSetName":"b"}}]`)
	d.dbs.before = func(context.Context, events.Request) error { return permanent("Param.NotFound") }
	summary, err := d.Handle(t.Context(), "", payload)
	require.NoError(t, err)
	require.Equal(t, 1, summary.Failed)
	d.dbs.before = nil
	summary, err = d.Handle(t.Context(), "", payload)
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Created)
}

func TestHandler_ABodyThatNoQueueCanHoldHasItsFailurePublished(t *testing.T) {
	for name, c := range map[string]struct {
		body   string
		refuse error
	}{
		"over 64 KB":            {strings.Repeat("x", 65_537), nil},
		"over 64 KB in base64":  {strings.Repeat("\x01", 50_000), permanent("InvalidArgument")},
		"at 64 KB, and refused": {strings.Repeat("x", 65_536), permanent("InvalidArgument")},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(nil)
			d.deadLetters.refuse = func(string) error { return c.refuse }
			summary, err := d.Handle(t.Context(), "", batch(c.body))
			require.NoError(t, err)
			assert.Equal(t, 1, summary.Failed)
			assert.Empty(t, d.deadLetters.messages)
			assert.Contains(t, d.results.results(t)["event-0"].Data.ErrMessage, "too large to keep")
		})
	}
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

func TestHandler_ARefusedAnnouncementIsNotDeadLettered(t *testing.T) {
	d := deploy(nil)
	d.dbs.before = func(context.Context, events.Request) error { return permanent("Param.NotFound") }
	announcement := `{"specversion":"1.0","id":"job/mysql-bin.000054","source":"acs:dbs:cn-hangzhou:1234567890123456:backupplan/dbsqdss5tmh0001",` +
		`"type":"dbs:IncrementBackupSet:Completed","data":` + item(54) + `}`
	summary, err := d.Handle(t.Context(), "", batch(announcement))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
	assert.Empty(t, d.deadLetters.messages, "DBS still has the set, and the next run would announce it again")
	assert.Equal(t, "Param.NotFound", d.results.results(t)["job/mysql-bin.000054"].Data.ErrCode)
	require.Len(t, d.lines(t, "event failed"), 1)
	assert.Equal(t, "ERROR", d.lines(t, "event failed")[0]["level"])
}

func TestHandler_SaysWhatIsOpenAndForHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.before = func(context.Context) error { return transient("InternalServerError") }
		at := func(age time.Duration) string { return time.Now().Add(-age).UTC().Format(time.RFC3339) }
		_, err := d.handle(t, 10*time.Second, stream(
			element{ID: "old", MessageID: "old", Time: at(3 * time.Hour), Body: item(1)},
			element{ID: "new", MessageID: "new", Time: at(time.Minute), Body: item(2)}))
		require.Error(t, err)
		assert.Contains(t, err.Error(), "its result is not published")
		assert.Contains(t, err.Error(), "task task-1 exists, DBS RequestId D6E068C3")
		lines := d.lines(t, "event open, to be delivered again")
		require.Len(t, lines, 2)
		for _, line := range lines {
			assert.Equal(t, "InternalServerError", line["errCode"])
			assert.NotEmpty(t, line["taskId"])
			assert.Equal(t, "D6E068C3", line["dbsRequestId"])
			if line["eventId"] == "old" {
				assert.Equal(t, "ERROR", line["level"])
				assert.InDelta(t, 180, line["ageMinutes"], 1)
			} else {
				assert.Equal(t, "WARN", line["level"])
				assert.NotContains(t, line, "ageMinutes")
			}
		}
		assert.InDelta(t, 180, d.lines(t, "events left open for redelivery")[0]["oldestOpenMinutes"], 1)
	})
}

func TestHandler_AResultThatComesBackIsNotAnswered(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "", batch(item(1)))
	require.NoError(t, err)
	result := d.results.messages[0]
	summary, err := d.Handle(t.Context(), "", stream(element{ID: "back", MessageID: "back", Body: result}))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, []string{result}, d.deadLetters.messages)
	assert.Len(t, d.results.messages, 1, "it would come back without end")
	assert.Equal(t, 1, d.dbs.total)
	require.Len(t, d.lines(t, "event failed"), 1)
	assert.Contains(t, d.lines(t, "event failed")[0]["error"], "result queue")

	summary, err = d.Handle(t.Context(), "", stream(element{ID: "back", MessageID: "back", Body: result}))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.AlreadyDone)
}

func TestHandler_NamesTheSetAndTheStatusOfWhatItIgnores(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "", batch(strings.Replace(item(58), "COMPLETED", " filling", 1)))
	require.NoError(t, err)
	require.Len(t, summary.Results, 1)
	entry := summary.Results[0]
	assert.Equal(t, "ignored", entry.Outcome)
	assert.Equal(t, "mysql-bin.000058", entry.BackupSetName)
	assert.Equal(t, " filling", entry.BackupStatus)
	lines := d.lines(t, "event ignored: the backup set is not complete")
	require.Len(t, lines, 1)
	assert.Equal(t, "mysql-bin.000058", lines[0]["backupSetName"])
	assert.Equal(t, " filling", lines[0]["backupStatus"])
}

func TestHandler_AnUnknownBackupStatusIsNotSkipped(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "", batch(strings.Replace(item(58), "COMPLETED", "DONE", 1)))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, events.CodeUnknownBackupStatus, d.results.results(t)["event-0"].Data.ErrCode)
	assert.Len(t, d.deadLetters.messages, 1)
}
