package handler_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/outbox"
)

func TestHandler_OneMessageDoesNotTakeItsBatchWithIt(t *testing.T) {
	d := deploy(nil)
	d.deadLetters.before = nil
	h := handler.New(handler.Config{Concurrency: 1}, handler.Ports{Tasks: d.dbs, Results: d.results, DeadLetters: &pickyQueue{fakeQueue: d.deadLetters}}, discard)
	_, err := h.Handle(t.Context(), "", batch("one", "too large", "two"))
	var redelivery *handler.RedeliveryError
	require.ErrorAs(t, err, &redelivery)
	assert.Contains(t, err.Error(), "1 of 3 events are open")
	assert.ElementsMatch(t, []string{"one", "two"}, d.deadLetters.messages)
}

// pickyQueue refuses a whole request for one of its messages, as MNS does.
type pickyQueue struct{ *fakeQueue }

func (q *pickyQueue) Send(ctx context.Context, messages []outbox.Message) []error {
	for _, body := range bodiesOf(messages) {
		if body == "too large" {
			answers := make([]error, len(messages))
			for i := range answers {
				answers[i] = permanent("InvalidArgument")
			}
			return answers
		}
	}
	return q.fakeQueue.Send(ctx, messages)
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
			time.Sleep(100 * time.Millisecond)
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

func TestHandler_MessagesThatTheQueueKeepsRefusingDelayNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
		var last time.Time
		d.results.refuse = func(body string) error {
			if strings.Contains(body, `7","source"`) { // one in ten, by its ID
				return transient("InternalServerError")
			}
			last = time.Now()
			return nil
		}
		started := time.Now()
		summary, err := d.handle(t, time.Minute, batch(items(1000)...))
		require.Error(t, err)
		assert.Equal(t, 900, summary.Created)
		assert.Less(t, last.Sub(started), time.Second)
	})
}

func TestHandler_AQueueThatIsDownIsNotDrownedInRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
		var sends atomic.Int64
		d.results.before = func(context.Context) error {
			sends.Add(1)
			return transient("InternalServerError")
		}
		_, err := d.handle(t, time.Minute, batch(items(10_000)...))
		require.Error(t, err)
		assert.Less(t, sends.Load(), int64(2000), "of 625 batches")
	})
}

func TestHandler_AHangingEventHoldsBackNoResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 16 })
		d.dbs.before = func(ctx context.Context, request events.Request) error {
			if request.ClientToken == "event-3" {
				return hang(ctx)
			}
			return nil
		}
		started := time.Now()
		var last time.Duration
		d.results.refuse = func(string) error { last = time.Since(started); return nil }
		summary, err := d.handle(t, 5*time.Minute, batch(items(10)...))
		require.Error(t, err)
		assert.Equal(t, 9, summary.Created)
		assert.LessOrEqual(t, last, 1100*time.Millisecond)
	})
}

func TestHandler_AFaultOfTheQueueOutweighsOtherRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.refuse = func(body string) error {
			if strings.Contains(body, `"id":"event-3"`) {
				return operatorFault("QueueNotExist")
			}
			return transient("InternalServerError")
		}
		sends := 0
		d.results.before = func(context.Context) error { sends++; return nil }
		_, err := d.handle(t, time.Minute, batch(items(16)...))
		var fault *handler.OperatorFaultError
		require.ErrorAs(t, err, &fault)
		assert.Equal(t, 1, sends)
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

func TestHandler_APortThatAnswersForTooFewMessagesIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.restart(nil)
		queue := &shortQueue{}
		h := handler.New(handler.Config{Concurrency: 1}, handler.Ports{Tasks: d.dbs, Results: queue, DeadLetters: queue}, discard)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.Handle(ctx, "", batch(item(1)))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
	})
}

type shortQueue struct{ inspected }

func (*shortQueue) Send(context.Context, []outbox.Message) []error { return nil }
