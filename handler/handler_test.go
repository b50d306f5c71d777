package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

func TestHandler_CreatesATaskAndPublishesItsID(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "request-1", batch(item(54)))
	require.NoError(t, err)
	assert.Equal(t, handler.Summary{Events: 1, Created: 1, Results: summary.Results}, summary)

	result := d.results.results(t)["event-0"]
	assert.Equal(t, events.TypeTaskCreated, result.Type)
	assert.Equal(t, "task-1", result.Data.BackupSetDownloadTaskID)
	assert.Equal(t, "D6E068C3", result.Data.RequestID)
	assert.Equal(t, "event-0", result.Data.ClientToken)
	assert.Equal(t, "t4yh0g0g0001", result.Data.BackupSetID)
	assert.Equal(t, "mysql-bin.000054", result.Data.BackupSetName)
	assert.Equal(t, "acs:fc:cn-hangzhou:1234567890123456:functions/increment-backup-download", result.Source)
	assert.Empty(t, d.deadLetters.messages)

	text, err := json.Marshal(summary)
	require.NoError(t, err)
	assert.JSONEq(t, `{"events":1,"created":1,"failed":0,"ignored":0,"alreadyDone":0,"results":[{"outcome":"created","EventId":"event-0",
		"ClientToken":"event-0","BackupSetId":"t4yh0g0g0001","BackupSetName":"mysql-bin.000054","BackupSetDownloadTaskId":"task-1","RequestId":"D6E068C3"}]}`, string(text))
}

func TestHandler_SendsTheClientTokenOfTheEvent(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "", []byte(`[{"specversion":"1.0","id":"outer","data":{"messageId":"m","messageBody":"{\"specversion\":\"1.0\",\"id\":\"inner\",\"data\":{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\"}}"}}]`))
	require.NoError(t, err)
	assert.Contains(t, d.dbs.tasks, "inner")
	assert.Contains(t, d.results.results(t), "inner")
}

func TestHandler_DeadLettersWhatCanNeverSucceed(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		dbs  error
		code string
	}{
		"not understood":      {" message from mns console", nil, events.CodeMalformed},
		"refused by DBS":      {item(1), permanent("Param.NotFound"), "Param.NotFound"},
		"refused, wrapped":    {item(1), fmt.Errorf("wrapped: %w", permanent("InvalidParameter")), "InvalidParameter"},
		"unsupported format":  {`{"BackupSetId":"a","BackupSetName":"b","BackupSetDataFormat":"XML"}`, nil, events.CodeUnsupportedDataFormat},
		"contradictory names": {`{"BackupSetJobId":"a","BackupSetId":"b","BackupSetName":"c"}`, nil, events.CodeConflict},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(context.Context, events.Request) error { return c.dbs }
			summary, err := d.Handle(t.Context(), "", batch(c.body))
			require.NoError(t, err)
			assert.Equal(t, 1, summary.Failed)
			assert.Equal(t, []string{c.body}, d.deadLetters.messages, "unchanged")
			result := d.results.results(t)["event-0"]
			assert.Equal(t, events.TypeTaskFailed, result.Type)
			assert.Equal(t, c.code, result.Data.ErrCode)
			assert.NotEmpty(t, result.Data.ErrMessage)
			assert.LessOrEqual(t, d.dbs.total, 1, "no second try")
			if c.dbs != nil {
				assert.Equal(t, 400, result.Data.HTTPStatusCode)
				assert.Equal(t, "R-1", result.Data.RequestID)
			}
		})
	}
}

func TestHandler_AnEmptyMessageIsFailedAndNotDeadLettered(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "", batch(""))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, events.CodeMalformed, d.results.results(t)["event-0"].Data.ErrCode)
	assert.Empty(t, d.deadLetters.messages, "MNS takes no empty message")
}

func TestHandler_OneBadMessageDoesNotHoldUpTheOthers(t *testing.T) {
	d := deploy(nil)
	bodies := items(100)
	bodies[42] = "rubbish"
	summary, err := d.Handle(t.Context(), "", batch(bodies...))
	require.NoError(t, err)
	assert.Equal(t, 100, summary.Events)
	assert.Equal(t, 99, summary.Created)
	assert.Equal(t, 1, summary.Failed)
	assert.Len(t, d.results.results(t), 100)
	assert.Len(t, d.dbs.tasks, 99)
}

