package tests_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

// logLine is one line of the function's log: its text, and its fields if it is JSON.
type logLine struct {
	text   string
	fields map[string]any
}

func (l logLine) msg() string {
	msg, _ := l.fields["msg"].(string)
	return msg
}

// everyLine invokes the function in all the ways that the pages describe, and
// returns what it logs.
func everyLine(t *testing.T) []logLine {
	t.Helper()
	var output strings.Builder
	for _, scene := range []func(*testing.T) string{
		logOfEvents, logOfOldEvents, logOfManyEvents, logOfDiscovery, logOfFailedDiscovery, logOfFullQueue, logOfChecks, logOfNoPlan,
		logOfFollow, logOfFollowNoMore,
	} {
		output.WriteString(scene(t))
	}
	status, wrong := run(t, []string{"FC_RUNTIME_API=127.0.0.1:1", "LOOKBACK_HOUR=24"})
	require.Equal(t, 1, status)
	output.WriteString(wrong)

	var lines []logLine
	for text := range strings.Lines(output.String()) {
		line := logLine{text: text}
		_ = json.Unmarshal([]byte(text), &line.fields)
		lines = append(lines, line)
	}
	return lines
}

// logOfStopped stops an instance, and returns all it has written.
func logOfStopped(instance *harness.Instance) string {
	instance.Stop()
	return instance.Output.String()
}

// deployDebug starts a function that discovers a plan and logs everything, under a
// policy that can be changed.
func deployDebug(t *testing.T) (*harness.Cloud, *harness.Instance, *standin.Policy) {
	t.Helper()
	policy, err := harness.Policy()
	require.NoError(t, err)
	cloud, err := harness.NewCloudWithPolicy(policy)
	require.NoError(t, err)
	t.Cleanup(cloud.Close)
	cloud.DBS.AddPlan(thePlan)
	settings := discoveringPlan()
	settings["LOG_LEVEL"] = "debug"
	return cloud, startInstance(t, cloud, settings), policy
}

// eventsOf returns an event stream payload of the given message bodies, sent at the
// given time.
func eventsOf(sent time.Time, bodies ...string) string {
	elements := make([]string, len(bodies))
	for i, body := range bodies {
		elements[i] = fmt.Sprintf(`{"specversion":"1.0","id":"event-%d","time":%q,"source":"acs:mns","type":"mns:Queue:SendMessage",`+
			`"data":{"messageId":"event-%d","messageBody":%q}}`, i, sent.UTC().Format(time.RFC3339), i, body)
	}
	return "[" + strings.Join(elements, ",") + "]"
}

func bodyOf(number int, status string) string {
	return fmt.Sprintf(`{"BackupSetJobId":"t4yh0g0g0001","BackupSetId":"mysql-bin.%06d","BackupStatus":%q}`, number, status)
}

func logOfEvents(t *testing.T) string {
	cloud, instance, _ := deployDebug(t)
	cloud.DBSFaults.SetPlan(standin.Script(&standin.Fault{Kind: standin.Throttle}))
	cloud.MNSFaults.SetPlan(standin.Script(&standin.Fault{Kind: standin.Throttle}))
	payload := eventsOf(time.Now(), bodyOf(54, "COMPLETED"), bodyOf(55, "FILLING"), "no event", bodyOf(54, "COMPLETED"))
	for range 2 { // the second time it is done
		_, err := invoke(t, cloud, payload)
		require.NoError(t, err)
	}
	_, err := invoke(t, cloud, `{"no":"event"}`)
	failure(t, err, "EventError")
	return logOfStopped(instance)
}

func logOfOldEvents(t *testing.T) string {
	cloud, instance, policy := deployDebug(t)
	policy.Revoke("dbs:CreateIncrementBackupSetDownload")
	_, err := invoke(t, cloud, eventsOf(time.Now().Add(-2*time.Hour), bodyOf(54, "COMPLETED")))
	failure(t, err, "OperatorFaultError")
	policy.Restore("dbs:CreateIncrementBackupSetDownload")
	cloud.MNS.RemoveQueue(harness.ResultQueue) // after the task is made
	_, err = invoke(t, cloud, eventsOf(time.Now(), bodyOf(54, "COMPLETED")))
	failure(t, err, "OperatorFaultError")
	return logOfStopped(instance)
}

func logOfManyEvents(t *testing.T) string {
	cloud, instance, _ := deployDebug(t)
	cloud.Timeout = 2 * time.Second
	cloud.DBSFaults.SetPlan(standin.Always(standin.Fault{Kind: standin.Throttle, Delay: time.Minute}))
	bodies := make([]string, 150)
	for i := range bodies {
		bodies[i] = bodyOf(i, "COMPLETED")
	}
	_, err := invoke(t, cloud, eventsOf(time.Now(), bodies...))
	failure(t, err, "RedeliveryError")
	return logOfStopped(instance)
}

