package function_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/tests/standin/mns"
)

func TestAssembled_NothingGrowsOverAThousandInvocations(t *testing.T) {
	s := start(t)
	s.mns.AddQueue("dead-letters", mns.Defaults())
	h, err := function.Assemble(environment("MNS_ENDPOINT="+s.mnsServer.URL, "DBS_ENDPOINT="+s.dbsServer.URL,
		"LOG_LEVEL=error"), io.Discard)
	require.NoError(t, err)
	handle := func(round int) {
		payload := fmt.Sprintf(`[{"messageId":"%d-1","messageBody":"{\"BackupSetJobId\":\"a\",\"BackupSetId\":\"b\"}"},
			{"messageId":"%d-2","messageBody":"x"}]`, round, round)
		_, err := h.Handle(invocation(t, s.key), "", []byte(payload))
		require.NoError(t, err)
	}
	for round := range 20 {
		handle(round)
	}
	before := runtime.NumGoroutine()
	for round := range 1000 {
		handle(100 + round)
	}
	// A few connections more, of both sides, and no more than that.
	assert.LessOrEqual(t, runtime.NumGoroutine(), before+30)
	assert.LessOrEqual(t, s.dbsServer.Connections().Accepted+s.mnsServer.Connections().Accepted, 16+12)
}

func TestAssembled_HandlesABatchThroughBothServices(t *testing.T) {
	s := start(t)
	s.mns.AddQueue("dead-letters", mns.Defaults())
	h, err := function.Assemble(environment("MNS_ENDPOINT="+s.mnsServer.URL, "DBS_ENDPOINT="+s.dbsServer.URL,
		"RESULT_ENCODING=base64", "BACKUP_SET_DATA_FORMAT=JSON"), &bytes.Buffer{})
	require.NoError(t, err)
	summary, err := h.Handle(invocation(t, s.key), "", []byte(`[
		{"messageId":"1","messageBody":"{\"BackupSetJobId\":\"t4yh0g0g0001\",\"BackupSetId\":\"mysql-bin.000054\"}"},
		{"messageId":"2","messageBody":"x"}]`))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Created)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, "t4yh0g0g0001", s.dbs.Tasks()[0].BackupSetID)
	assert.Equal(t, "mysql-bin.000054", s.dbs.Tasks()[0].BackupSetName)
	assert.Equal(t, "JSON", s.dbs.Tasks()[0].BackupSetDataFormat)
	for _, m := range s.mns.Messages("results") {
		decoded, err := base64.StdEncoding.DecodeString(m.Body)
		require.NoError(t, err)
		assert.True(t, json.Valid(decoded))
	}
	assert.Equal(t, "x", s.mns.Messages("dead-letters")[0].Body)
}

func TestAssembled_FollowsATask(t *testing.T) {
	s := start(t)
	s.mns.AddQueue("dead-letters", mns.Defaults())
	s.mns.AddQueue("events", mns.Defaults())
	s.dbs.TaskTime = time.Nanosecond
	h, err := function.Assemble(environment("MNS_ENDPOINT="+s.mnsServer.URL, "DBS_ENDPOINT="+s.dbsServer.URL,
		"SOURCE_QUEUE=events"), io.Discard)
	require.NoError(t, err)
	summary, err := h.Handle(invocation(t, s.key), "", []byte(
		`[{"messageId":"1","messageBody":"{\"BackupSetJobId\":\"a\",\"BackupSetId\":\"b\"}"}]`))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Created)
	followUps := s.mns.Messages("events")
	require.Len(t, followUps, 1)

	payload, err := json.Marshal([]map[string]string{{"messageId": "2", "messageBody": followUps[0].Body}})
	require.NoError(t, err)
	summary, err = h.Handle(invocation(t, s.key), "", payload)
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Finished)
	results := s.mns.Messages("results")
	require.Len(t, results, 2)
	assert.Contains(t, results[1].Body, "dbs:IncrementBackupSetDownload:TaskFinished")
	assert.Len(t, s.mns.Messages("events"), 1, "nothing more to ask for")
}
