package tests_test

import (
	"flag"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

var chaosSets = flag.Int("chaos.sets", 600, "backup sets of the discovery's chaos test")

// deployDiscovery starts the stand-ins and an instance that discovers a plan, in which
// finished-1 and finished-2 are to be downloaded, and nothing else.
func deployDiscovery(t *testing.T, settings map[string]string) (*harness.Cloud, *harness.Instance) {
	t.Helper()
	all := harness.Discovery()
	for name, value := range settings {
		all[name] = value
	}
	cloud, instance := deploy(t, all)
	now := time.Now()
	end := now.Add(-time.Hour)
	for name, set := range map[string]dbs.Set{
		"finished-1":  {End: end},
		"finished-2":  {End: end, Expires: now.Add(48 * time.Hour)},
		"filling":     {Status: dbs.Filling},
		"expired":     {End: end, Expires: now.Add(-time.Minute)},
		"downloaded":  {End: end},
		"downloading": {End: end},
		"failed":      {End: end},
	} {
		set.JobID, set.Name, set.Start = "job", name, now.Add(-2*time.Hour)
		cloud.DBS.AddSet(harness.PlanID, set)
	}
	for name, status := range map[string]string{"downloaded": "finish", "downloading": "running", "failed": "stop"} {
		cloud.DBS.AddTask(harness.PlanID, dbs.ListedTask{JobID: "job", SetName: name, Status: status, Created: end})
	}
	return cloud, instance
}

// fireTimer fires the timer once.
func fireTimer(t *testing.T, cloud *harness.Cloud, text string) (harness.Discovered, summary, error) {
	t.Helper()
	answer, err := cloud.InvokeTimer(t.Context(), text)
	var found harness.Discovered
	if err == nil {
		found, err = harness.ReadDiscovered(answer.Payload)
		require.NoError(t, err)
	}
	return found, summary{answer: answer}, err
}

// From empty queues, without a message from anybody, to tasks and results.
func TestDiscovery_DownloadsWhatIsFinished(t *testing.T) {
	for name, arrange := range map[string]func(*dbs.Service){
		"as the samples have it":            func(*dbs.Service) {},
		"pages counted from 1, newest rows": func(s *dbs.Service) { s.FirstPage, s.Order = 1, dbs.NewestFirst },
	} {
		t.Run(name, func(t *testing.T) {
			cloud, _ := deployDiscovery(t, nil)
			arrange(cloud.DBS)
			found, _, err := fireTimer(t, cloud, "")
			require.NoError(t, err)
			require.Len(t, found.Plans, 1)
			plan := found.Plans[0]
			assert.Equal(t, []int{7, 2, 2, 1, 1, 1}, []int{plan.Listed, plan.Announced, plan.WithTask, plan.Incomplete,
				plan.Expired, plan.TaskFailed})
			_, _, err = cloud.Trigger(100).Drain(t.Context())
			require.NoError(t, err)

			var downloaded []string
			for _, task := range cloud.DBS.Tasks() {
				assert.Regexp(t, "^"+task.BackupSetID+"/"+task.BackupSetName+`@\d{13}$`, task.ClientToken, "with its StartTime")
				downloaded = append(downloaded, task.BackupSetName)
			}
			assert.ElementsMatch(t, []string{"finished-1", "finished-2"}, downloaded)
			results, err := cloud.Results()
			require.NoError(t, err)
			require.Len(t, results, 2)
			for _, r := range results {
				assert.Contains(t, downloaded, r.Data.BackupSetName)
				assert.NotEmpty(t, r.Data.TaskID)
			}

			found, _, err = fireTimer(t, cloud, "{}")
			require.NoError(t, err)
			assert.Zero(t, found.Plans[0].Announced)
			cloud.DBS.Complete("job", "filling")
			found, _, err = fireTimer(t, cloud, "")
			require.NoError(t, err)
			assert.Equal(t, 1, found.Plans[0].Announced)
		})
	}
}

// A person asks for one set whose download failed.
func TestDiscovery_ByHand(t *testing.T) {
	cloud, _ := deployDiscovery(t, nil)
	command := `{"Discover":{"BackupSetIds":["failed"],"RetryFailed":true,"DryRun":DRY}}`
	for dry, messages := range map[string]int{"true": 0, "false": 1} {
		before := len(cloud.MNS.Messages(harness.SourceQueue))
		answer, err := cloud.Invoke(t.Context(), []byte(strings.Replace(command, "DRY", dry, 1)))
		require.NoError(t, err)
		found, err := harness.ReadDiscovered(answer.Payload)
		require.NoError(t, err)
		assert.Equal(t, 1, found.Plans[0].Announced)
		assert.Len(t, cloud.MNS.Messages(harness.SourceQueue), before+messages)
	}
	_, _, err := cloud.Trigger(100).Drain(t.Context())
	require.NoError(t, err)
	require.Len(t, cloud.DBS.Tasks(), 1)
	assert.Equal(t, "failed", cloud.DBS.Tasks()[0].BackupSetName)

	_, err = cloud.Invoke(t.Context(), []byte(`{"Discover":{"Backups":[]}}`))
	assert.Contains(t, failure(t, err, "EventError"), "Backups")
}

// Without a plan, the timer's run does nothing, and says so.
func TestDiscovery_WithoutAPlanDoesNothing(t *testing.T) {
	cloud, instance := deploy(t, nil)
	found, s, err := fireTimer(t, cloud, "")
	require.NoError(t, err)
	assert.Empty(t, found.Plans)
	assert.Equal(t, 1, strings.Count(logOf(t, instance, s), `"level":"WARN"`))
	calls, _ := cloud.DBS.Calls("")
	assert.Zero(t, calls)
}

// More than a page of sets, of which some are finished later.
func TestDiscovery_DownloadsEveryFinishedSetOnce(t *testing.T) {
	const sets = 150
	cloud, _ := deploy(t, harness.Discovery())
	end := time.Now().Add(-2 * time.Hour)
	name := func(n int) string { return fmt.Sprintf("mysql-bin.%06d", n) }
	for n := range sets {
		cloud.DBS.AddSet(harness.PlanID, dbs.Set{JobID: "job", Name: name(n), Start: end.Add(-time.Hour), End: end})
	}
	cloud.DBS.AddTask(harness.PlanID, dbs.ListedTask{JobID: "job", SetName: name(7), Status: "finish"})
	cloud.DBS.AddTask(harness.PlanID, dbs.ListedTask{JobID: "job", SetName: name(8), Status: "stop"})
	found, _, err := fireTimer(t, cloud, "")
	require.NoError(t, err)
	assert.Equal(t, sets-2, found.Plans[0].Announced)
	assert.Empty(t, cloud.DBS.Tasks(), "announced, not downloaded")
	_, _, err = cloud.Trigger(100).Drain(t.Context())
	require.NoError(t, err)
	tasks := make(map[string]int)
	for _, task := range cloud.DBS.Tasks() {
		tasks[task.BackupSetName]++
	}
	assert.Len(t, tasks, sets-2)
	assert.Len(t, cloud.DBS.Tasks(), sets-2)
	assert.NotContains(t, tasks, name(7))
	assert.NotContains(t, tasks, name(8))

	// What became of one set?
	answer, err := cloud.Invoke(t.Context(), []byte(`{"Discover":{"BackupSetIds":["mysql-bin.000058"],"DryRun":true}}`))
	require.NoError(t, err)
	found, err = harness.ReadDiscovered(answer.Payload)
	require.NoError(t, err)
	require.Len(t, found.Plans[0].Sets, 1)
	assert.Equal(t, "withTask", found.Plans[0].Sets[0].State)
	assert.NotEmpty(t, found.Plans[0].Sets[0].TaskID)
}

// A plan whose lists cannot be read is left alone, and the others go on.
func TestDiscovery_OnePlanDoesNotHoldUpTheOthers(t *testing.T) {
	cloud, _ := deployDiscovery(t, map[string]string{"BACKUP_PLAN_IDS": "unknown," + harness.PlanID + ",slow"})
	cloud.Timeout = 5 * time.Second
	require.NoError(t, cloud.Runtime.AskedForWork(t.Context(), 1))
	cloud.DBS.AddSet("slow", dbs.Set{JobID: "slow", Name: "never-listed", Start: time.Now(), End: time.Now()})
	cloud.DBSFaults.SetPlan(standin.Choose(
		func(r *http.Request) bool { return strings.Contains(r.URL.RawQuery, "slow") },
		standin.Always(standin.Fault{Kind: standin.Hang})))
	_, _, err := fireTimer(t, cloud, "")
	message := failure(t, err, "DiscoveryError")
	assert.Contains(t, message, "2 of 3 backup plans")
	assert.Contains(t, message, "unknown")
	assert.Contains(t, message, "slow")
	assert.Len(t, cloud.MNS.Messages(harness.SourceQueue), 2)
}

// A download link gives access to the backup.
func TestDiscovery_LeaksNoDownloadLink(t *testing.T) {
	cloud, instance := deployDiscovery(t, map[string]string{"LOG_LEVEL": "debug"})
	_, s, err := fireTimer(t, cloud, "")
	require.NoError(t, err)
	written := []string{string(s.answer.Payload)}
	for _, m := range cloud.MNS.Messages(harness.SourceQueue) {
		written = append(written, m.Body)
	}
	require.Len(t, written, 3)
	// Lists that are cut off, mangled or refused are quoted in errors.
	cloud.Timeout = 2 * time.Second
	for seed := range uint64(5) {
		cloud.DBSFaults.SetPlan(standin.Randomly(0.9, seed, harness.Faults()))
		_, bad, err := fireTimer(t, cloud, "")
		s = bad
		if err != nil {
			written = append(written, err.Error())
		}
	}
	for _, text := range append(written, logOf(t, instance, s)) {
		assert.NotContains(t, text, dbs.URLSecret)
	}
}

// With BACKUP_PLAN_IDS all, a run takes the plans of the region that have begun and back
// up incrementally, one that was added since the last run too.
func TestDiscovery_AllPlansOfTheRegion(t *testing.T) {
	cloud, _ := deploy(t, map[string]string{"BACKUP_PLAN_IDS": "all", "SOURCE_QUEUE": harness.SourceQueue})
	add := func(plan dbs.Plan) {
		cloud.DBS.SetPlan(plan)
		cloud.DBS.AddSet(plan.ID, dbs.Set{JobID: "job-" + plan.ID, Name: "mysql-bin.000048", Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour)})
	}
	for _, plan := range []dbs.Plan{
		{ID: "running"}, {ID: "paused", Status: "pause"}, {ID: "locked", Status: "locked"},
		{ID: "waiting", Status: "wait"}, {ID: "failed", Status: "init"}, {ID: "checked", Status: "check_pass"},
		{ID: "full", OnlyFull: true}, {ID: "elsewhere", Region: "eu-central-1"},
	} {
		add(plan)
	}
	plans := func() (ids []string) {
		found, _, err := fireTimer(t, cloud, "")
		require.NoError(t, err)
		for _, plan := range found.Plans {
			assert.Equal(t, 1, plan.Listed, plan.BackupPlanID)
			ids = append(ids, plan.BackupPlanID)
		}
		return ids
	}
	assert.ElementsMatch(t, []string{"running", "paused", "locked"}, plans())
	assert.Len(t, cloud.MNS.Messages(harness.SourceQueue), 3)
	add(dbs.Plan{ID: "new"})
	assert.ElementsMatch(t, []string{"running", "paused", "locked", "new"}, plans())
}

// Calls fail and the process is killed while sets appear, fill and expire. In the end
// every finished set has exactly one task.
func TestDiscovery_Chaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	sets := *chaosSets
	if harness.RaceEnabled() {
		sets /= 4
	}
	t.Logf("replay with: go test ./tests -v -run TestDiscovery_Chaos -chaos.seed %d -chaos.sets %d", seed, *chaosSets)
	cloud, instance := deploy(t, harness.Discovery())
	cloud.Timeout = 3 * time.Second
	report, err := harness.Scenario{Events: sets, Seed: seed, Mixed: true, FaultRate: 0.2, Kills: true, Discovery: true}.
		Run(t.Context(), cloud, instance)
	t.Log(report)
	require.NoError(t, err)
	assert.Empty(t, report.Violations)
	assert.Equal(t, report.Events, report.Created+report.Failed+report.Left)
	assert.Positive(t, report.Kills)
	assert.Positive(t, report.Faults)
	assert.Positive(t, report.Announced)
}
