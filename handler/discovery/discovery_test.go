package discovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/discovery"
)

func TestDiscover_AnnouncesWhatHasNoTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{finished(58, time.Hour), finished(57, 2*time.Hour), finished(56, 3*time.Hour)}
		plan.tasks = []discovery.DownloadTask{taskOf(plan.sets[1], "task-57", "running")}

		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, []string{"mysql-bin.000056", "mysql-bin.000058"}, d.source.announced(t), "the oldest first")
		assert.JSONEq(t, `{"specversion":"1.0","id":"1hv5g9wk0001/mysql-bin.000056@946670400000",
			"source":"acs:dbs:cn-hangzhou:1234567890123456:backupplan/dbsqdss5tmh0001","type":"dbs:IncrementBackupSet:Completed",
			"subject":"mysql-bin.000056","time":"2000-01-01T00:00:00.000Z","datacontenttype":"application/json",
			"data":{"BackupSetJobId":"1hv5g9wk0001","BackupSetId":"mysql-bin.000056","BackupStatus":"COMPLETED",
			"StartTime":946670400000,"EndTime":946674000000,"BackupSetExpiredTime":950284800000,"BackupSize":18535,
			"StorageMethod":"Standard"}}`, d.source.sent[0])

		text, err := json.Marshal(answer)
		require.NoError(t, err)
		assert.JSONEq(t, `{"dryRun":false,"plans":[{"BackupPlanId":"dbsqdss5tmh0001","listed":3,"withTask":1,"incomplete":0,
			"expired":0,"beforeLookback":0,"taskFailed":0,"announced":2,"heldBack":0,"downloaded":0,
			"oldestDownloadMinutes":30,"sets":[
			{"state":"announced","BackupSetJobId":"1hv5g9wk0001","BackupSetId":"mysql-bin.000058"},
			{"state":"announced","BackupSetJobId":"1hv5g9wk0001","BackupSetId":"mysql-bin.000056"},
			{"state":"withTask","BackupSetJobId":"1hv5g9wk0001","BackupSetId":"mysql-bin.000057",
			 "BackupSetDownloadTaskId":"task-57","BackupSetDownloadStatus":"running","taskAgeMinutes":30}]}]}`, string(text))
	})
}

func TestDiscover_FindsNothingAfterItsAnnouncementsAreDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		for i := range 250 {
			d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Hour))
		}
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, 250, answer.Plans[0].Announced)
		require.NoError(t, d.deliver(t))
		assert.Len(t, d.dbs.tokens, 250)
		assert.Len(t, d.results.sent, 250)

		answer, err = d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, 250, answer.Plans[0].WithTask)
		assert.Len(t, d.source.sent, 250, "none more")
	})
}

func TestDiscover_AsksForTheLookbackAndMore(t *testing.T) {
	for name, c := range map[string]struct {
		command  events.Discover
		setting  int
		lookback time.Duration
	}{
		"by default":               {lookback: 72 * time.Hour},
		"as set":                   {setting: 24, lookback: 24 * time.Hour},
		"as asked for":             {setting: 24, command: events.Discover{LookbackHours: 100}, lookback: 100 * time.Hour},
		"for sets by name":         {setting: 24, command: events.Discover{BackupSetIDs: []string{"x"}}, lookback: 43_800 * time.Hour},
		"for sets, as asked for":   {command: events.Discover{BackupSetIDs: []string{"x"}, LookbackHours: 5}, lookback: 5 * time.Hour},
		"the longest":              {command: events.Discover{LookbackHours: 43_800}, lookback: 43_800 * time.Hour},
		"the shortest, in dry run": {command: events.Discover{LookbackHours: 1, DryRun: true}, lookback: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(config *handler.Config) { config.LookbackHours = c.setting })
				_, err := d.run(t, c.command)
				require.NoError(t, err)
				require.Len(t, d.dbs.callsOf(listSets, planA), 1)
				query := d.dbs.callsOf(listSets, planA)[0].query
				assert.Equal(t, time.Now().Add(-c.lookback-720*time.Hour), query.Start)
				assert.Equal(t, time.Now().Add(time.Hour), query.End)
			})
		})
	}
}

// A task that is made while the sets are read must be seen.
func TestDiscover_ReadsAllSetsBeforeTheTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		for i := range 950 {
			plan.sets = append(plan.sets, finished(i, time.Hour))
		}
		var reading atomic.Int64
		d.dbs.before = func(_ context.Context, call listCall) error {
			if call.operation == listTasks {
				assert.Zero(t, reading.Load(), "all pages of sets are read")
				return nil
			}
			reading.Add(1)
			time.Sleep(time.Second)
			d.dbs.mu.Lock()
			if call.pageNum == 9 {
				plan.tasks = []discovery.DownloadTask{taskOf(plan.sets[7], "made meanwhile", "checking")}
			}
			d.dbs.mu.Unlock()
			reading.Add(-1)
			return nil
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Len(t, d.source.sent, 949)
		assert.NotContains(t, d.source.announced(t), "mysql-bin.000007")
	})
}

