package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

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
	assert.JSONEq(t, `{"events":1,"created":1,"failed":0,"ignored":0,"finished":0,"stopped":0,"pending":0,"alreadyDone":0,"results":[{"outcome":"created","EventId":"event-0",
		"ClientToken":"event-0","BackupSetId":"t4yh0g0g0001","BackupSetName":"mysql-bin.000054","BackupSetDownloadTaskId":"task-1","RequestId":"D6E068C3"}]}`, string(text))
}

func TestHandler_SendsTheClientTokenOfTheEvent(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "", []byte(`[{"specversion":"1.0","id":"outer","data":{"messageId":"m","messageBody":"{\"specversion\":\"1.0\",\"id\":\"inner\",\"data\":{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\"}}"}}]`))
	require.NoError(t, err)
	assert.Contains(t, d.dbs.tasks, "inner")
	assert.Contains(t, d.results.results(t), "inner")
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
