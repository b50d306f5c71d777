package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"increment-backup-download/tests/harness"
	"increment-backup-download/tests/standin/dbs"
)

// planJob is the BackupSetJobId of the sets of the plan.
const planJob = "t4yh0g0g0002"

// otherPlan is a plan that is not discovered: other producers announce its sets, which
// have otherJob. Those are the samples, and the sets of -break.
const (
	otherPlan = "dbsqdss5tmh0002"
	otherJob  = "t4yh0g0g0001"
)

// stoppedSet is the sample whose first task stops.
const stoppedSet = "mysql-bin.000056"

// fillOtherPlan adds the other plan to DBS.
func fillOtherPlan(service *dbs.Service) {
	now := time.Now()
	for n := 1; n <= 58; n++ {
		if n > brokenEvents && n < 54 {
			continue
		}
		end := now.Add(time.Duration(n-59) * time.Hour)
		service.AddSet(otherPlan, dbs.Set{JobID: otherJob, Name: fmt.Sprintf("mysql-bin.%06d", n), Size: 1 << 30,
			Start: end.Add(-time.Hour), End: end, Expires: now.Add(30 * 24 * time.Hour)})
	}
	service.UpdateSet(otherJob, "mysql-bin.000058", func(set *dbs.Set) { set.Status, set.End = dbs.Filling, time.Time{} })
}

// letTasksEnd lets each task that the function makes end after a while, and the delays
// in the queues pass fast, so that the end is seen.
func letTasksEnd(cloud *harness.Cloud, after time.Duration) {
	cloud.MNS.DelayFactor = 60
	cloud.DBS.TaskTime = after
	first := "" // task of stoppedSet; the stand-in asks under its lock
	cloud.DBS.TaskEnd = func(task dbs.ListedTask) (status, message string) {
		if task.SetName == stoppedSet && (first == "" || first == task.ID) {
			first = task.ID
			return "stop", "The backup set cannot be read."
		}
		return "finish", ""
	}
}

// fillingSet is the set of the plan that is finished later.
const fillingSet = "mysql-bin.000052"

// planSets are the backup sets of the plan, and what discovery must make of each.
var planSets = []struct {
	name, status string
	task         string // the status of the download task that it has, if any
	expired      bool
	about, want  string
}{
	{"mysql-bin.000046", dbs.Completed, "finish", false, "downloaded earlier", "withTask"},
	{"mysql-bin.000047", dbs.Completed, "", true, "expired", "expired"},
	{"mysql-bin.000048", dbs.Completed, "", false, "finished", "announced"},
	{"mysql-bin.000049", dbs.Completed, "", false, "finished", "announced"},
	{"mysql-bin.000050", dbs.Completed, "running", false, "being downloaded", "withTask"},
	{"mysql-bin.000051", dbs.Completed, "stop", false, "its download failed", "taskFailed"},
	{fillingSet, dbs.Filling, "", false, "still FILLING", "incomplete"},
}

// fillPlan adds the plan to DBS.
func fillPlan(service *dbs.Service) {
	service.AddPlan(harness.PlanID)
	now := time.Now()
	for i, sample := range planSets {
		start := now.Add(time.Duration(i-len(planSets)) * time.Hour)
		set := dbs.Set{JobID: planJob, Name: sample.name, Status: sample.status, Size: 1 << 30, Start: start,
			Expires: now.Add(30 * 24 * time.Hour)}
		if sample.status == dbs.Completed {
			set.End = start.Add(time.Hour - time.Minute)
		}
		if sample.expired {
			set.Expires = now.Add(-time.Hour)
		}
		service.AddSet(harness.PlanID, set)
		if sample.task != "" {
			task := dbs.ListedTask{JobID: planJob, SetName: sample.name, Status: sample.task, Created: set.End}
			if sample.task == "finish" {
				task.Finished = set.End.Add(time.Minute)
			}
			service.AddTask(harness.PlanID, task)
		}
	}
}

// setRow is what became of one backup set of the plan.
type setRow struct {
	BackupSetName string `json:"backupSetName"`
	About         string `json:"about"`     // what DBS has
	Discovery     string `json:"discovery"` // the state in the answer of the timer's run
	Outcome       string `json:"outcome,omitempty"`
	TaskID        string `json:"taskId,omitempty"`
}

// discoverPlan fires the timer, lets the announcements be delivered, and fires it
// again, which must announce nothing.
func (l *local) discoverPlan(ctx context.Context, cloud *harness.Cloud) (shown []setRow, ok bool, err error) {
	l.say("A timer event: which backup sets of plan %s are finished and have no download task?", harness.PlanID)
	states, announced, err := l.fireTimer(ctx, cloud)
	if err != nil {
		return nil, false, err
	}
	if _, _, err := cloud.Trigger(100).DrainDelayed(ctx); err != nil {
		return nil, false, err
	}
	found, err := rows(cloud)
	if err != nil {
		return nil, false, err
	}
	ok = true
	wanted := 0
	for _, sample := range planSets {
		state := states[planJob+"/"+sample.name]
		r := setRow{BackupSetName: sample.name, About: sample.about, Discovery: state.state, TaskID: state.taskID}
		if sample.want == "announced" {
			wanted++
			end := found[planJob+"/"+sample.name]
			r.Outcome, r.TaskID = end.Outcome, end.reason()
			ok = ok && end.Outcome == outcomeFinished
		}
		ok = ok && state.state == sample.want
		shown = append(shown, r)
	}
	if !l.json {
		t := l.table("backup set", "in dbs", "discovery", "outcome", "download task")
		for _, r := range shown {
			t.AppendRow(table.Row{r.BackupSetName, r.About, r.Discovery, r.Outcome, r.TaskID})
		}
		t.Render()
	}
	_, again, err := l.fireTimer(ctx, cloud)
	if err != nil {
		return nil, false, err
	}
	l.say("%d sets announced; a second timer event announces %d.", announced, again)
	return shown, ok && announced == wanted && again == 0, nil
}

type setState struct{ state, taskID string }

// fireTimer fires the timer once, and returns what the function made of each set.
func (l *local) fireTimer(
	ctx context.Context, cloud *harness.Cloud,
) (states map[string]setState, announced int, err error) {
	answer, err := cloud.InvokeTimer(ctx, "")
	if err != nil {
		return nil, 0, err
	}
	discovered, err := harness.ReadDiscovered(answer.Payload)
	if err != nil {
		return nil, 0, err
	}
	states = make(map[string]setState)
	for _, plan := range discovered.Plans {
		announced += plan.Announced
		for _, set := range plan.Sets {
			states[set.JobID+"/"+set.Name] = setState{set.State, set.TaskID}
		}
	}
	return states, announced, nil
}