func TestHandler_IgnoresAnUnfinishedBackupSet(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "", batch(strings.Replace(item(1), "COMPLETED", "FILLING", 1)))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Ignored)
	assert.Zero(t, d.dbs.total)
	assert.Empty(t, d.results.messages)
	assert.Empty(t, d.deadLetters.messages)
}

func TestHandler_AnswersTheFirstHundredEventsInOrder(t *testing.T) {
	d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
	summary, err := d.Handle(t.Context(), "", batch(items(150)...))
	require.NoError(t, err)
	require.Len(t, summary.Results, 100)
	for i, entry := range summary.Results {
		assert.Equal(t, fmt.Sprintf("event-%d", i), entry.EventID)
	}
}

func TestHandler_TypedByHand(t *testing.T) {
	t.Run("a backup set is handled", func(t *testing.T) {
		d := deploy(nil)
		summary, err := d.Handle(t.Context(), "", []byte(item(1)))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Created)
		assert.Len(t, d.results.messages, 1)
	})
	t.Run("what is missing is named, and nothing is done", func(t *testing.T) {
		for _, payload := range []string{`{"key":"value"}`, "rubbish", "", "[1", "null"} {
			d := deploy(nil)
			_, err := d.Handle(t.Context(), "", []byte(payload))
			var refused *handler.EventError
			require.ErrorAs(t, err, &refused)
			if payload == `{"key":"value"}` {
				assert.Contains(t, err.Error(), "BackupSetId")
				assert.Contains(t, err.Error(), "BackupSetName")
				assert.Contains(t, err.Error(), "BackupSetJobId")
			}
			assert.Zero(t, d.dbs.total)
			assert.Empty(t, d.results.messages)
			assert.Empty(t, d.deadLetters.messages)
		}
	})
	t.Run("a refusal by DBS is published and not dead-lettered", func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error { return permanent("Param.NotFound") }
		summary, err := d.Handle(t.Context(), "", []byte(item(1)))
		require.NoError(t, err)
		assert.Equal(t, "Param.NotFound", summary.Results[0].ErrCode)
		assert.Len(t, d.results.messages, 1)
		assert.Empty(t, d.deadLetters.messages)
	})
	t.Run("a dry run in an array is refused, and the rest of the array is handled", func(t *testing.T) {
		d := deploy(nil)
		summary, err := d.Handle(t.Context(), "", []byte(`[{"BackupSetId":"a","BackupSetName":"b","DryRun":true},`+item(1)+`]`))
		var refused *handler.EventError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, 1, summary.Created)
		assert.Empty(t, d.deadLetters.messages)
		assert.Len(t, d.results.messages, 1)
	})
	t.Run("a dry run of an unfinished backup set is ignored", func(t *testing.T) {
		d := deploy(nil)
		summary, err := d.Handle(t.Context(), "", []byte(`{"BackupSetJobId":"a","BackupSetId":"b","BackupStatus":"FILLING","DryRun":true}`))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Ignored)
		assert.Nil(t, summary.DryRun)
	})
	t.Run("a dry run says what would be done, and does nothing", func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.DataFormat = "CSV" })
		summary, err := d.Handle(t.Context(), "", []byte(`{"BackupSetJobId":"a","BackupSetId":"b","ClientToken":"c","DryRun":true}`))
		require.NoError(t, err)
		assert.Equal(t, &handler.DryRun{
			Action: "CreateIncrementBackupSetDownload", BackupSetID: "a", BackupSetName: "b", BackupSetDataFormat: "CSV", ClientToken: "c",
			Targets: handler.Targets{DBSEndpoint: "https://dbs", MNSEndpoint: "https://mns", ResultQueue: "results", DeadLetterQueue: "dead"},
		}, summary.DryRun)
		assert.Zero(t, d.dbs.total)
		assert.Empty(t, d.results.messages)
	})
}

