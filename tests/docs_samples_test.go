package tests_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

// discoveringPlan returns the settings of a function that discovers a plan of the stand-in.
func discoveringPlan() map[string]string {
	return map[string]string{"BACKUP_PLAN_IDS": thePlan, "SOURCE_QUEUE": harness.SourceQueue}
}

// Every JSON sample of the pages goes where it says: what comes in is delivered and
// makes a task, a result is held against the schema and against what really goes
// out, and a command is typed.
func TestDocs_EveryJSONSampleIsTrue(t *testing.T) {
	count := map[string]int{}
	for _, page := range pages {
		var samples []string
		for _, block := range blocks(t, page, "json") {
			if strings.HasPrefix(block, "{\n") {
				samples = append(samples, block)
			} else {
				samples = append(samples, strings.Split(block, "\n")...)
			}
		}
		for _, sample := range samples {
			switch {
			case strings.Contains(sample, `"Statement"`):
				count["policy"]++
				policyIsTrue(t, sample)
			case strings.HasPrefix(sample, `{"Discover"`):
				count["command"]++
				commandIsTrue(t, sample)
			case strings.Contains(sample, "IncrementBackupSetDownload:"):
				count["result"]++
				resultIsTrue(t, sample)
			default:
				count["event"]++
				eventIsTrue(t, sample)
			}
		}
	}
	for _, kind := range []string{"command", "result", "event", "policy"} {
		assert.Positive(t, count[kind], kind)
	}
}

// policyIsTrue asserts that a policy is that of the example consumer, whose own tests run
// under it, and grants nothing that only the function does.
func policyIsTrue(t *testing.T, sample string) {
	t.Helper()
	assert.JSONEq(t, readPage(t, "tests/consumer/policy.json"), sample)
	policy, err := standin.ParsePolicy([]byte(sample))
	require.NoError(t, err)
	for _, action := range []string{"mns:ReceiveMessage", "mns:DeleteMessage"} {
		source := "acs:mns:" + harness.Region + ":1234567890123456:/queues/" + harness.SourceQueue + "/messages"
		assert.False(t, policy.Allows(action, source), action)
	}
	for _, g := range grants(t) {
		if g.action != "dbs:DescribeBackupSetDownloadTaskList" {
			assert.False(t, policy.Allows(g.action, strings.ReplaceAll(g.resource, ":*:", ":1234567890123456:")), g)
		}
	}
}

func eventIsTrue(t *testing.T, sample string) {
	t.Helper()
	cloud, _ := deploy(t, nil)
	_, err := cloud.MNS.Put(harness.SourceQueue, sample)
	require.NoError(t, err)
	_, _, err = cloud.Trigger(100).Drain(t.Context())
	require.NoError(t, err)
	assert.Len(t, cloud.DBS.Tasks(), 1, sample)
}

func resultIsTrue(t *testing.T, sample string) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile("../events/schema/result.schema.json")
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(sample))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(value))

	cloud, _ := deploy(t, nil)
	_, err = invoke(t, cloud, `{"specversion":"1.0","id":"backup-54","data":{"BackupSetId":"t4yh0g0g0001","BackupSetName":"mysql-bin.000054"}}`)
	require.NoError(t, err)
	var shown, real map[string]any
	require.NoError(t, json.Unmarshal([]byte(sample), &shown))
	require.NoError(t, json.Unmarshal([]byte(cloud.MNS.Messages(harness.ResultQueue)[0].Body), &real))
	for _, result := range []map[string]any{shown, real} {
		require.Contains(t, result, "time")
		delete(result, "time")
		data, _ := result["data"].(map[string]any)
		for _, volatile := range []string{"RequestId", "BackupSetDownloadTaskId"} {
			require.Contains(t, data, volatile)
			delete(data, volatile)
		}
	}
	assert.Equal(t, real, shown)
}

func commandIsTrue(t *testing.T, sample string) {
	t.Helper()
	cloud, _ := deploy(t, discoveringPlan())
	cloud.DBS.AddSet(thePlan, dbs.Set{JobID: "t4yh0g0g0001", Name: "mysql-bin.000048", Start: time.Now().Add(-time.Hour), End: time.Now()})
	answer, err := cloud.Invoke(t.Context(), []byte(sample))
	require.NoError(t, err, sample)
	var discovered struct {
		Plans []struct{ Listed, Announced int }
	}
	require.NoError(t, json.Unmarshal(answer.Payload, &discovered))
	require.Len(t, discovered.Plans, 1, sample)
	assert.Equal(t, 1, discovered.Plans[0].Listed, sample)
	assert.Equal(t, 1, discovered.Plans[0].Announced, sample)
	sent := 1
	if strings.Contains(sample, "DryRun") {
		sent = 0
	}
	assert.Len(t, cloud.MNS.Messages(harness.SourceQueue), sent, sample)
}

// The check that README offers as the first step has no effect, and all is well in
// the deployment that s.yaml describes.
func TestDocs_TheCheckIsWithoutEffect(t *testing.T) {
	for _, page := range []string{"README.md", "docs/operations.md"} {
		assert.Contains(t, readPage(t, page), "`{\"Check\":{}}`")
	}
	cloud, _ := deploy(t, discoveringPlan())
	cloud.DBS.AddPlan(thePlan)
	answer, err := cloud.Invoke(t.Context(), []byte(`{"Check":{}}`))
	require.NoError(t, err)
	var report struct {
		OK     bool
		Checks []struct{ Name, Result, Detail, Fix string }
	}
	require.NoError(t, json.Unmarshal(answer.Payload, &report))
	assert.True(t, report.OK, string(answer.Payload))
	for _, check := range report.Checks {
		assert.Contains(t, readPage(t, "docs/operations.md"), "`"+check.Result+"`", check.Name)
	}
	assert.Empty(t, cloud.DBS.Tasks())
	for _, queue := range []string{harness.SourceQueue, harness.ResultQueue, harness.DeadLetterQueue} {
		assert.Empty(t, cloud.MNS.Messages(queue))
	}
}