const thePlan = "dbsqdss5tmh0001"

// listSet adds a set to the plan that ended the given time ago.
func listSet(cloud *harness.Cloud, name, status string, ago time.Duration) {
	end := time.Now().Add(-ago)
	cloud.DBS.AddSet(thePlan, dbs.Set{JobID: "t4yh0g0g0002", Name: name, Status: status, Start: end.Add(-time.Hour), End: end})
}

func listTask(cloud *harness.Cloud, name, status string, ago time.Duration) {
	cloud.DBS.AddTask(thePlan, dbs.ListedTask{JobID: "t4yh0g0g0002", SetName: name, Status: status, Created: time.Now().Add(-ago)})
}

func logOfDiscovery(t *testing.T) string {
	cloud, instance, _ := deployDebug(t)
	cloud.DBSFaults.SetPlan(standin.Script(&standin.Fault{Kind: standin.Throttle}))
	listSet(cloud, "mysql-bin.000054", dbs.Completed, time.Hour)
	listSet(cloud, "mysql-bin.000053", "UNCOMPLETED", 48*time.Hour)
	listSet(cloud, "mysql-bin.000052", dbs.Completed, 100*time.Hour)
	listTask(cloud, "mysql-bin.000001", "finish", 200*time.Hour)
	listSet(cloud, "mysql-bin.000051", dbs.Completed, 2*time.Hour)
	listSet(cloud, "mysql-bin.000051", dbs.Completed, 3*time.Hour)
	listSet(cloud, "", dbs.Completed, time.Hour)
	listSet(cloud, "mysql-bin.000050", dbs.Completed, 3*time.Hour)
	listTask(cloud, "mysql-bin.000050", "running", 2*time.Hour)
	for i := range 90 {
		name := fmt.Sprintf("mysql-bin.%06d", 100+i)
		listSet(cloud, name, dbs.Completed, 5*time.Hour)
		listTask(cloud, name, "stop", 4*time.Hour)
	}
	_, err := cloud.Invoke(t.Context(), []byte(`{"triggerTime":"2026-11-23T09:00:00Z","triggerName":"discovery","payload":"{}"}`))
	require.NoError(t, err)
	return logOfStopped(instance)
}

func logOfFailedDiscovery(t *testing.T) string {
	cloud, instance, policy := deployDebug(t)
	listSet(cloud, "mysql-bin.000054", dbs.Completed, time.Hour)
	listTask(cloud, "of-another-name", "finish", time.Hour) // belongs to no set
	cloud.MNS.RemoveQueue(harness.SourceQueue)
	_, err := cloud.Invoke(t.Context(), []byte(`{"Discover":{}}`))
	failure(t, err, "DiscoveryError")
	policy.Revoke("dbs:DescribeIncrementBackupList")
	_, err = cloud.Invoke(t.Context(), []byte(`{"Discover":{}}`))
	assert.Contains(t, failure(t, err, "DiscoveryError"), "dbs:DescribeIncrementBackupList")
	return logOfStopped(instance)
}

func logOfFullQueue(t *testing.T) string {
	cloud, instance, _ := deployDebug(t)
	listSet(cloud, "mysql-bin.000054", dbs.Completed, time.Hour)
	for range 10_000 {
		_, err := cloud.MNS.Put(harness.SourceQueue, "waits")
		require.NoError(t, err)
	}
	_, err := cloud.Invoke(t.Context(), []byte(`{"Discover":{}}`))
	require.NoError(t, err)
	return logOfStopped(instance)
}

func logOfChecks(t *testing.T) string {
	cloud, instance, policy := deployDebug(t)
	policy.Revoke("mns:GetQueueAttributes")
	cloud.DBSFaults.SetPlan(standin.Script(&standin.Fault{Kind: standin.Throttle}))
	_, err := cloud.Invoke(t.Context(), []byte(`{"Check":{}}`))
	require.NoError(t, err)
	return logOfStopped(instance)
}

func logOfNoPlan(t *testing.T) string {
	var logs strings.Builder
	for _, settings := range []map[string]string{
		nil,
		{"BACKUP_PLAN_IDS": "all", "SOURCE_QUEUE": harness.SourceQueue},
	} {
		cloud, instance := deploy(t, settings)
		_, err := cloud.Invoke(t.Context(), []byte(`{"triggerTime":"2026-11-23T09:00:00Z","triggerName":"discovery","payload":"{}"}`))
		require.NoError(t, err)
		logs.WriteString(logOfStopped(instance))
	}
	return logs.String()
}