func TestDiscover_DecidesTheStateOfEachSet(t *testing.T) {
	all := map[string]struct {
		set    func(*discovery.BackupSet)
		status string // of its task
		want   string
	}{
		"finished":                      {nil, "", "announced"},
		"in lower case":                 {func(s *discovery.BackupSet) { s.BackupStatus = " completed\n" }, "", "announced"},
		"not started":                   {func(s *discovery.BackupSet) { s.BackupStatus = "INIT" }, "", "incomplete"},
		"filling":                       {func(s *discovery.BackupSet) { s.BackupStatus = "FILLING" }, "", "incomplete"},
		"uncompleted":                   {func(s *discovery.BackupSet) { s.BackupStatus = "UNCOMPLETED" }, "", "incomplete"},
		"of a status not known":         {func(s *discovery.BackupSet) { s.BackupStatus = "ARCHIVING" }, "", "incomplete"},
		"without a status":              {func(s *discovery.BackupSet) { s.BackupStatus = "" }, "", "incomplete"},
		"without BackupSetJobId":        {func(s *discovery.BackupSet) { s.BackupSetJobID = "" }, "", "incomplete"},
		"without BackupSetId":           {func(s *discovery.BackupSet) { s.BackupSetID = "" }, "", "incomplete"},
		"of an endless name":            {func(s *discovery.BackupSet) { s.BackupSetID = strings.Repeat("x", 2000) }, "", "incomplete"},
		"expired":                       {func(s *discovery.BackupSet) { s.ExpiredTime = time.Now().Add(-time.Hour) }, "", "expired"},
		"expiring within the hour":      {func(s *discovery.BackupSet) { s.ExpiredTime = time.Now().Add(time.Hour) }, "", "expired"},
		"expiring after the hour":       {func(s *discovery.BackupSet) { s.ExpiredTime = time.Now().Add(61 * time.Minute) }, "", "announced"},
		"never expiring":                {func(s *discovery.BackupSet) { s.ExpiredTime = time.Time{} }, "", "announced"},
		"never expiring, as 0":          {func(s *discovery.BackupSet) { s.ExpiredTime = time.UnixMilli(0) }, "", "announced"},
		"ended before the lookback":     {func(s *discovery.BackupSet) { s.EndTime = time.Now().Add(-72*time.Hour - 1) }, "", "beforeLookback"},
		"ended just in the lookback":    {func(s *discovery.BackupSet) { s.EndTime = time.Now().Add(-72 * time.Hour) }, "", "announced"},
		"filled for weeks":              {func(s *discovery.BackupSet) { s.StartTime = time.Now().Add(-28 * 24 * time.Hour) }, "", "announced"},
		"without an EndTime":            {func(s *discovery.BackupSet) { s.EndTime = time.Time{} }, "", "announced"},
		"with a task":                   {nil, "finish", "withTask"},
		"with a failed task":            {nil, "stop", "taskFailed"},
		"with a task that never began":  {nil, "init", "taskFailed"},
		"with a failed task, odd case":  {nil, " STOP ", "taskFailed"},
		"with a task, unfinished":       {func(s *discovery.BackupSet) { s.BackupStatus = "FILLING" }, "running", "withTask"},
		"with a task, expired":          {func(s *discovery.BackupSet) { s.ExpiredTime = time.Now() }, "finish", "withTask"},
		"incomplete and expired":        {func(s *discovery.BackupSet) { s.BackupStatus = "INIT"; s.ExpiredTime = time.Now() }, "", "incomplete"},
		"expired before the lookback":   {func(s *discovery.BackupSet) { s.EndTime = time.UnixMilli(1); s.ExpiredTime = time.Now() }, "", "expired"},
		"failed, expired":               {func(s *discovery.BackupSet) { s.ExpiredTime = time.Now() }, "stop", "expired"},
		"failed, before the lookback":   {func(s *discovery.BackupSet) { s.EndTime = time.UnixMilli(1) }, "stop", "beforeLookback"},
		"unfinished before a lookback":  {func(s *discovery.BackupSet) { s.BackupStatus = "INIT"; s.EndTime = time.UnixMilli(1) }, "", "incomplete"},
		"with a task of unknown status": {nil, "resting", "withTask"},
	}
	for name, c := range all {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				plan.sets = []discovery.BackupSet{backupSet(c.set)}
				if c.status != "" {
					plan.tasks = []discovery.DownloadTask{taskOf(plan.sets[0], "task", c.status)}
				}
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, map[string]int{c.want: 1}, counts(t, answer.Plans[0]))
				require.Len(t, answer.Plans[0].Sets, 1)
				assert.Equal(t, c.want, answer.Plans[0].Sets[0].State)
				assert.Equal(t, c.want == "announced", len(d.source.sent) == 1)
			})
		})
	}
}

// counts returns the counts of a report that are not 0, except listed, and checks
// that they add up to it.
func counts(t testing.TB, report discovery.PlanReport) map[string]int {
	t.Helper()
	counts := map[string]int{"withTask": report.WithTask, "incomplete": report.Incomplete, "expired": report.Expired,
		"beforeLookback": report.BeforeLookback, "taskFailed": report.TaskFailed,
		"announced": report.Announced, "heldBack": report.HeldBack}
	sum := 0
	for state, n := range counts {
		sum += n
		if n == 0 {
			delete(counts, state)
		}
	}
	require.Equal(t, report.Listed, sum, "the counts add up")
	return counts
}

func TestDiscover_JoinsTasksToSets(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*discovery.DownloadTask)
		has    bool
	}{
		"of the same job and file":   {func(*discovery.DownloadTask) {}, true},
		"without a status":           {func(task *discovery.DownloadTask) { task.Status = "" }, true},
		"without a BackupSetJobType": {func(task *discovery.DownloadTask) { task.JobType = "" }, true},
		"without a time":             {func(task *discovery.DownloadTask) { task.CreateTime = time.Time{} }, true},
		"of another type":            {func(task *discovery.DownloadTask) { task.JobType = "cbs_backup_sub_full" }, true},
		"made when the set started":  {func(task *discovery.DownloadTask) { task.CreateTime = time.Now().Add(-2 * time.Hour) }, true},
		"made before the set started": {func(task *discovery.DownloadTask) {
			task.CreateTime = time.Now().Add(-2*time.Hour - time.Millisecond)
		}, false},
		"of another job":               {func(task *discovery.DownloadTask) { task.BackupSetID = "1hv5g9wk0002" }, false},
		"of another file":              {func(task *discovery.DownloadTask) { task.BackupSetCode = "mysql-bin.000002" }, false},
		"of another file, in odd case": {func(task *discovery.DownloadTask) { task.BackupSetCode = "MYSQL-BIN.000001" }, false},
		"with job and file interchanged": {func(task *discovery.DownloadTask) {
			task.BackupSetID, task.BackupSetCode = task.BackupSetCode, task.BackupSetID
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				plan.sets = []discovery.BackupSet{backupSet(nil)}
				task := taskOf(plan.sets[0], "task", "running")
				c.change(&task)
				plan.tasks = []discovery.DownloadTask{task}
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, c.has, answer.Plans[0].WithTask == 1)
				assert.Equal(t, !c.has, len(d.source.sent) == 1)
			})
		})
	}
}

