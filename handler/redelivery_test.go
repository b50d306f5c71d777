package handler_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

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

func TestHandler_RemembersTheLargestBatchOfTheTrigger(t *testing.T) {
	h := handler.New(handler.Config{Concurrency: 4}, handler.Ports{Tasks: forgetfulDBS{}, Results: discardQueue{}, DeadLetters: discardQueue{}}, discard)
	var last []byte
	for round := range 4 {
		last = bytes.ReplaceAll(batch(items(10_000)...), []byte("event-"), fmt.Appendf(nil, "EB0A77CA8076444C35259077119C-%d-", round))
		summary, err := h.Handle(t.Context(), "", last)
		require.NoError(t, err)
		require.Equal(t, 10_000, summary.Created)
	}
	summary, err := h.Handle(t.Context(), "", last)
	require.NoError(t, err)
	assert.Equal(t, 10_000, summary.AlreadyDone)
}
