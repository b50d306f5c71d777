package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"increment-backup-download/tests/standin/dbs"
	"increment-backup-download/tests/standin/trigger"
)

// discoveredJob is the BackupSetJobId of the sets that are discovered. The events of
// [Scenario.fill] have another: DBS does not know their sets.
const discoveredJob = "t4yh0g0g0002"

// Kinds of backup sets that a scenario lists: what they are when it begins, or when
// they appear.
const (
	finished = iota
	filling  // finished later
	never    // stays FILLING
	expired
	downloading // has a task of an earlier time
	stopped     // its download failed at an earlier time
	refused     // DBS refuses its download for good
	kinds
)

// list lists backup sets in DBS, of which a third appear only later, and notes what
// is to become of each. The pages vary in what is not documented: see [dbs.Service].
func (r *scenarioRun) list(random *rand.Rand) {
	service := r.cloud.DBS
	service.AddPlan(PlanID)
	for n := range r.Events {
		kind := finished
		if r.Mixed && random.IntN(2) == 0 {
			kind = random.IntN(kinds)
		}
		now := time.Now()
		set := dbs.Set{JobID: discoveredJob, Name: fmt.Sprintf("mysql-bin.%06d", n+1), Size: 1 << 30, Status: dbs.Completed,
			Start: now.Add(-48 * time.Hour).Add(time.Duration(n) * time.Second), Expires: now.Add(30 * 24 * time.Hour)}
		set.End = set.Start.Add(time.Second)
		task := dbs.ListedTask{JobID: set.JobID, SetName: set.Name, Created: now.Add(-time.Hour)}
		switch kind {
		case filling, never:
			set.Status, set.End = dbs.Filling, time.Time{}
		case expired:
			set.Expires = now.Add(-time.Minute)
		case downloading:
			service.AddTask(PlanID, task)
		case stopped:
			task.Status = "stop"
			service.AddTask(PlanID, task)
		case refused:
			set.Name = dbs.NotFoundName + "-" + set.Name
		}
		switch kind {
		case never, expired, downloading, stopped:
			r.report.Left++
		default:
			r.expected = append(r.expected, expectation{
				id: fmt.Sprintf("%s/%s@%d", set.JobID, set.Name, set.Start.UnixMilli()), failed: kind == refused, discovered: true})
		}
		switch {
		case kind == filling:
			service.AddSet(PlanID, set)
			r.later = append(r.later, func() { service.Complete(set.JobID, set.Name) })
		case n%3 == 0:
			r.later = append(r.later, func() { service.AddSet(PlanID, set) })
		default:
			service.AddSet(PlanID, set)
		}
	}
}

// discover lets a timer and the trigger run while sets appear and are finished. Then
// the faults and the kills end, and the timer goes on until there is nothing left to
// announce.
func (r *scenarioRun) discover(ctx context.Context) error {
	refusals := 0
	for _, e := range r.expected {
		if e.failed {
			refusals++
		}
	}
	delivering, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.deliverAll(delivering) }()
	err := r.discoverAll(ctx, refusals)
	stop()
	return errors.Join(err, <-done)
}

// deliverAll delivers the source queue until ctx ends.
func (r *scenarioRun) deliverAll(ctx context.Context) error {
	t := r.trigger()
	made := t.Delivered
	t.Delivered = func(d trigger.Delivery) {
		made(d)
		r.report.Deliveries++
		if d.Err != nil {
			r.report.FailedDeliveries++
		}
	}
	return t.Run(ctx)
}

func (r *scenarioRun) discoverAll(ctx context.Context, refusals int) error {
	const rounds = 12
	for round := range rounds {
		share := len(r.later) / (rounds - round)
		for _, change := range r.later[:share] {
			change()
		}
		r.later = r.later[share:]
		if _, err := r.timer(ctx); err != nil {
			return err
		}
	}
	r.behave()
	for range 100 {
		if err := r.untilEmpty(ctx); err != nil {
			return err
		}
		announced, err := r.timer(ctx)
		if err != nil {
			return err
		}
		// What DBS refuses for good is announced at each run.
		if announced == refusals {
			return r.untilEmpty(ctx)
		}
	}
	r.report.Violations = append(r.report.Violations,
		"the timer still finds sets to announce after 100 runs without faults")
	return nil
}

// timer makes one run of the timer, and returns what its answer says was announced,
// or -1 if it failed. The error is that of ctx.
func (r *scenarioRun) timer(ctx context.Context) (int, error) {
	r.says("a timer event discovers backup sets")
	answer, err := r.cloud.InvokeTimer(ctx, "")
	r.report.TimerRuns++
	if err != nil {
		r.report.FailedTimerRuns++
		r.says("the timer's run failed, %s", kindOf(err))
		return -1, ctx.Err()
	}
	found, err := ReadDiscovered(answer.Payload)
	if err != nil {
		return 0, err
	}
	announced := 0
	for _, plan := range found.Plans {
		announced += plan.Announced
	}
	r.report.Announced += announced
	return announced, nil
}

// untilEmpty waits until the source queue has nothing to deliver but what is delayed.
func (r *scenarioRun) untilEmpty(ctx context.Context) error {
	for {
		if active, inactive, _ := r.cloud.MNS.Counts(SourceQueue); active+inactive == 0 {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// checkLists holds the download tasks that DBS lists against the promise: none for a
// set twice.
func (r *scenarioRun) checkLists(violate func(string, ...any)) {
	tasks := make(map[string]int)
	for _, task := range r.cloud.DBS.ListedTasks(PlanID) {
		tasks[task.JobID+"/"+task.SetName]++
	}
	for set, n := range tasks {
		if n > 1 {
			violate("backup set %s has %d tasks", set, n)
		}
	}
}

// Discovered is what the checks read of the answer of a discovery run.
type Discovered struct {
	Plans []struct {
		BackupPlanID   string `json:"BackupPlanId"`
		Listed         int    `json:"listed"`
		WithTask       int    `json:"withTask"`
		Incomplete     int    `json:"incomplete"`
		Expired        int    `json:"expired"`
		BeforeLookback int    `json:"beforeLookback"`
		TaskFailed     int    `json:"taskFailed"`
		Announced      int    `json:"announced"`
		HeldBack       int    `json:"heldBack"`
		Sets           []struct {
			State  string `json:"state"`
			JobID  string `json:"BackupSetJobId"`
			Name   string `json:"BackupSetId"`
			TaskID string `json:"BackupSetDownloadTaskId"`
			Status string `json:"BackupSetDownloadStatus"`
		} `json:"sets"`
	} `json:"plans"`
}

// ReadDiscovered reads the answer of a discovery run.
func ReadDiscovered(answer []byte) (Discovered, error) {
	var found Discovered
	if err := json.Unmarshal(answer, &found); err != nil {
		return found, fmt.Errorf("the answer of a discovery run: %w", err)
	}
	return found, nil
}