func TestHandler_TheSameEventMakesOneTask(t *testing.T) {
	event := func(id, token string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"data":{"BackupSetId":"a","BackupSetName":"b","ClientToken":%q}}`, id, token)
	}
	for name, c := range map[string]struct {
		payload                     string
		created, alreadyDone, tasks int
		results                     int
	}{
		"twice in a batch":                {"[" + event("1", "") + "," + event("1", "") + "]", 1, 1, 1, 1},
		"two events with one token":       {"[" + event("1", "t") + "," + event("2", "t") + "]", 2, 0, 1, 2},
		"two events":                      {"[" + event("1", "") + "," + event("2", "") + "]", 2, 0, 2, 2},
		"three, one of them repeated":     {"[" + event("1", "t") + "," + event("2", "t") + "," + event("1", "t") + "]", 2, 1, 1, 2},
		"one token, slow to be answered":  {"[" + event("1", "t") + "," + event("2", "t") + "]", 2, 0, 1, 2},
		"one token, quick to be answered": {"[" + event("1", "t") + "," + event("2", "t") + "]", 2, 0, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(context.Context, events.Request) error {
				if strings.Contains(name, "slow") {
					time.Sleep(20 * time.Millisecond)
				}
				return nil
			}
			summary, err := d.Handle(t.Context(), "", []byte(c.payload))
			require.NoError(t, err)
			assert.Equal(t, c.created, summary.Created)
			assert.Equal(t, c.alreadyDone, summary.AlreadyDone)
			assert.Equal(t, c.tasks, d.dbs.total, "DBS calls")
			assert.Len(t, d.results.messages, c.results)
			tasks := map[string]bool{}
			for _, result := range d.results.results(t) {
				tasks[result.Data.BackupSetDownloadTaskID] = true
			}
			assert.Len(t, tasks, c.tasks)
		})
	}
}

func TestHandler_RejectsOneTokenForTwoRequests(t *testing.T) {
	d := deploy(nil)
	first, second := `{"BackupSetId":"a","BackupSetName":"b"}`, `{"BackupSetId":"a","BackupSetName":"c"}`
	payload := fmt.Sprintf(`[{"specversion":"1.0","id":"1","data":{"messageBody":%q}},{"specversion":"1.0","id":"1","data":{"messageBody":%q}}]`, first, second)
	summary, err := d.Handle(t.Context(), "", []byte(payload))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Created)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, []string{second}, d.deadLetters.messages)
	results := d.results.results(t)
	require.Len(t, results, 2, "the failure must not be taken for a repeat of the success")
	assert.Equal(t, "task-1", results["1"].Data.BackupSetDownloadTaskID)
	for id, result := range results {
		if id != "1" {
			assert.Equal(t, events.CodeConflict, result.Data.ErrCode)
			assert.Equal(t, "1", result.Data.EventID)
		}
	}
}

func TestHandler_EveryEventHasAResultIDOfItsOwn(t *testing.T) {
	d := deploy(nil)
	body := `{"BackupSetId":"a","BackupSetName":"b","ClientToken":"t"}`
	other := `{"BackupSetId":"a","BackupSetName":"c","ClientToken":"t"}`
	payload := fmt.Sprintf(`[{"specversion":"1.0","id":"1","data":{"messageBody":%q}},{"specversion":"1.0","id":"2","data":{"messageBody":%q}},{"specversion":"1.0","id":"3","data":{"messageBody":%q}}]`, body, other, other)
	_, err := d.Handle(t.Context(), "", []byte(payload))
	require.NoError(t, err)
	results := d.results.results(t)
	require.Len(t, results, 3)
	for _, id := range []string{"2", "3"} {
		assert.Equal(t, events.CodeConflict, results[id].Data.ErrCode)
	}
}

func TestHandler_AConflictStaysOneAcrossDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		payload := []byte(`[{"specversion":"1.0","id":"1","data":{"messageBody":"{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\"}"}},{"specversion":"1.0","id":"1","data":{"messageBody":"{\"BackupSetId\":\"a\",\"BackupSetName\":\"c\"}"}}]`)
		d.deadLetters.before = func(context.Context) error { return transient("InternalError") }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Handle(ctx, "", payload)
		require.Error(t, err)
		d.deadLetters.before = nil
		summary, err := d.Handle(t.Context(), "", payload)
		require.NoError(t, err)
		assert.Equal(t, 1, summary.AlreadyDone)
		assert.Equal(t, 1, summary.Failed)
		assert.Equal(t, 1, d.dbs.total, "the second event never reaches DBS")
		assert.Len(t, d.results.results(t), 2)
	})
}

// What failed is tried again when a person sends it again.
func TestHandler_AFailureIsNotHeldAgainstANewMessage(t *testing.T) {
	refuse := func(context.Context, events.Request) error { return permanent("Param.NotFound") }
	t.Run("typed by hand", func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = refuse
		_, err := d.Handle(t.Context(), "", []byte(item(1)))
		require.NoError(t, err)
		d.dbs.before = nil
		summary, err := d.Handle(t.Context(), "", []byte(item(1)))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Created)
	})
	t.Run("a dead letter sent again", func(t *testing.T) {
		d := deploy(nil)
		message := func(id string) []byte {
			return fmt.Appendf(nil, `[{"messageId":%q,"messageBody":"{\"specversion\":\"1.0\",\"id\":\"inner\",\"data\":{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\"}}"}]`, id)
		}
		d.dbs.before = refuse
		for range 2 {
			_, err := d.Handle(t.Context(), "", message("first"))
			require.NoError(t, err)
		}
		assert.Len(t, d.deadLetters.messages, 1, "a redelivery is no new message")
		_, err := d.Handle(t.Context(), "", message("second"))
		require.NoError(t, err)
		assert.Len(t, d.deadLetters.messages, 2, "it failed again, and must not vanish")
		d.dbs.before = nil
		summary, err := d.Handle(t.Context(), "", message("third"))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Created)
	})
}

func TestHandler_BoundsWhatAServiceSays(t *testing.T) {
	d := deploy(nil)
	long := strings.Repeat("x", 500_000)
	d.dbs.before = func(context.Context, events.Request) error {
		return &handler.ServiceError{Service: "DBS", Kind: handler.Permanent, Code: long, Message: long, RequestID: long}
	}
	summary, err := d.Handle(t.Context(), "", batch(items(20)...))
	require.NoError(t, err)
	text, err := json.Marshal(summary)
	require.NoError(t, err)
	assert.Less(t, len(text), 40_000)
	assert.Less(t, d.log.Len(), 60_000)
}

func TestHandler_OneMessageDoesNotTakeItsBatchWithIt(t *testing.T) {
	d := deploy(nil)
	d.deadLetters.before = nil
	h := handler.New(handler.Config{Concurrency: 1}, d.dbs, d.results, &pickyQueue{fakeQueue: d.deadLetters}, discard)
	_, err := h.Handle(t.Context(), "", batch("one", "too large", "two"))
	var redelivery *handler.RedeliveryError
	require.ErrorAs(t, err, &redelivery)
	assert.Contains(t, err.Error(), "1 of 3 events are open")
	assert.ElementsMatch(t, []string{"one", "two"}, d.deadLetters.messages)
}

// pickyQueue refuses a whole request for one of its messages, as MNS does.
type pickyQueue struct{ *fakeQueue }

func (q *pickyQueue) Send(ctx context.Context, bodies []string) []error {
	for _, body := range bodies {
		if body == "too large" {
			answers := make([]error, len(bodies))
			for i := range answers {
				answers[i] = permanent("InvalidArgument")
			}
			return answers
		}
	}
	return q.fakeQueue.Send(ctx, bodies)
}

func TestHandler_RetriesTransientFailures(t *testing.T) {
	for name, failure := range map[string]error{
		"classified": transient("ServiceUnavailable"),
		"wrapped":    fmt.Errorf("wrapped: %w", transient("InternalError")),
		"not known":  errors.New("nobody has classified this"),
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

func TestHandler_SendsAgainOnlyWhatTheQueueRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		refused := map[string]bool{}
		d.results.refuse = func(body string) error {
			if !refused[body] && len(refused) < 5 {
				refused[body] = true
				return transient("InternalServerError")
			}
			return nil
		}
		_, err := d.Handle(t.Context(), "", batch(items(16)...))
		require.NoError(t, err)
		require.Len(t, d.results.batches, 2)
		assert.Len(t, d.results.batches[0], 16)
		assert.Len(t, d.results.batches[1], 5)
		assert.Len(t, d.results.messages, 16)
	})
}

func TestHandler_PublishesInFullBatchesWhileCallsAreRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		var whileCalling int
		d.dbs.before = func(context.Context, events.Request) error {
			time.Sleep(time.Second)
			return nil
		}
		d.results.before = func(context.Context) error {
			d.dbs.mu.Lock()
			defer d.dbs.mu.Unlock()
			if d.dbs.flying > 0 {
				whileCalling++
			}
			return nil
		}
		_, err := d.Handle(t.Context(), "", batch(items(100)...))
		require.NoError(t, err)
		assert.Len(t, d.results.batches, 7, "100 results in batches of 16")
		assert.GreaterOrEqual(t, whileCalling, 5)
		assert.Equal(t, 4, d.dbs.peak, "CONCURRENCY")
	})
}

func TestHandler_KeepsBatchesBelow64KB(t *testing.T) {
	d := deploy(nil)
	var bodies []string
	for i := range 20 {
		bodies = append(bodies, fmt.Sprintf("%d%s", i, strings.Repeat("x", 20_000)))
	}
	bodies = append(bodies, strings.Repeat("y", 65_536))
	_, err := d.Handle(t.Context(), "", batch(bodies...))
	require.NoError(t, err)
	assert.Len(t, d.deadLetters.messages, 21)
	for _, sent := range d.deadLetters.batches {
		total := 0
		for _, body := range sent {
			total += len(body)
		}
		assert.LessOrEqual(t, total, 65_536)
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
				return &handler.ServiceError{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: 5 * time.Second}
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

func TestHandler_GivesUpWhenTheWaitHintOutlastsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error {
			return &handler.ServiceError{Service: "DBS", Code: "Throttling.User", Throttled: true, RetryAfter: time.Hour}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		started := time.Now()
		_, err := d.Handle(ctx, "", batch(items(100)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		assert.Contains(t, err.Error(), "Throttling.User")
		assert.Less(t, time.Since(started), time.Second, "waiting would be billed and of no use")
		assert.LessOrEqual(t, d.dbs.total, 4, "the other events are not tried")
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

// hang blocks until ctx ends, as a call to a service that does not answer.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestHandler_AnswersBeforeTheDeadline(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute} {
		for name, arrange := range map[string]func(*deployment){
			"DBS hangs": func(d *deployment) {
				d.dbs.before = func(ctx context.Context, _ events.Request) error { return hang(ctx) }
			},
			"the result queue hangs": func(d *deployment) { d.results.before = hang },
			"both hang": func(d *deployment) {
				d.dbs.before = func(ctx context.Context, _ events.Request) error { return hang(ctx) }
				d.results.before = hang
			},
			"the dead-letter queue hangs": func(d *deployment) { d.deadLetters.before = hang },
			"DBS fails all the time": func(d *deployment) {
				d.dbs.before = func(context.Context, events.Request) error { return transient("InternalError") }
			},
		} {
			t.Run(fmt.Sprintf("%s, %v", name, timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := deploy(nil)
					arrange(d)
					ctx, cancel := context.WithTimeout(t.Context(), timeout)
					defer cancel()
					_, err := d.Handle(ctx, "", batch(append(items(20), "rubbish")...))
					var redelivery *handler.RedeliveryError
					require.ErrorAs(t, err, &redelivery)
					require.NoError(t, ctx.Err(), "answered in time")
				})
			})
		}
	}
}

func TestHandler_PublishesWhatIsFinishedBeforeItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(ctx context.Context, request events.Request) error {
			if request.ClientToken == "event-7" {
				return hang(ctx)
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		summary, err := d.Handle(ctx, "", batch(items(20)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		assert.Contains(t, err.Error(), "1 of 20 events are open")
		assert.Contains(t, err.Error(), "event event-7 (mysql-bin.000007)")
		assert.Equal(t, 19, summary.Created)
		assert.Len(t, d.results.messages, 19)
	})
}

func TestHandler_BoundsTheErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error {
			return &handler.ServiceError{Service: "DBS", Code: strings.Repeat("C", 5000), Message: strings.Repeat("中", 5000)}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Handle(ctx, "", batch(items(500)...))
		require.Error(t, err)
		assert.Less(t, len(err.Error()), 4500)
		assert.Contains(t, err.Error(), "and 490 more")
	})
}

func TestHandler_StopsEarlyOnAnOperatorFault(t *testing.T) {
	t.Run("of DBS", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(_ context.Context, request events.Request) error {
				time.Sleep(time.Millisecond)
				switch request.ClientToken {
				case "event-10":
					return operatorFault("Forbidden.RAM")
				case "event-9":
					time.Sleep(time.Second) // in flight: it may finish
				}
				return nil
			}
			bodies := items(100)
			bodies[90] = "rubbish" // behind the fault
			summary, err := d.Handle(t.Context(), "", batch(bodies...))
			var fault *handler.OperatorFaultError
			require.ErrorAs(t, err, &fault)
			assert.Contains(t, err.Error(), "Forbidden.RAM")
			assert.Equal(t, 1, strings.Count(err.Error(), "mend it"), "told once, not for each event")
			assert.Contains(t, d.log.String(), `"level":"ERROR","msg":"operator fault"`)
			assert.Contains(t, d.log.String(), `"errCode":"Forbidden.RAM"`)
			assert.LessOrEqual(t, d.dbs.total, 15, "calls behind the fault")
			assert.Contains(t, d.results.results(t), "event-9", "what was in flight is published")
			assert.Len(t, d.results.messages, summary.Created)
			assert.Empty(t, d.deadLetters.messages)
			assert.Equal(t, 100, summary.Events)
		})
	})
	t.Run("of the result queue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(context.Context, events.Request) error { time.Sleep(time.Millisecond); return nil }
			d.results.before = func(context.Context) error { return operatorFault("QueueNotExist") }
			_, err := d.Handle(t.Context(), "", batch(items(400)...))
			var fault *handler.OperatorFaultError
			require.ErrorAs(t, err, &fault)
			assert.Contains(t, err.Error(), "QueueNotExist")
			assert.Less(t, d.dbs.total, 40, "calls whose results could not be published")
		})
	})
	t.Run("of the dead-letter queue", func(t *testing.T) {
		d := deploy(nil)
		d.deadLetters.before = func(context.Context) error { return operatorFault("QueueNotExist") }
		summary, err := d.Handle(t.Context(), "", batch("rubbish", item(1)))
		var fault *handler.OperatorFaultError
		require.ErrorAs(t, err, &fault)
		assert.Len(t, d.results.messages, summary.Created, "the failure is not published before its dead letter")
	})
}

func TestHandler_RedeliversWhenPublishFails(t *testing.T) {
	for name, arrange := range map[string]func(*deployment) *fakeQueue{
		"the result":      func(d *deployment) *fakeQueue { return d.results },
		"the dead letter": func(d *deployment) *fakeQueue { return d.deadLetters },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				queue := arrange(d)
				queue.before = func(context.Context) error { return transient("InternalServerError") }
				payload := batch(item(1), "rubbish")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, err := d.Handle(ctx, "", payload)
				var redelivery *handler.RedeliveryError
				require.ErrorAs(t, err, &redelivery)
				assert.Contains(t, err.Error(), "its "+strings.TrimPrefix(name, "the ")+" is not published")

				queue.before = nil
				_, err = d.Handle(t.Context(), "", payload)
				require.NoError(t, err)
				assert.Len(t, d.results.results(t), 2)
				assert.Equal(t, []string{"rubbish"}, d.deadLetters.messages, "dead-lettered once")
				assert.Len(t, d.dbs.tasks, 1)
			})
		})
	}
}

func TestHandler_RefusedForGoodByTheQueueStaysOpen(t *testing.T) {
	d := deploy(nil)
	d.deadLetters.refuse = func(string) error {
		return &handler.ServiceError{Service: "MNS", Kind: handler.Permanent, Code: "InvalidArgument", Message: "too large"}
	}
	_, err := d.Handle(t.Context(), "", batch("rubbish"))
	var redelivery *handler.RedeliveryError
	require.ErrorAs(t, err, &redelivery)
	assert.Contains(t, err.Error(), "too large")
	assert.Len(t, d.deadLetters.batches, 1)
	assert.Empty(t, d.results.messages)
}

func TestHandler_RedeliveryDoesOnlyWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		bodies := items(100)
		bodies[3] = "rubbish"
		payload := batch(bodies...)
		d.dbs.before = func(ctx context.Context, request events.Request) error {
			if request.ClientToken == "event-50" {
				return hang(ctx)
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Handle(ctx, "", payload)
		require.Error(t, err)
		calls, messages, dead := d.dbs.total, len(d.results.messages), len(d.deadLetters.messages)
		require.Equal(t, 99, messages)

		d.dbs.before = nil
		summary, err := d.Handle(t.Context(), "", payload)
		require.NoError(t, err)
		assert.Equal(t, 99, summary.AlreadyDone)
		assert.Equal(t, 1, summary.Created)
		assert.Equal(t, 1, d.dbs.total-calls, "DBS calls")
		assert.Equal(t, 1, len(d.results.messages)-messages, "results")
		assert.Len(t, d.deadLetters.messages, dead, "dead letters")
		assert.Equal(t, d.dbs.tasks["event-0"], summary.Results[0].BackupSetDownloadTaskID, "what is known of the earlier outcome")

		// A new instance has lost the record: it repeats, without a second task.
		d.restart(nil)
		tasks := len(d.dbs.tasks)
		_, err = d.Handle(t.Context(), "", payload)
		require.NoError(t, err)
		assert.Len(t, d.dbs.tasks, tasks)
		assert.Len(t, d.results.results(t), 100, "the same ids")
	})
}

func TestHandler_APortThatAnswersForTooFewMessagesIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.restart(nil)
		queue := &shortQueue{}
		h := handler.New(handler.Config{Concurrency: 1}, d.dbs, queue, queue, discard)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.Handle(ctx, "", batch(item(1)))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
	})
}

type shortQueue struct{}

func (*shortQueue) Send(context.Context, []string) []error { return nil }

func TestHandler_LogsEachEventAndASummary(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "1-request", batch(item(1), "rubbish secret body", strings.Replace(item(2), "COMPLETED", "INIT", 1)))
	require.NoError(t, err)
	var lines []map[string]any
	for line := range strings.Lines(d.log.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		assert.Equal(t, "1-request", fields["requestId"])
		lines = append(lines, fields)
	}
	require.Len(t, lines, 4)
	find := func(text string) map[string]any {
		for _, line := range lines {
			if line["msg"] == text {
				return line
			}
		}
		t.Fatalf("no line %q in %v", text, lines)
		return nil
	}
	created := find("task created")
	assert.Equal(t, "INFO", created["level"])
	for field, want := range map[string]any{"eventId": "event-0", "clientToken": "event-0", "backupSetId": "t4yh0g0g0001",
		"backupSetName": "mysql-bin.000001", "taskId": "task-1", "dbsRequestId": "D6E068C3", "attempts": 1.0} {
		assert.Equal(t, want, created[field], field)
	}
	assert.Contains(t, created, "durationMs")
	failed := find("event failed")
	assert.Equal(t, "ERROR", failed["level"])
	assert.Equal(t, events.CodeMalformed, failed["errCode"])
	assert.Equal(t, "INFO", find("event ignored: the backup set is not complete")["level"])
	done := find("invocation done")
	for _, count := range []string{"created", "failed", "ignored"} {
		assert.InDelta(t, 1, done[count], 0, count)
	}
	assert.NotContains(t, d.log.String(), "secret body")
}

func TestHandler_HandlesOverlappingInvocations(t *testing.T) {
	d := deploy(nil)
	done := make(chan error)
	for range 8 {
		go func() {
			_, err := d.Handle(context.Background(), "", batch(items(50)...))
			done <- err
		}()
	}
	for range 8 {
		require.NoError(t, <-done)
	}
	assert.Len(t, d.dbs.tasks, 50)
	assert.Len(t, d.results.results(t), 50)
}