func TestDiscover_AFailedDownloadIsNamedAndTriedAgainIfAsked(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []string // of the set's tasks, the oldest first
		command  events.Discover
		id       string // what is added to the usual id
		warned   int
	}{
		"not asked for":           {[]string{"stop"}, events.Discover{}, "", 1},
		"asked for":               {[]string{"stop"}, events.Discover{RetryFailed: true}, "#task-0", 1},
		"again, after the newest": {[]string{"stop", "init"}, events.Discover{RetryFailed: true}, "#task-1", 1},
		"three times":             {[]string{"stop", "init", "stop"}, events.Discover{RetryFailed: true}, "", 1},
		"three times, but named": {[]string{"stop", "stop", "stop"},
			events.Discover{RetryFailed: true, BackupSetIDs: []string{"mysql-bin.000001"}}, "#task-2", 1},
		"named, but not asked for":       {[]string{"stop"}, events.Discover{BackupSetIDs: []string{"mysql-bin.000001"}}, "", 1},
		"failed before another":          {[]string{"stop", "running"}, events.Discover{RetryFailed: true}, "", 0},
		"failed after another succeeded": {[]string{"finish", "stop"}, events.Discover{RetryFailed: true}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				plan := d.plan(planA)
				plan.sets = []discovery.BackupSet{backupSet(nil)}
				for i, status := range c.statuses {
					task := taskOf(plan.sets[0], fmt.Sprintf("task-%d", i), status)
					task.CreateTime = task.CreateTime.Add(time.Duration(i) * time.Second)
					plan.tasks = append([]discovery.DownloadTask{task}, plan.tasks...)
				}
				for range 2 {
					d.log.Reset()
					d.source.sent = nil
					_, err := d.run(t, c.command)
					require.NoError(t, err)
					require.Len(t, d.lines("WARN"), c.warned, "at every run")
					for _, line := range d.lines("WARN") {
						assert.Contains(t, line, fmt.Sprintf(`"taskId":"task-%d"`, len(c.statuses)-1))
						assert.Contains(t, line, `"backupSetName":"mysql-bin.000001"`)
					}
					if c.id == "" {
						assert.Empty(t, d.source.sent)
						continue
					}
					require.Len(t, d.source.sent, 1)
					assert.Contains(t, d.source.sent[0],
						fmt.Sprintf(`"id":"1hv5g9wk0001/mysql-bin.000001@%d%s"`, plan.sets[0].StartTime.UnixMilli(), c.id))
				}
			})
		})
	}
}

// The precheck of a task that was made just now may be about to pass.
func TestDiscover_AYoungTaskInInitHasNotFailed(t *testing.T) {
	for age, announced := range map[time.Duration]int{9 * time.Minute: 0, 11 * time.Minute: 1} {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			plan := d.plan(planA)
			plan.sets = []discovery.BackupSet{backupSet(nil)}
			task := taskOf(plan.sets[0], "task-1", "init")
			task.CreateTime = time.Now().Add(-age)
			plan.tasks = []discovery.DownloadTask{task}
			answer, err := d.run(t, events.Discover{RetryFailed: true})
			require.NoError(t, err)
			assert.Equal(t, announced, answer.Plans[0].Announced)
			assert.Equal(t, 1-announced, answer.Plans[0].WithTask)
		})
	}
}

// A task that shifts to the next page is listed twice, but has failed only once.
func TestDiscover_CountsAFailedDownloadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{backupSet(nil)}
		first, second := taskOf(plan.sets[0], "task-1", "stop"), taskOf(plan.sets[0], "task-2", "stop")
		plan.tasks = []discovery.DownloadTask{first, second, first, second}
		d.dbs.cut = func(_ listCall, page *fakePage) { page.totals.Elements = min(page.totals.Elements, 2) }
		_, err := d.run(t, events.Discover{RetryFailed: true})
		require.NoError(t, err)
		assert.Len(t, d.source.sent, 1, "two failures are not three")
	})
}

func TestDiscover_ReportsTheTaskThatCounts(t *testing.T) {
	for name, c := range map[string]struct {
		statuses []string // the oldest first
		want     string
	}{
		"the one that has not failed, made first": {[]string{"finish", "stop"}, "task-0"},
		"the one that has not failed, made last":  {[]string{"stop", "finish"}, "task-1"},
		"the newest of those":                     {[]string{"running", "stop", "finish"}, "task-2"},
		"the newest of the failed ones":           {[]string{"init", "stop"}, "task-1"},
	} {
		for _, newestFirst := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, newest first %t", name, newestFirst), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := deploy(nil)
					plan := d.plan(planA)
					plan.sets = []discovery.BackupSet{backupSet(nil)}
					for i, status := range c.statuses {
						task := taskOf(plan.sets[0], fmt.Sprintf("task-%d", i), status)
						task.CreateTime = task.CreateTime.Add(time.Duration(i) * time.Second)
						plan.tasks = append(plan.tasks, task)
					}
					if newestFirst {
						slices.Reverse(plan.tasks)
					}
					answer, err := d.run(t, events.Discover{})
					require.NoError(t, err)
					assert.Equal(t, c.want, answer.Plans[0].Sets[0].BackupSetDownloadTaskID)
				})
			})
		}
	}
}

// The other pages of a list that lacks one are of no use.
func TestDiscover_GivesUpAListAsSoonAsAPageFailsForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		for i := range 1000 {
			d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Hour))
		}
		d.dbs.before = func(ctx context.Context, call listCall) error {
			switch call.pageNum {
			case 0, 1:
				return nil
			case 2:
				time.Sleep(time.Second)
				return operatorFault("Request.Forbidden")
			}
			<-ctx.Done()
			return ctx.Err()
		}
		started := time.Now()
		_, err := d.run(t, events.Discover{})
		require.ErrorContains(t, err, "Request.Forbidden")
		assert.Equal(t, time.Second, time.Since(started))
	})
}

func TestDiscover_ATriedDownloadIsANewTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{backupSet(nil)}
		for range 2 {
			_, err := d.run(t, events.Discover{})
			require.NoError(t, err)
			require.NoError(t, d.deliver(t))
		}
		require.Len(t, plan.tasks, 1)
		plan.tasks[0].Status = "stop"
		for range 2 {
			_, err := d.run(t, events.Discover{RetryFailed: true})
			require.NoError(t, err)
			require.NoError(t, d.deliver(t))
		}
		assert.Len(t, plan.tasks, 2)
	})
}

// faulty describes a list that cannot be had whole.
type faulty struct {
	before    func(ctx context.Context, call listCall) error
	cut       func(call listCall, page *fakePage)
	operation string
	contains  []string
	level     string
}

func refuse(operation string, err error) func(context.Context, listCall) error {
	return func(_ context.Context, call listCall) error {
		if call.operation == operation && call.plan == planA {
			return err
		}
		return nil
	}
}

