package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
)

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
		return &cloud.Error{Service: "DBS", Kind: cloud.Permanent, Code: long, Message: long, RequestID: long}
	}
	summary, err := d.Handle(t.Context(), "", batch(items(20)...))
	require.NoError(t, err)
	text, err := json.Marshal(summary)
	require.NoError(t, err)
	assert.Less(t, len(text), 40_000)
	assert.Less(t, d.log.Len(), 60_000)
}

func TestHandler_RefusedForGoodByTheQueueStaysOpen(t *testing.T) {
	d := deploy(nil)
	d.deadLetters.refuse = func(string) error {
		return &cloud.Error{Service: "MNS", Kind: cloud.Permanent, Code: "InvalidArgument", Message: "too large"}
	}
	_, err := d.Handle(t.Context(), "", batch("rubbish"))
	var redelivery *handler.RedeliveryError
	require.ErrorAs(t, err, &redelivery)
	assert.Contains(t, err.Error(), "too large")
	assert.Len(t, d.deadLetters.batches, 1)
	assert.Empty(t, d.results.messages)
}

// Without a message ID, a delivery cannot be told from a body that is sent again.
func TestHandler_AMessageWithoutAnIDIsDeadLetteredEachTimeItFails(t *testing.T) {
	d := deploy(nil)
	for range 2 {
		summary, err := d.Handle(t.Context(), "", stream(element{ID: "1", Body: "rubbish"}))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Failed)
	}
	assert.Equal(t, []string{"rubbish", "rubbish"}, d.deadLetters.messages)
}

func TestHandler_SaysThatABodyWasTooLargeHoweverMuchDBSSays(t *testing.T) {
	d := deploy(nil)
	d.dbs.before = func(context.Context, events.Request) error {
		return &cloud.Error{Kind: cloud.Permanent, Code: "Param.NotFound", Message: strings.Repeat("x", 5000)}
	}
	_, err := d.Handle(t.Context(), "", batch(strings.Replace(item(1), "{", "{"+strings.Repeat(" ", 65_537), 1)))
	require.NoError(t, err)
	assert.Empty(t, d.deadLetters.messages)
	assert.Contains(t, d.results.results(t)["event-0"].Data.ErrMessage, "too large to keep")
}

func TestHandler_ARepeatOfAFailedEventIsRememberedToo(t *testing.T) {
	d := deploy(nil)
	d.dbs.before = func(context.Context, events.Request) error { return permanent("Param.NotFound") }
	second := element{ID: "1", MessageID: "second", Body: item(1)}
	_, err := d.Handle(t.Context(), "", stream(element{ID: "1", MessageID: "first", Body: item(1)}, second))
	require.NoError(t, err)
	summary, err := d.Handle(t.Context(), "", stream(second))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.AlreadyDone)
	assert.Len(t, d.deadLetters.messages, 1)
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

func TestHandler_AnUnknownBackupStatusIsNotSkipped(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "", batch(strings.Replace(item(58), "COMPLETED", "DONE", 1)))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, events.CodeUnknownBackupStatus, d.results.results(t)["event-0"].Data.ErrCode)
	assert.Len(t, d.deadLetters.messages, 1)
}

func TestHandler_ARefusalWithoutWordsGivesItsCode(t *testing.T) {
	d := deploy(nil)
	d.dbs.before = func(context.Context, events.Request) error {
		return &cloud.Error{Kind: cloud.Permanent, Service: "DBS", Code: "Param.NotFound"}
	}
	_, err := d.Handle(t.Context(), "", batch(item(1)))
	require.NoError(t, err)
	assert.Equal(t, "Param.NotFound", d.results.results(t)["event-0"].Data.ErrMessage)
}
