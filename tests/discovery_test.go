package tests_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/dbs"
)

// job is the incremental job of the plan in these tests.
const job = "1hv5g9wk4001"

// addSet adds a set to the plan that ended some hours ago.
func addSet(cloud *harness.Cloud, n int, status string, hoursAgo float64) {
	end := time.Now().Add(-time.Duration(hoursAgo * float64(time.Hour)))
	cloud.DBS.AddSet(plan, dbs.Set{JobID: job, Name: fmt.Sprintf("mysql-bin.%06d", n), Status: status,
		Start: end.Add(-time.Hour), End: end, Expires: time.Now().Add(1000 * time.Hour), Size: 18_535})
}

// discovery is what the tests read of a run's answer.
type discovery struct {
	Plans []struct {
		Listed, WithTask, Incomplete, TaskFailed, Announced int
		Sets                                                []struct{ State, BackupSetID string }
	}
}

func runDiscovery(t *testing.T, cloud *harness.Cloud, payload string) discovery {
	t.Helper()
	answer, err := cloud.Invoke(t.Context(), []byte(payload))
	require.NoError(t, err)
	var d discovery
	require.NoError(t, json.Unmarshal(answer.Payload, &d))
	require.Len(t, d.Plans, 1)
	assert.NotContains(t, string(answer.Payload), dbs.URLSecret)
	return d
}

const timerEvent = `{"triggerTime":"2026-11-23T09:00:00Z","triggerName":"discovery","payload":"{}"}`

// Nobody sends a message: the timer finds the sets, and just these have tasks.
func TestDiscovery_DownloadsEveryFinishedSetOnce(t *testing.T) {
	settings := map[string]string{"LOG_LEVEL": "debug"}
	for name, value := range discovering {
		settings[name] = value
	}
	cloud, instance := deploy(t, settings)
	cloud.DBS.AddPlan(plan)
	for n := range 150 {
		addSet(cloud, n, dbs.Completed, 2)
	}
	addSet(cloud, 150, dbs.Filling, 0.1)
	done := cloud.DBS.AddTask(plan, dbs.ListedTask{JobID: job, SetName: "mysql-bin.000007", Status: "finish"})
	failed := cloud.DBS.AddTask(plan, dbs.ListedTask{JobID: job, SetName: "mysql-bin.000008", Status: "stop"})
	require.NotEqual(t, done, failed)

	first := runDiscovery(t, cloud, timerEvent).Plans[0]
	assert.Equal(t, 151, first.Listed)
	assert.Equal(t, 1, first.WithTask)
	assert.Equal(t, 1, first.Incomplete)
	assert.Equal(t, 1, first.TaskFailed)
	assert.Equal(t, 148, first.Announced)
	assert.Empty(t, cloud.DBS.Tasks(), "announced, not downloaded")

	_, _, err := cloud.Trigger(100).Drain(t.Context())
	require.NoError(t, err)
	tasks := make(map[string]int)
	for _, task := range cloud.DBS.Tasks() {
		tasks[task.BackupSetName]++
		assert.Equal(t, job+"/"+task.BackupSetName, task.ClientToken)
	}
	assert.Len(t, tasks, 148)
	for name, n := range tasks {
		assert.Equal(t, 1, n, name)
	}
	for _, name := range []string{"mysql-bin.000007", "mysql-bin.000008", "mysql-bin.000150"} {
		assert.NotContains(t, tasks, name)
	}
	results, err := cloud.Results()
	require.NoError(t, err)
	assert.Len(t, results, 148)

	second := runDiscovery(t, cloud, timerEvent).Plans[0]
	assert.Zero(t, second.Announced)
	assert.Equal(t, 149, second.WithTask)
	assert.Empty(t, cloud.MNS.Messages(harness.SourceQueue))

	// What finishes later is found later; a failed download only if it is asked for.
	cloud.DBS.Complete(job, "mysql-bin.000150")
	assert.Equal(t, 1, runDiscovery(t, cloud, timerEvent).Plans[0].Announced)
	assert.Equal(t, 2, runDiscovery(t, cloud, `{"Discover":{"RetryFailed":true}}`).Plans[0].Announced, "the queue still holds the first")
	_, _, err = cloud.Trigger(100).Drain(t.Context())
	require.NoError(t, err)
	assert.Len(t, cloud.DBS.Tasks(), 150)

	answer := runDiscovery(t, cloud, `{"Discover":{"BackupSetIds":["mysql-bin.000058"],"DryRun":true}}`).Plans[0]
	require.Len(t, answer.Sets, 1)
	assert.Equal(t, "withTask", answer.Sets[0].State, "what became of mysql-bin.000058?")

	instance.Stop()
	assert.NotContains(t, instance.Output.String(), dbs.URLSecret)
}