func TestDiscover_AnnouncesNothingFromHalfAList(t *testing.T) {
	for name, c := range map[string]faulty{
		"sets forbidden": {before: refuse(listSets, operatorFault("Request.Forbidden")), operation: listSets,
			contains: []string{"Request.Forbidden", "Fix: grant what is missing"}, level: "ERROR"},
		"tasks forbidden": {before: refuse(listTasks, operatorFault("Request.Forbidden")), operation: listTasks,
			contains: []string{"Request.Forbidden", "Fix: grant what is missing"}, level: "ERROR"},
		"an unknown plan": {before: refuse(listSets, permanent("InvalidParameterValid")), operation: listSets,
			contains: []string{"InvalidParameterValid"}, level: "ERROR"},
		"a service out of order": {before: refuse(listTasks, transient("InternalError")), operation: listTasks,
			contains: []string{"InternalError"}, level: "WARN"},
		"one page of sets missing": {operation: listSets, before: func(_ context.Context, call listCall) error {
			if call.plan == planA && call.operation == listSets && call.pageNum == 2 {
				return permanent("InvalidParameter")
			}
			return nil
		}, contains: []string{"InvalidParameter"}, level: "ERROR"},
		"one page of tasks missing": {operation: listTasks, before: func(_ context.Context, call listCall) error {
			if call.plan == planA && call.operation == listTasks && call.pageNum == 2 {
				return transient("ServiceUnavailable")
			}
			return nil
		}, contains: []string{"ServiceUnavailable"}, level: "WARN"},
		"a page of tasks cut short": {operation: listTasks, cut: func(call listCall, page *fakePage) {
			if call.plan == planA && call.operation == listTasks && call.pageNum == 1 {
				page.tasks = page.tasks[:90]
			}
		}, contains: []string{"240 of 250"}, level: "WARN"},
		"rows of a list that is said to be empty": {operation: listTasks, cut: func(call listCall, page *fakePage) {
			if call.plan == planA && call.operation == listTasks {
				page.totals.Pages, page.totals.Elements = 0, 0
			}
		}, contains: []string{"UnexpectedAnswer"}, level: "WARN"},
		"a list of more pages than rows": {operation: listTasks, cut: func(call listCall, page *fakePage) {
			if call.plan == planA && call.operation == listTasks {
				page.totals.Pages = 1 << 30
			}
		}, contains: []string{"UnexpectedAnswer"}, level: "WARN"},
		"tasks whose code is their ID": {operation: listTasks, cut: func(call listCall, page *fakePage) {
			for i := range page.tasks {
				if call.plan == planA {
					page.tasks[i].BackupSetCode = page.tasks[i].BackupSetID
				}
			}
		}, contains: []string{"BackupSetCode"}, level: "ERROR"},
		"tasks without a code": {operation: listTasks, cut: func(call listCall, page *fakePage) {
			for i := range page.tasks {
				if call.plan == planA {
					page.tasks[i].BackupSetCode = ""
				}
			}
		}, contains: []string{"BackupSetCode"}, level: "ERROR"},
		"a hanging service": {operation: listTasks, before: func(ctx context.Context, call listCall) error {
			if call.plan != planA || call.operation != listTasks {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}, level: "WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(config *handler.Config) { config.BackupPlanIDs = []string{planA, planB} })
				for i := range 260 {
					set := finished(i, time.Hour)
					d.plan(planA).sets = append(d.plan(planA).sets, set)
					if i < 250 {
						d.plan(planA).tasks = append(d.plan(planA).tasks, taskOf(set, fmt.Sprintf("task-%d", i), "finish"))
					}
				}
				d.plan(planB).sets = []discovery.BackupSet{finished(1000, time.Hour)}
				d.dbs.before, d.dbs.cut = c.before, c.cut

				answer, err := d.run(t, events.Discover{})
				var failed *discovery.DiscoveryError
				require.ErrorAs(t, err, &failed)
				require.Len(t, failed.Failures, 1)
				assert.Equal(t, planA, failed.Failures[0].BackupPlanID)
				assert.Equal(t, c.operation, failed.Failures[0].Operation)
				for _, part := range append(c.contains, planA, c.operation) {
					assert.Contains(t, err.Error(), part)
				}
				assert.LessOrEqual(t, len(err.Error()), 1000)
				assert.Equal(t, []string{"mysql-bin.001000"}, d.source.announced(t), "the other plan goes on")
				assert.NotEmpty(t, answer.Plans[0].Error)
				assert.Empty(t, counts(t, answer.Plans[0]))
				assert.Equal(t, 1, answer.Plans[1].Announced)
				assert.Contains(t, strings.Join(d.lines(c.level), ""), c.operation)
			})
		})
	}
}

func TestDiscover_ReadsPagesCountedFromZeroOrOne(t *testing.T) {
	for name, c := range map[string]struct {
		fromOne     bool
		sets, tasks int
		calls       int
	}{
		"nothing":                {false, 0, 0, 2},
		"nothing, from 1":        {true, 0, 0, 2},
		"one page":               {false, 100, 50, 2},
		"one page, from 1":       {true, 100, 50, 2},
		"two pages":              {false, 101, 101, 4},
		"two pages, from 1":      {true, 101, 101, 7},
		"many pages":             {false, 950, 475, 16},
		"many pages, from 1":     {true, 950, 475, 18},
		"just full pages":        {false, 1000, 1000, 21},
		"just full pages from 1": {true, 1000, 1000, 23},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.dbs.countsFromOne = c.fromOne
				plan := d.plan(planA)
				for i := range c.sets {
					plan.sets = append(plan.sets, finished(i, time.Hour))
				}
				for i := range c.tasks {
					plan.tasks = append(plan.tasks, taskOf(plan.sets[i], fmt.Sprintf("task-%d", i), "finish"))
				}
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, c.sets, answer.Plans[0].Listed)
				assert.Equal(t, c.tasks, answer.Plans[0].WithTask)
				assert.Equal(t, c.sets-c.tasks, answer.Plans[0].Announced)
				assert.Len(t, d.dbs.calls, c.calls, "no page without need, and the last one of tasks twice")
			})
		})
	}
}

// Pages shift while they are read if sets and tasks are added or deleted.
func TestDiscover_PagesThatShift(t *testing.T) {
	for name, c := range map[string]struct {
		shift     func(plan *fakeDBSPlan, reads int) // after page 0 of the tasks
		err       string
		announced int
	}{
		"a task is added in front": {shift: func(plan *fakeDBSPlan, _ int) {
			task := taskOf(plan.sets[299], "new", "checking")
			plan.tasks = append([]discovery.DownloadTask{task}, plan.tasks...)
		}, announced: 50},
		"a task is deleted, once": {shift: func(plan *fakeDBSPlan, reads int) {
			if reads == 1 {
				plan.tasks = plan.tasks[1:]
			}
		}, announced: 51},
		"a task is deleted at each read": {shift: func(plan *fakeDBSPlan, _ int) {
			plan.tasks = plan.tasks[1:]
		}, err: "248 of 249 download tasks"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(config *handler.Config) { config.Concurrency = 1 })
				plan := d.plan(planA)
				for i := range 300 {
					plan.sets = append(plan.sets, finished(i, time.Hour))
				}
				for i := range 250 {
					plan.tasks = append(plan.tasks, taskOf(plan.sets[i], fmt.Sprintf("task-%d", i), "finish"))
				}
				reads := 0
				d.dbs.cut = func(call listCall, _ *fakePage) {
					if call.operation == listTasks && call.pageNum == 0 {
						reads++
						c.shift(plan, reads)
					}
				}
				_, err := d.run(t, events.Discover{})
				assert.Len(t, d.source.sent, c.announced)
				if c.err == "" {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, c.err)
				assert.Equal(t, 2, reads, "once more, and no further")
			})
		})
	}
}

