package handler_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

func TestHandler_TypedByHand(t *testing.T) {
	t.Run("a backup set is handled", func(t *testing.T) {
		d := deploy(nil)
		summary, err := d.Handle(t.Context(), "", []byte(item(1)))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Created)
		assert.Len(t, d.results.messages, 1)
	})
	t.Run("what is missing is named, and nothing is done", func(t *testing.T) {
		for payload, says := range map[string]string{
			`{"key":"value"}`: "this is neither a backup set nor a command",
			`{"BackupSetId":"a","BackupSetName":"b","dryRun":true}`: "names are case-sensitive: DryRun, not dryRun",
			"rubbish": "payload", "": "payload", "[1": "payload", "null": "payload",
		} {
			d := deploy(nil)
			_, err := d.Handle(t.Context(), "", []byte(payload))
			var refused *handler.EventError
			require.ErrorAs(t, err, &refused)
			assert.Contains(t, err.Error(), says)
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
		answer, err := json.Marshal(summary.DryRun)
		require.NoError(t, err)
		assert.JSONEq(t, `{"Action":"CreateIncrementBackupSetDownload","BackupSetId":"a","BackupSetName":"b",
			"BackupSetDataFormat":"CSV","ClientToken":"c","dbsEndpoint":"https://dbs","mnsEndpoint":"https://mns",
			"resultQueue":"results","deadLetterQueue":"dead"}`, string(answer))
		assert.Zero(t, d.dbs.total)
		assert.Empty(t, d.results.messages)
	})
}

// A dry run that a queue delivers is a mistake like any other, and does not disappear.
func TestHandler_ADeliveredDryRunIsDeadLettered(t *testing.T) {
	d := deploy(nil)
	body := `{"BackupSetId":"a","BackupSetName":"b","DryRun":true}`
	summary, err := d.Handle(t.Context(), "", batch(body))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
	assert.Nil(t, summary.DryRun)
	assert.Equal(t, []string{body}, d.deadLetters.messages)
	assert.Len(t, d.results.messages, 1)
}

// So is one of a set that is not complete.
func TestHandler_ADeliveredDryRunOfAnUnfinishedSetIsDeadLettered(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "", batch(`{"BackupSetJobId":"a","BackupSetId":"b","BackupStatus":"FILLING","DryRun":true}`))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
}
