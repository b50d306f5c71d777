package tests_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/dbs"
)

func TestFunction_DeliversAQueueInBatches(t *testing.T) {
	cloud, instance := deploy(t, nil)
	report, err := harness.Scenario{Events: 250, Seed: 1, Mixed: true}.Run(t.Context(), cloud, instance)
	require.NoError(t, err)
	assert.Empty(t, report.Violations)
	assert.Zero(t, report.FailedDeliveries)
	assert.Zero(t, report.DuplicateResults)
}

func TestFunction_CrossesTheNamesOfAListItem(t *testing.T) {
	cloud, _ := deploy(t, nil)
	_, err := invoke(t, cloud, harness.Batch(1))
	require.NoError(t, err)
	tasks := cloud.DBS.Tasks()
	require.Len(t, tasks, 1)
	assert.Equal(t, dbs.Task{ID: tasks[0].ID, BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000000",
		ClientToken: "event-0", AccessKeyID: cloud.Key.ID}, tasks[0])
}

func TestFunction_OneBadMessageDoesNotHoldUpTheOthers(t *testing.T) {
	cloud, _ := deploy(t, nil)
	payload := strings.Replace(harness.Batch(100),
		`{\"BackupSetJobId\":\"t4yh0g0g0001\",\"BackupSetId\":\"mysql-bin.000042\"`, `{\"key\":\"value\"`, 1)
	s, err := invoke(t, cloud, payload)
	require.NoError(t, err)
	assert.Equal(t, 99, s.Created)
	assert.Equal(t, 1, s.Failed)
	assert.Len(t, cloud.DBS.Tasks(), 99)
	dead := cloud.MNS.Messages(harness.DeadLetterQueue)
	require.Len(t, dead, 1)
	assert.JSONEq(t, `{"key":"value","BackupStatus":"COMPLETED","StorageMethod":"Standard"}`, dead[0].Body)
}

func TestFunction_TypedByHand(t *testing.T) {
	cloud, _ := deploy(t, nil)
	for payload, says := range map[string]string{
		`{"key":"value"}`: "this is neither a backup set nor a command",
		`{"BackupSetId"`:  "invalid JSON, line 1, column 15",
		``:                "the payload is empty",
		"\x00\xff":        "neither a JSON object or array nor base64 of one",
	} {
		_, err := invoke(t, cloud, payload)
		message := failure(t, err, "EventError")
		assert.Contains(t, message, says)
		assert.Contains(t, message, `. The commands are {"Check":{}}, which`)
	}
	assert.Empty(t, cloud.MNS.Messages(harness.ResultQueue))
	assert.Empty(t, cloud.MNS.Messages(harness.DeadLetterQueue))

	s, err := invoke(t, cloud, `{"BackupSetId":"t4yh0g0g0001","BackupSetName":"mysql-bin.000054"}`)
	require.NoError(t, err)
	assert.Equal(t, 1, s.Created)
	assert.Equal(t, cloud.DBS.Tasks()[0].ID, s.Results[0]["BackupSetDownloadTaskId"])
}

func TestFunction_DryRunCallsNothing(t *testing.T) {
	cloud, _ := deploy(t, map[string]string{"BACKUP_SET_DATA_FORMAT": "CSV"})
	payload, err := os.ReadFile("../events/testdata/console/dry-run.json")
	require.NoError(t, err)
	s, err := invoke(t, cloud, string(payload))
	require.NoError(t, err)
	assert.Equal(t, map[string]any{
		"Action": "CreateIncrementBackupSetDownload", "BackupSetId": "t4yh0g0g0001", "BackupSetName": "mysql-bin.000054",
		"BackupSetDataFormat": "CSV", "ClientToken": s.DryRun["ClientToken"],
		"dbsEndpoint": cloud.DBSServer.URL, "mnsEndpoint": cloud.MNSServer.URL,
		"resultQueue": harness.ResultQueue, "deadLetterQueue": harness.DeadLetterQueue,
	}, s.DryRun)
	calls, _ := cloud.DBS.Calls("")
	assert.Zero(t, calls)
	assert.Zero(t, cloud.DBSServer.Connections().Accepted+cloud.MNSServer.Connections().Accepted)
}

func TestFunction_TheConsoleEventsWork(t *testing.T) {
	for file, created := range map[string]int{"list-item.json": 1, "request-parameters.json": 1, "queue-batch.json": 2} {
		t.Run(file, func(t *testing.T) {
			cloud, _ := deploy(t, nil)
			payload, err := os.ReadFile("../events/testdata/console/" + file)
			require.NoError(t, err)
			s, err := invoke(t, cloud, string(payload))
			require.NoError(t, err)
			assert.Equal(t, created, s.Created)
			assert.Len(t, cloud.DBS.Tasks(), created)
		})
	}
}

func TestFunction_TheSameEventTwiceMakesOneTask(t *testing.T) {
	cloud, instance := deploy(t, nil)
	_, err := invoke(t, cloud, harness.Batch(3))
	require.NoError(t, err)
	s, err := invoke(t, cloud, harness.Batch(3))
	require.NoError(t, err)
	assert.Equal(t, 3, s.AlreadyDone)
	assert.Len(t, cloud.MNS.Messages(harness.ResultQueue), 3)

	// A new instance has lost the record: DBS answers with the same tasks.
	require.NoError(t, instance.Restart(t.Context()))
	s, err = invoke(t, cloud, harness.Batch(3))
	require.NoError(t, err)
	assert.Equal(t, 3, s.Created)
	assert.Len(t, cloud.DBS.Tasks(), 3)
	results, err := cloud.Results()
	require.NoError(t, err)
	byID := map[string]string{}
	for _, r := range results {
		if earlier, ok := byID[r.ID]; ok {
			assert.Equal(t, earlier, r.Data.TaskID)
		}
		byID[r.ID] = r.Data.TaskID
	}
	assert.Len(t, byID, 3)
}

func TestFunction_EncodesResultsForConsumersThatDecode(t *testing.T) {
	cloud, _ := deploy(t, map[string]string{"RESULT_ENCODING": "base64"})
	_, err := invoke(t, cloud, harness.Batch(1))
	require.NoError(t, err)
	messages := cloud.MNS.Messages(harness.ResultQueue)
	require.Len(t, messages, 1)
	decoded, err := base64.StdEncoding.DecodeString(messages[0].Body)
	require.NoError(t, err)
	var result harness.Result
	require.NoError(t, json.Unmarshal(decoded, &result))
	assert.Equal(t, "event-0", result.ID)
}

func TestFunction_SendsNoMoreRequestsThanItMust(t *testing.T) {
	cloud, _ := deploy(t, nil)
	_, err := invoke(t, cloud, harness.Batch(1000))
	require.NoError(t, err)
	calls, _ := cloud.DBS.Calls("")
	assert.Equal(t, 1000, calls)
	assert.Equal(t, 63, cloud.MNS.Requests(harness.ResultQueue), "1,000 results in batches of 16")
	assert.LessOrEqual(t, cloud.DBSServer.Connections().Accepted, 16, "CONCURRENCY")
}