func TestDiscover_SetsThatAreMissingAreFoundByTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		for i := range 150 {
			d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Hour))
		}
		d.dbs.cut = func(call listCall, page *fakePage) {
			if call.operation == listSets && call.pageNum == 0 {
				page.sets = page.sets[:90]
			}
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Len(t, d.source.sent, 140)
		require.NoError(t, d.deliver(t))
		d.dbs.cut = nil
		_, err = d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Len(t, d.source.sent, 150)
	})
}

func TestDiscover_DropsRepeatsByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		filling := backupSet(func(s *discovery.BackupSet) { s.BackupStatus = "FILLING" })
		d.plan(planA).sets = []discovery.BackupSet{filling, backupSet(nil), filling, backupSet(nil)}
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, map[string]int{"announced": 1}, counts(t, answer.Plans[0]), "the one that was completed meanwhile")
		assert.Len(t, d.source.sent, 1)
	})
}

func TestDiscover_ASetNameThatIsUsedAgainIsReported(t *testing.T) {
	older := func(s *discovery.BackupSet) {
		s.StartTime, s.EndTime = s.StartTime.Add(-100*time.Hour), s.EndTime.Add(-100*time.Hour)
	}
	for name, changes := range map[string][]func(*discovery.BackupSet){
		"the older one first": {older, nil},
		"the newer one first": {nil, older},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.plan(planA).sets = []discovery.BackupSet{backupSet(changes[0]), backupSet(changes[1])}
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, map[string]int{"announced": 1}, counts(t, answer.Plans[0]), "the newer one counts")
				require.Len(t, d.lines("WARN"), 1)
				assert.Contains(t, d.lines("WARN")[0], jobID+"/mysql-bin.000001")
			})
		})
	}
}

func TestDiscover_TheSourceQueueIsABrake(t *testing.T) {
	for name, c := range map[string]struct {
		held, sets          int
		announced, heldBack int
		warns               int
	}{
		"room for all":  {9_990, 10, 10, 0, 0},
		"room for some": {9_990, 12, 10, 2, 1},
		"no room":       {10_000, 3, 0, 3, 1},
		"overfull":      {20_000, 3, 0, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.source.held = c.held
				for i := range c.sets {
					d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Duration(100-i)*time.Minute))
				}
				answer, err := d.run(t, events.Discover{})
				require.NoError(t, err, "the next run does the rest")
				assert.Equal(t, c.announced, answer.Plans[0].Announced)
				assert.Equal(t, c.heldBack, answer.Plans[0].HeldBack)
				assert.Len(t, d.lines("WARN"), c.warns)
				assert.Len(t, d.source.sent, c.announced)
				for i, id := range d.source.announced(t) {
					assert.Equal(t, fmt.Sprintf("mysql-bin.%06d", i), id, "the oldest first")
				}
			})
		})
	}
}

func TestDiscover_AsksForTheDepthOnceInARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plans := []string{planA, planB, "dbsqdss5tmh0003"}
		d := deploy(func(config *handler.Config) { config.BackupPlanIDs = plans })
		d.source.held = 9_995
		for i, id := range plans {
			for n := range 3 {
				d.plan(id).sets = append(d.plan(id).sets, finished(10*i+n, time.Hour))
			}
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, 1, d.source.asked)
		assert.Len(t, d.source.sent, 5, "of all plans together")
	})
}

func TestDiscover_AnnouncesNothingIfTheDepthCannotBeHad(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		contains string
	}{
		"forbidden":    {mnsError(cloud.OperatorFault, "AccessDenied", 403), "Fix: grant what is missing"},
		"out of order": {transient("InternalServerError"), "InternalServerError"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.plan(planA).sets = []discovery.BackupSet{backupSet(nil)}
				d.source.depth = func(context.Context) error { return c.err }
				answer, err := d.run(t, events.Discover{})
				var failed *discovery.DiscoveryError
				require.ErrorAs(t, err, &failed)
				assert.Contains(t, err.Error(), c.contains)
				assert.Contains(t, err.Error(), "GetQueueAttributes")
				assert.Empty(t, d.source.sent)
				assert.Equal(t, map[string]int{"heldBack": 1}, counts(t, answer.Plans[0]))
			})
		})
	}
}

func TestDiscover_SendsFullBatchesOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		for i := range 40 {
			set := finished(i, time.Duration(100-i)*time.Minute)
			plan.sets = append(plan.sets, set)
		}
		var sending atomic.Int64
		d.source.before = func(context.Context) error {
			assert.EqualValues(t, 1, sending.Add(1))
			time.Sleep(10 * time.Millisecond)
			sending.Add(-1)
			return nil
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		var sizes []int
		for _, bodies := range d.source.batches {
			sizes = append(sizes, len(bodies))
		}
		assert.Equal(t, []int{16, 16, 8}, sizes)
	})
}

func TestDiscover_ASourceQueueThatRefusesFailsTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		before    func(context.Context) error
		refuse    func(string) error
		announced int
		contains  []string
		level     string
	}{
		"forbidden": {before: func(context.Context) error {
			return mnsError(cloud.OperatorFault, "AccessDenied", 403)
		}, contains: []string{"BatchSendMessage", "Fix: grant what is missing", "AccessDenied"}, level: "ERROR"},
		"out of order": {before: func(context.Context) error { return transient("InternalServerError") },
			contains: []string{"InternalServerError"}, level: "WARN"},
		"hanging": {before: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, level: "WARN"},
		"one message refused": {refuse: func(body string) error {
			if strings.Contains(body, "mysql-bin.000003") {
				return permanent("MalformedXML")
			}
			return nil
		}, announced: 39, contains: []string{"MalformedXML"}, level: "ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				for i := range 40 {
					d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Hour))
				}
				d.source.before, d.source.refuse = c.before, c.refuse
				answer, err := d.run(t, events.Discover{})
				var failed *discovery.DiscoveryError
				require.ErrorAs(t, err, &failed)
				for _, part := range append(c.contains, planA) {
					assert.Contains(t, err.Error(), part)
				}
				assert.Equal(t, c.announced, answer.Plans[0].Announced)
				assert.Equal(t, 40-c.announced, answer.Plans[0].HeldBack)
				assert.Len(t, d.source.sent, c.announced)
				assert.NotEmpty(t, d.lines(c.level))
			})
		})
	}
}

