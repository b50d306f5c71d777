package function_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"testing"

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
	assert.LessOrEqual(t, s.dbsServer.Connections().Accepted+s.mnsServer.Connections().Accepted, 16+8)
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