// followUps returns the bodies of follow-ups of tasks in each state, which DBS lists.
func followUps(cloud *harness.Cloud) []string {
	var bodies []string
	for i, task := range []dbs.ListedTask{
		{Status: "finish", Created: time.Now().Add(-time.Hour)},
		{Status: "stop", Created: time.Now().Add(-time.Hour)},
		{Status: "running", Created: time.Now().Add(-time.Hour)},
		{Status: "running", Created: time.Now().Add(-8 * 24 * time.Hour)},
	} {
		task.JobID, task.SetName = "t4yh0g0g0003", fmt.Sprintf("mysql-bin.%06d", i)
		bodies = append(bodies, fmt.Sprintf(`{"specversion":"1.0","id":"followed-%d","source":"acs:fc:cn-hangzhou:1234567890123456:functions/`+
			harness.FunctionName+`","type":"dbs:IncrementBackupSetDownloadTask:FollowUp","subject":%q,"time":%q,`+
			`"datacontenttype":"application/json","data":{"EventId":"followed-%d","ClientToken":"followed-%d","BackupSetId":%q,`+
			`"BackupSetName":%q,"BackupSetDownloadTaskId":%q}}`, i, task.SetName, task.Created.UTC().Format(time.RFC3339), i, i,
			task.JobID, task.SetName, cloud.DBS.AddTask(thePlan, task)))
	}
	return bodies
}

func logOfFollow(t *testing.T) string {
	cloud, instance, policy := deployDebug(t)
	s, err := invoke(t, cloud, eventsOf(time.Now(), followUps(cloud)...))
	require.NoError(t, err)
	assert.Equal(t, 4, s.Events)
	policy.Revoke("dbs:DescribeBackupSetDownloadTaskList")
	_, err = invoke(t, cloud, eventsOf(time.Now(), followUps(cloud)...))
	require.NoError(t, err)
	return logOfStopped(instance)
}

// logOfFollowNoMore is that of an instance whose SOURCE_QUEUE was taken away.
func logOfFollowNoMore(t *testing.T) string {
	cloud, instance := deploy(t, nil)
	_, err := invoke(t, cloud, eventsOf(time.Now(), followUps(cloud)...))
	require.NoError(t, err)
	return logOfStopped(instance)
}

// The guide documents every field of the log, and no other; and every line that it
// quotes is one of the log. Each query of the alarms finds what it looks for.
func TestDocs_TheLogIsAsDescribed(t *testing.T) {
	lines := everyLine(t)
	messages, fields := map[string]bool{}, map[string]bool{}
	for _, line := range lines {
		messages[line.msg()] = true
		for name := range line.fields {
			fields[name] = true
		}
	}
	t.Run("fields", func(t *testing.T) {
		_, section, _ := strings.Cut(readPage(t, "docs/operations.md"), "| field | in lines of | meaning |\n")
		section, _, _ = strings.Cut(section, "\n\n")
		documented := []string{"time", "level", "msg"} // of every JSON logger
		for line := range strings.Lines(section) {
			documented = append(documented, quoted(strings.Split(line, "|")[1])...)
		}
		slices.Sort(documented)
		assert.Equal(t, documented, slices.Sorted(maps.Keys(fields)))
	})
	t.Run("lines that the guide quotes", func(t *testing.T) {
		found := 0
		for _, cell := range cells(t, "docs/operations.md") {
			for _, text := range quoted(cell) {
				if !regexp.MustCompile(`^[a-z]+ [a-z ]+`).MatchString(text) {
					continue // a code, a field, a name
				}
				found++
				start, isStart := strings.CutSuffix(text, "…")
				assert.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(messages)), func(msg string) bool {
					return msg == text || isStart && strings.HasPrefix(msg, start)
				}), text)
			}
		}
		assert.Positive(t, found)
	})
	t.Run("lines of the runtime", func(t *testing.T) {
		block := strings.Join(blocks(t, "docs/operations.md", "text"), "\n")
		varies := regexp.MustCompile(`1-[0-9a-f]{32}|\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+|: …"|(HTTP 404\): )[^"]*"`)
		same := func(text string) string { return strings.TrimSpace(varies.ReplaceAllString(text, "")) }
		for line := range strings.Lines(block) {
			assert.True(t, slices.ContainsFunc(lines, func(l logLine) bool {
				return l.fields == nil && strings.HasPrefix(same(l.text), strings.TrimSuffix(same(line), ":"))
			}), line)
		}
	})
	for name, query := range readAlarms(t).queries() {
		t.Run(name, func(t *testing.T) { queryFinds(t, query, lines) })
	}
}