func TestDiscover_WhatTheDeadlineCutsOffIsHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		for i := range 200 {
			d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Hour))
		}
		d.source.before = func(ctx context.Context) error {
			select {
			case <-time.After(10 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		answer, err := d.run(t, events.Discover{})
		var failed *discovery.DiscoveryError
		require.ErrorAs(t, err, &failed)
		assert.Positive(t, answer.Plans[0].HeldBack)
		assert.Equal(t, 200, answer.Plans[0].Announced+answer.Plans[0].HeldBack)
	})
}

func TestDiscover_WarnsOf(t *testing.T) {
	long := 100 * time.Hour
	warn := func(t *testing.T, want int, parts []string, sets []discovery.BackupSet, tasks []discovery.DownloadTask) {
		t.Helper()
		d := deploy(nil)
		d.plan(planA).sets, d.plan(planA).tasks = sets, tasks
		for range 2 {
			d.log.Reset()
			_, err := d.run(t, events.Discover{})
			require.NoError(t, err)
			lines := append(d.lines("WARN"), d.lines("ERROR")...)
			require.Len(t, lines, want, "at every run")
			for _, part := range parts {
				assert.Contains(t, lines[0], part)
			}
		}
	}
	taskAt := func(ago time.Duration) []discovery.DownloadTask {
		task := taskOf(finished(900, long), "task", "finish")
		task.CreateTime = time.Now().Add(-ago)
		return []discovery.DownloadTask{task}
	}
	for name, test := range map[string]func(t *testing.T){
		"sets older than the lookback that were never downloaded": func(t *testing.T) {
			sets := []discovery.BackupSet{finished(1, long), finished(2, long), finished(3, 2*long)}
			warn(t, 1, []string{"BackupSetIds", `"count":2`, "mysql-bin.000001", "mysql-bin.000002"}, sets, taskAt(150*time.Hour))
		},
		"no older sets than the oldest task": func(t *testing.T) {
			warn(t, 0, nil, []discovery.BackupSet{finished(1, 2*long)}, taskAt(150*time.Hour))
		},
		"no older sets without any task to compare": func(t *testing.T) {
			warn(t, 0, nil, []discovery.BackupSet{finished(1, long)}, nil)
		},
		"sets that stay UNCOMPLETED": func(t *testing.T) {
			stuck := finished(1, 25*time.Hour)
			stuck.BackupStatus = "UNCOMPLETED"
			warn(t, 1, []string{"UNCOMPLETED", `"count":1`, "mysql-bin.000001"}, []discovery.BackupSet{stuck}, nil)
		},
		"no set that is UNCOMPLETED for less than a day": func(t *testing.T) {
			stuck := finished(1, 23*time.Hour)
			stuck.BackupStatus = "UNCOMPLETED"
			warn(t, 0, nil, []discovery.BackupSet{stuck}, nil)
		},
		"no set that is FILLING for days": func(t *testing.T) {
			filling := finished(1, 25*time.Hour)
			filling.BackupStatus = "FILLING"
			warn(t, 0, nil, []discovery.BackupSet{filling}, nil)
		},
		"sets without an ID": func(t *testing.T) {
			nameless := backupSet(func(s *discovery.BackupSet) { s.BackupSetJobID = "" })
			warn(t, 1, []string{"BackupSetJobId", `"count":1`}, []discovery.BackupSet{nameless}, nil)
		},
		"tasks that belong to no listed set": func(t *testing.T) {
			warn(t, 1, []string{`"level":"ERROR"`, "belong to no listed backup set"},
				[]discovery.BackupSet{backupSet(nil)}, taskAt(time.Hour))
		},
		"no tasks from before the lookback": func(t *testing.T) {
			warn(t, 0, nil, []discovery.BackupSet{backupSet(nil)}, taskAt(long))
		},
		"no tasks of which one belongs to a set": func(t *testing.T) {
			set := backupSet(nil)
			warn(t, 0, nil, []discovery.BackupSet{set}, append(taskAt(time.Hour), taskOf(set, "other", "finish")))
		},
		"no tasks of full backups": func(t *testing.T) {
			tasks := taskAt(time.Hour)
			tasks[0].JobType, tasks[0].BackupSetCode = "cbs_backup_sub_full", tasks[0].BackupSetID
			warn(t, 0, nil, []discovery.BackupSet{backupSet(nil)}, tasks)
		},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

func TestDiscover_ItsLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		for i := range 500 {
			set := finished(i, time.Hour)
			d.plan(planA).sets = append(d.plan(planA).sets, set)
			d.plan(planA).tasks = append(d.plan(planA).tasks, taskOf(set, fmt.Sprintf("task-%d", i), "stop"))
		}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.LessOrEqual(t, strings.Count(d.log.String(), "\n"), 100)
		assert.Contains(t, d.log.String(), `"count":420`)
	})
}

func TestDiscover_WritesALineForEachPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(config *handler.Config) { config.BackupPlanIDs = []string{planA, planB} })
		d.plan(planA).sets = []discovery.BackupSet{finished(1, time.Hour), finished(2, 100*time.Hour)}
		d.plan(planB)
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		found := map[string]map[string]any{}
		for _, line := range d.lines("INFO") {
			var fields map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &fields))
			if fields["msg"] == "backup plan discovered" {
				found[fields["backupPlanId"].(string)] = fields
			}
		}
		require.Len(t, found, 2)
		for field, want := range map[string]any{"listed": 2.0, "withTask": 0.0, "incomplete": 0.0, "expired": 0.0,
			"beforeLookback": 1.0, "taskFailed": 0.0, "announced": 1.0, "heldBack": 0.0, "requestId": "request-1"} {
			assert.Equal(t, want, found[planA][field], field)
		}
		assert.Zero(t, found[planB]["listed"])
	})
}

