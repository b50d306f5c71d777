package handler_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
)

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
	for _, count := range []string{"created", "failed", "ignored", "attempts"} {
		assert.InDelta(t, 1, done[count], 0, count)
	}
	assert.NotContains(t, d.log.String(), "secret body")
}