func TestDiscover_NamesUpToAHundredSetsThoseWithoutATaskFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		for i := range 200 {
			set := finished(i, time.Hour)
			if i%4 == 0 {
				set.BackupStatus = "FILLING"
			}
			plan.sets = append(plan.sets, set)
			if i%2 == 1 {
				plan.tasks = append(plan.tasks, taskOf(set, fmt.Sprintf("task-%d", i), []string{"finish", "stop"}[i/2%2]))
			}
		}
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, map[string]int{"withTask": 50, "taskFailed": 50, "announced": 50, "incomplete": 50},
			counts(t, answer.Plans[0]))
		require.Len(t, answer.Plans[0].Sets, 100)
		for _, set := range answer.Plans[0].Sets {
			assert.Empty(t, set.BackupSetDownloadTaskID)
		}
	})
}

func TestDiscover_OnlyTheSetsThatAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		for i := range 150 {
			plan.sets = append(plan.sets, finished(i, 1000*time.Hour))
		}
		plan.tasks = []discovery.DownloadTask{taskOf(plan.sets[7], "task-7", "finish")}
		age := int64(30)
		asked := events.Discover{DryRun: true,
			BackupSetIDs: []string{"mysql-bin.000007", "mysql-bin.000140", "mysql-bin.000999"}}
		answer, err := d.run(t, asked)
		require.NoError(t, err)
		assert.Equal(t, []discovery.PlanReport{{BackupPlanID: planA, Listed: 2, WithTask: 1, Downloaded: 1, Announced: 1,
			NotListed: []string{"mysql-bin.000999"},
			Sets: []discovery.ReportedSet{
				{State: "announced", BackupSetJobID: jobID, BackupSetID: "mysql-bin.000140"},
				{State: "withTask", BackupSetJobID: jobID, BackupSetID: "mysql-bin.000007",
					BackupSetDownloadTaskID: "task-7", BackupSetDownloadStatus: "finish", TaskAgeMinutes: &age, Downloaded: true},
			}}}, answer.Plans, "however long ago they ended")
		assert.Empty(t, d.source.sent)

		asked.DryRun = false
		_, err = d.run(t, asked)
		require.NoError(t, err)
		assert.Equal(t, []string{"mysql-bin.000140"}, d.source.announced(t))
	})
}

func TestDiscover_ADryRunSendsNothingAndNeedsNoSourceQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.plan(planA).sets = []discovery.BackupSet{backupSet(nil)}
		d.Discoverer = discovery.New(discovery.Config{}, d.dbs, nil, attempt.NewLimits(1, 0), discard)
		command := events.Discover{DryRun: true, BackupPlanIDs: []string{planA}}
		answer, err := d.Run(t.Context(), "", command, false)
		require.NoError(t, err)
		assert.True(t, answer.DryRun)
		assert.Equal(t, 1, answer.Plans[0].Announced, "would be")

		command.DryRun = false
		_, err = d.Run(t.Context(), "", command, false)
		var refused *events.Error
		require.ErrorAs(t, err, &refused)
		assert.Contains(t, err.Error(), "SOURCE_QUEUE")
	})
}

func TestDiscover_WithoutAPlan(t *testing.T) {
	d := deploy(func(config *handler.Config) { config.BackupPlanIDs = nil })
	_, err := d.Run(t.Context(), "", events.Discover{}, false)
	var refused *events.Error
	require.ErrorAs(t, err, &refused, "by hand")
	assert.Contains(t, err.Error(), "BACKUP_PLAN_IDS")
	assert.Empty(t, d.lines("WARN"))

	answer, err := d.Run(t.Context(), "", events.Discover{}, true)
	require.NoError(t, err)
	text, err := json.Marshal(answer)
	require.NoError(t, err)
	assert.JSONEq(t, `{"dryRun":false,"plans":[]}`, string(text))
	assert.Len(t, d.lines("WARN"), 1)
	assert.Empty(t, d.dbs.calls)
}

func TestDiscover_ReadsPagesInParallelWithinTheConcurrency(t *testing.T) {
	for _, concurrency := range []int{1, 4, 16} {
		t.Run(strconv.Itoa(concurrency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(config *handler.Config) {
					config.Concurrency, config.BackupPlanIDs = concurrency, []string{planA, planB}
				})
				for i := range 3000 {
					for _, id := range []string{planA, planB} {
						d.plan(id).sets = append(d.plan(id).sets, finished(i, 100*time.Hour))
					}
				}
				d.dbs.before = func(context.Context, listCall) error {
					time.Sleep(100 * time.Millisecond)
					return nil
				}
				started := time.Now()
				_, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Equal(t, concurrency, d.dbs.peak)
				assert.Less(t, time.Since(started), 62*100*time.Millisecond/time.Duration(concurrency)+time.Second)
			})
		})
	}
}

// Plans whose calls hang must not use up the places of the others.
func TestDiscover_HangingPlansLeaveTheOthersTheirTime(t *testing.T) {
	for name, c := range map[string]struct {
		concurrency int
		from        int // the first page that hangs
		hanging     int // plans
		within      time.Duration
	}{
		"one place":               {1, 0, 1, 50 * time.Second},
		"one place, later pages":  {1, 1, 1, 50 * time.Second},
		"two places":              {2, 1, 1, 5 * time.Second},
		"many places":             {16, 1, 1, 5 * time.Second},
		"many plans, many places": {16, 0, 20, 50 * time.Second},
		"many plans, all pages":   {16, 1, 2, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plans := []string{planB}
				for i := range c.hanging {
					plans = append(plans, fmt.Sprintf("hanging%d", i))
				}
				d := deploy(func(config *handler.Config) {
					config.Concurrency, config.BackupPlanIDs = c.concurrency, plans
				})
				for _, id := range plans {
					for i := range 1500 {
						d.plan(id).sets = append(d.plan(id).sets, finished(i, time.Hour))
					}
				}
				var mu sync.Mutex
				var doneAt time.Time
				d.dbs.before = func(ctx context.Context, call listCall) error {
					if call.plan != planB && call.pageNum >= c.from {
						<-ctx.Done()
						return ctx.Err()
					}
					time.Sleep(10 * time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					if call.plan == planB {
						doneAt = time.Now()
					}
					return nil
				}
				started := time.Now()
				answer, err := d.run(t, events.Discover{})
				require.ErrorContains(t, err, "hanging0")
				assert.Equal(t, 1500, answer.Plans[0].Announced)
				assert.LessOrEqual(t, doneAt.Sub(started), c.within)
			})
		})
	}
}

// Plans that hang after a pause, at which all workers wait, leave the last ones their time.
func TestDiscover_EveryPlanIsAskedForAfterAPause(t *testing.T) {
	for range 20 { // the plans come in an order of chance
		synctest.Test(t, func(t *testing.T) {
			var plans []string
			for i := range 11 {
				plans = append(plans, fmt.Sprintf("plan%d", i))
			}
			d := deploy(func(c *handler.Config) { c.BackupPlanIDs = plans })
			for _, id := range plans {
				d.plan(id).sets = []discovery.BackupSet{finished(1, time.Hour)}
			}
			var mu sync.Mutex
			turns := make(map[string]int)
			d.dbs.before = func(ctx context.Context, call listCall) error {
				mu.Lock()
				if turns[call.plan] == 0 {
					turns[call.plan] = len(turns) + 1
				}
				turn := turns[call.plan]
				mu.Unlock()
				switch {
				case turn == 1 && call.operation == listTasks:
					return &cloud.Error{Service: "DBS", Kind: cloud.Permanent, Code: "InvalidParameter", HTTPStatusCode: 400,
						Throttled: true, RetryAfter: 10 * time.Second}
				case turn <= 4:
					time.Sleep(time.Millisecond)
				case turn <= 8:
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
			_, err := d.run(t, events.Discover{})
			require.Error(t, err)
			assert.Len(t, turns, len(plans))
		})
	}
}

// A call that hangs once does not cost its plan the run.
func TestDiscover_APlanThatHangsGoesOnAfterTheOthers(t *testing.T) {
	for name, hanging := range map[string][]string{"one": {planA}, "all": {planA, planB}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(config *handler.Config) { config.BackupPlanIDs = []string{planA, planB} })
				d.plan(planA).sets = []discovery.BackupSet{finished(1, time.Hour)}
				d.plan(planB).sets = []discovery.BackupSet{finished(2, time.Hour)}
				var hung sync.Map
				d.dbs.before = func(ctx context.Context, call listCall) error {
					if _, before := hung.LoadOrStore(call.plan, true); !before && slices.Contains(hanging, call.plan) {
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}
				_, err := d.run(t, events.Discover{})
				require.NoError(t, err)
				assert.Len(t, d.source.sent, 2)
			})
		})
	}
}

func TestDiscover_PlansStartInAnOrderThatChanges(t *testing.T) {
	first := map[string]bool{}
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(func(config *handler.Config) {
				config.Concurrency, config.BackupPlanIDs = 1, []string{planA, planB}
			})
			d.plan(planB)
			d.dbs.before = func(context.Context, listCall) error { time.Sleep(time.Second); return nil }
			_, err := d.run(t, events.Discover{})
			require.NoError(t, err)
			first[d.dbs.calls[0].plan] = true
		})
	}
	assert.Len(t, first, 2)
}

func TestDiscover_RepeatsCallsThatFailForNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		for i := range 300 {
			d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Hour))
		}
		var n atomic.Int64
		d.dbs.before = func(context.Context, listCall) error {
			switch n.Add(1) % 3 {
			case 0:
				return errors.New("unexpected EOF")
			case 1:
				return &cloud.Error{Service: "DBS", Code: "Throttling.User", HTTPStatusCode: 429, Throttled: true}
			}
			return nil
		}
		answer, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, 300, answer.Plans[0].Announced)
	})
}

// Which set is the oldest is a matter of its time, not of its name.
func TestDiscover_AnnouncesTheOldestFirstWhateverItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		noEnd := finished(9, 3*time.Hour)
		noEnd.EndTime = time.Time{} // it started four hours ago
		d.plan(planA).sets = []discovery.BackupSet{finished(1, time.Hour), finished(2, 2*time.Hour), noEnd}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Equal(t, []string{"mysql-bin.000009", "mysql-bin.000002", "mysql-bin.000001"}, d.source.announced(t))
	})
}

func TestDiscover_AnUncompletedSetWithoutTimesIsNotOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.plan(planA).sets = []discovery.BackupSet{backupSet(func(s *discovery.BackupSet) {
			s.BackupStatus, s.StartTime, s.EndTime = "UNCOMPLETED", time.Time{}, time.Time{}
		})}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		assert.Empty(t, d.lines("WARN"))
	})
}

// Two rows of one name, one of which does not say when it started, are one set.
func TestDiscover_ARowWithoutAStartTimeIsNoOtherSet(t *testing.T) {
	for _, reversed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			sets := []discovery.BackupSet{backupSet(nil), backupSet(func(s *discovery.BackupSet) { s.StartTime = time.Time{} })}
			if reversed {
				sets[0], sets[1] = sets[1], sets[0]
			}
			d.plan(planA).sets = sets
			_, err := d.run(t, events.Discover{})
			require.NoError(t, err)
			assert.Len(t, d.source.sent, 1)
			assert.Empty(t, d.lines("WARN"))
		})
	}
}

func TestDiscover_SaysWhichFailureCameFirstAndHowManyPlansFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		for i := range 40 {
			d.plan(planA).sets = append(d.plan(planA).sets, finished(i, time.Hour))
		}
		d.source.refuse = func(body string) error {
			for i := range 40 {
				if strings.Contains(body, fmt.Sprintf("mysql-bin.%06d", i)) {
					return permanent(fmt.Sprintf("Refused%d", i))
				}
			}
			return nil
		}
		_, err := d.run(t, events.Discover{})
		assert.Regexp(t, `Refused([0-9]|1[0-5])\b`, err.Error(), "of the first batch")
		assert.Contains(t, strings.Join(d.lines("ERROR"), "")+strings.Join(d.lines("WARN"), ""), `"plansFailed":1`)
	})
}

func TestDiscover_NamesBothIDsOfAFailedDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		plan := d.plan(planA)
		plan.sets = []discovery.BackupSet{backupSet(nil)}
		plan.tasks = []discovery.DownloadTask{taskOf(plan.sets[0], "task-1", "stop")}
		_, err := d.run(t, events.Discover{})
		require.NoError(t, err)
		for _, part := range []string{`"backupSetId":"` + jobID + `"`, `"taskStatus":"stop"`, `"failedTasks":1`} {
			assert.Contains(t, d.lines("WARN")[0], part)
		}
	})
}

func TestDiscover_SaysTheFixHoweverLongTheCauseIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = refuseAll(&cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission", HTTPStatusCode: 403,
			Message: strings.Repeat("words ", 100), Fix: "grant dbs:X to the role"})
		answer, err := d.run(t, events.Discover{})
		require.ErrorContains(t, err, "Fix: grant dbs:X to the role")
		assert.Contains(t, answer.Plans[0].Error, "Fix: grant dbs:X to the role")
	})
}
