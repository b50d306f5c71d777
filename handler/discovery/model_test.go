package discovery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/discovery"
)

// scene is what a generated DBS holds, and what is done to the calls.
type scene struct {
	Plans         [][]string // for each plan the kinds of its sets
	FullTasks     int        // of each plan, besides those of its sets
	CountsFromOne bool
	OldestFirst   bool
	Times         bool // full tasks have them, so that the list of tasks is in order
	Concurrency   int
	FaultyRuns    int
	Lists         []string // what happens to list calls in faulty runs, in turn
	Shifts        []string // what happens in DBS after list calls in faulty runs, in turn
	Sends         []string // what happens to announcements
	Creates       []string // what happens to calls that create a task
	Restarts      bool
	Deliveries    []bool // whether the queue is emptied after a faulty run
}

func drawScene(rt *rapid.T) scene {
	outcomes := func(name string, kinds ...string) []string {
		return rapid.SliceOfN(rapid.SampledFrom(kinds), 1, 7).Draw(rt, name)
	}
	kinds := rapid.SampledFrom([]string{"finished", "finished", "finished", "filling", "stays filling", "expired", "old",
		"downloaded", "failed", "old, downloaded", "refused"})
	return scene{
		Plans: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) []string {
			// Few draws make many pages: the kinds are repeated.
			some := rapid.SliceOfN(kinds, 0, 12).Draw(t, "kinds")
			return slices.Repeat(some, rapid.IntRange(1, 40).Draw(t, "times"))
		}), 1, 3).Draw(rt, "plans"),
		FullTasks:     rapid.SampledFrom([]int{0, 1, 99, 101, 250}).Draw(rt, "full tasks"),
		CountsFromOne: rapid.Bool().Draw(rt, "counts from one"),
		OldestFirst:   rapid.Bool().Draw(rt, "oldest first"),
		Times:         rapid.Bool().Draw(rt, "times"),
		Concurrency:   rapid.SampledFrom([]int{1, 2, 16}).Draw(rt, "concurrency"),
		FaultyRuns:    rapid.IntRange(0, 4).Draw(rt, "faulty runs"),
		Lists:         outcomes("lists", "ok", "ok", "ok", "fail", "cut", "hang", "throttle", "forbid", "unknown", "no list"),
		Shifts:        outcomes("shifts", "", "", "add set", "add task", "delete task", "complete", "delete set"),
		Sends:         outcomes("sends", "ok", "ok", "fail", "lost", "hang", "forbid"),
		Creates:       outcomes("creates", "ok", "ok", "fail", "lost"),
		Restarts:      rapid.Bool().Draw(rt, "restarts"),
		Deliveries:    rapid.SliceOfN(rapid.Bool(), 1, 4).Draw(rt, "deliveries"),
	}
}

// TestDiscover_KeepsItsPromise makes runs over a generated DBS that changes while
// it is read, with faults in every call and restarts in between, and then without.
// No set that had a task when a run began is announced by it; no set ever gets two
// tasks; and once the faults are over each finished set has one.
func TestDiscover_KeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScene(rt)
		var problem error
		synctest.Test(t, func(t *testing.T) { problem = newStage(s).play(t) })
		if problem != nil {
			rt.Fatalf("%v", problem)
		}
	})
}

// stage plays a scene.
type stage struct {
	scene
	*deployment
	plans  []string
	faulty bool
	lists  int // calls in faulty runs
	sends  int
	added  int
}

func newStage(s scene) *stage {
	st := &stage{scene: s}
	for i := range s.Plans {
		st.plans = append(st.plans, fmt.Sprintf("dbsplan%d", i))
	}
	st.deployment = deploy(st.configure)
	st.dbs.countsFromOne, st.dbs.oldestFirst = s.CountsFromOne, s.OldestFirst
	for i, kinds := range s.Plans {
		plan := st.plan(st.plans[i])
		for n, kind := range kinds {
			st.put(plan, i, n, kind)
		}
		for n := range s.FullTasks {
			plan.tasks = append(plan.tasks, st.fullTask(n, time.Duration(n+31)*time.Minute))
		}
	}
	st.dbs.before, st.dbs.cut = st.beforeList, st.cut
	st.source.before, st.source.lose = st.beforeSend, func() error {
		if st.sendOutcome() == "lost" {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	var creates atomic.Int64
	outcome := func() string {
		if !st.faulty {
			return "ok"
		}
		return s.Creates[int(creates.Add(1))%len(s.Creates)]
	}
	st.dbs.creating = func(request events.Request) error {
		switch {
		case outcome() == "fail":
			return transient("InternalError")
		case isRefused(request.BackupSetName):
			return permanent("Param.NotFound")
		}
		return nil
	}
	st.dbs.created = func(events.Request) error {
		if outcome() == "lost" {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	return st
}

func (st *stage) configure(config *handler.Config) {
	config.Concurrency, config.BackupPlanIDs = st.Concurrency, st.plans
}

// put adds a set of the given kind to a plan, with the tasks that the kind has.
func (st *stage) put(plan *fakeDBSPlan, job, n int, kind string) {
	set := backupSet(func(s *discovery.BackupSet) {
		s.BackupSetJobID, s.BackupSetID = fmt.Sprintf("job%d", job), fmt.Sprintf("set-%d", n)
		s.EndTime = s.EndTime.Add(-time.Duration(n) * time.Minute)
		switch kind {
		case "filling", "stays filling":
			s.BackupStatus = "FILLING"
		case "expired":
			s.ExpiredTime = s.EndTime
		case "refused":
			s.BackupSetID = fmt.Sprintf("refused-%d", n)
		case "old", "old, downloaded":
			s.EndTime = s.EndTime.Add(-100 * time.Hour)
			s.StartTime = s.EndTime
		}
	})
	plan.sets = append(plan.sets, set)
	switch kind {
	case "downloaded", "old, downloaded":
		plan.tasks = append(plan.tasks, taskOf(set, "before-"+set.BackupSetID, "finish"))
	case "failed":
		plan.tasks = append(plan.tasks, taskOf(set, "before-"+set.BackupSetID, "stop"))
	}
}

// isRefused reports whether DBS refuses for good to download a set.
func isRefused(setID string) bool { return strings.HasPrefix(setID, "refused-") }

func (st *stage) fullTask(n int, ago time.Duration) discovery.DownloadTask {
	task := discovery.DownloadTask{ID: fmt.Sprintf("full-%d", n), BackupSetID: "full", BackupSetCode: "full",
		JobType: "cbs_backup_sub_full", Status: "finish"}
	if st.Times {
		task.CreateTime = time.Now().Add(-ago)
	}
	return task
}

func (st *stage) outcome() string {
	if !st.faulty {
		return "ok"
	}
	st.lists++
	return st.Lists[st.lists%len(st.Lists)]
}

func (st *stage) beforeList(ctx context.Context, call listCall) error {
	st.dbs.mu.Lock()
	outcome := st.outcome()
	st.dbs.mu.Unlock()
	switch outcome {
	case "fail":
		return transient("ServiceUnavailable")
	case "unknown":
		return errors.New("an unknown failure")
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "throttle":
		return &cloud.Error{Service: "DBS", Code: "Throttling", HTTPStatusCode: 429, Throttled: true, RetryAfter: time.Second}
	case "forbid":
		return operatorFault("Request.Forbidden")
	case "no list":
		return permanent("UnexpectedAnswer")
	}
	return nil
}

// cut shortens a page, and then changes DBS, so that the next page shifts. It is
// called under the lock of DBS.
func (st *stage) cut(call listCall, page *fakePage) {
	if !st.faulty {
		return
	}
	if st.Lists[st.lists%len(st.Lists)] == "cut" {
		page.sets, page.tasks = page.sets[:len(page.sets)/2], page.tasks[:len(page.tasks)/2]
	}
	plan := st.dbs.plans[call.plan]
	switch st.Shifts[st.lists%len(st.Shifts)] {
	case "add set":
		st.added++
		set := backupSet(func(s *discovery.BackupSet) {
			s.BackupSetJobID, s.BackupSetID = "added", fmt.Sprintf("set-%d", st.added)
		})
		plan.sets = slices.Insert(plan.sets, 0, set)
	case "delete set":
		if n := len(plan.sets); n > 0 {
			plan.sets = slices.Delete(plan.sets, n-1, n)
		}
	case "complete":
		for i := range plan.sets {
			if plan.sets[i].BackupStatus == "FILLING" && i%2 == 0 {
				set := plan.sets[i]
				set.BackupStatus = "COMPLETED"
				plan.sets[i] = backupSet(func(s *discovery.BackupSet) { *s = set })
			}
		}
	case "add task":
		st.added++
		plan.tasks = slices.Insert(plan.tasks, 0, st.fullTask(1000+st.added, 0))
	case "delete task":
		i := slices.IndexFunc(plan.tasks, func(task discovery.DownloadTask) bool { return task.JobType == "cbs_backup_sub_full" })
		if i >= 0 {
			plan.tasks = slices.Delete(plan.tasks, i, i+1)
		}
	}
}

func (st *stage) sendOutcome() string {
	if !st.faulty {
		return "ok"
	}
	return st.Sends[st.sends%len(st.Sends)]
}

func (st *stage) beforeSend(ctx context.Context) error {
	st.source.mu.Lock()
	st.sends++
	outcome := st.sendOutcome()
	st.source.mu.Unlock()
	switch outcome {
	case "fail":
		return transient("InternalServerError")
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	case "forbid":
		return operatorFault("AccessDenied")
	}
	return nil
}

func (st *stage) play(t *testing.T) error {
	for run := range st.FaultyRuns {
		st.faulty = true
		if err := st.discover(t); err != nil {
			return fmt.Errorf("run %d: %w", run, err)
		}
		if st.Deliveries[run%len(st.Deliveries)] {
			_ = st.deliver(t) // what fails stays in the queue
		}
		if st.Restarts {
			st.restart(st.configure)
		}
		time.Sleep(15 * time.Minute)
	}
	st.faulty = false
	if err := st.discover(t); err != nil {
		return fmt.Errorf("after the faults: %w", err)
	}
	if err := st.deliver(t); err != nil {
		return fmt.Errorf("delivery after the faults: %w", err)
	}
	if err := st.check(); err != nil {
		return err
	}
	sent := len(st.source.sent)
	if err := st.discover(t); err != nil {
		return fmt.Errorf("a run with nothing to do: %w", err)
	}
	for _, id := range st.source.announced(t)[sent:] {
		if !isRefused(id) {
			return fmt.Errorf("a run with nothing to do announces %s", id)
		}
	}
	return nil
}

// discover makes a run and checks what it announced and answered.
func (st *stage) discover(t *testing.T) error {
	hasTask := map[string]bool{}
	finished := map[string]bool{}
	for _, plan := range st.dbs.plans {
		for _, task := range plan.tasks {
			if task.Status != "stop" {
				hasTask[task.BackupSetID+"/"+task.BackupSetCode] = true
			}
		}
	}
	sent := len(st.source.sent)
	answer, err := st.run(t, events.Discover{})
	for _, plan := range st.dbs.plans {
		for _, set := range plan.sets {
			finished[set.BackupSetJobID+"/"+set.BackupSetID] = set.BackupStatus == "COMPLETED"
		}
	}
	for _, body := range st.source.sent[sent:] {
		for event, malformed := range (events.Decoder{}).Decode([]byte(body)) {
			key := event.Request.BackupSetID + "/" + event.Request.BackupSetName
			if done, listed := finished[key]; malformed != nil || hasTask[key] || listed && !done {
				return fmt.Errorf("%q is announced: understood %t, has a task %t, finished %t",
					key, malformed == nil, hasTask[key], done)
			}
		}
	}
	var failed *discovery.DiscoveryError
	switch {
	case err != nil && !st.faulty:
		return err
	case err != nil && !errors.As(err, &failed):
		return fmt.Errorf("an error of no declared type: %w", err)
	}
	for _, report := range answer.Plans {
		counts(t, report)
		if report.Error == "" && report.HeldBack > 0 {
			return fmt.Errorf("%s holds back %d sets without a reason", report.BackupPlanID, report.HeldBack)
		}
	}
	return nil
}

// check holds the end against the sets that there are.
func (st *stage) check() error {
	tasks := map[string]int{}
	failed := map[string]bool{}
	results := map[string]string{} // the newest types by id
	for _, body := range st.results.sent {
		var result events.Result
		if err := json.Unmarshal([]byte(body), &result); err != nil {
			return err
		}
		results[result.ID] = result.Type
	}
	for _, plan := range st.dbs.plans {
		for _, task := range plan.tasks {
			key := task.BackupSetID + "/" + task.BackupSetCode
			if task.Status == "stop" {
				failed[key] = true
			} else {
				tasks[key]++
			}
		}
		for _, set := range plan.sets {
			key := set.BackupSetJobID + "/" + set.BackupSetID
			wanted := set.BackupStatus == "COMPLETED" && set.ExpiredTime.After(time.Now()) &&
				time.Since(set.EndTime) < 72*time.Hour && !failed[key]
			switch {
			case wanted && isRefused(set.BackupSetID):
				result := results[fmt.Sprintf("%s@%d", key, set.StartTime.UnixMilli())]
				if tasks[key] != 0 || result != events.TypeTaskFailed {
					return fmt.Errorf("%s has %d tasks, and the result %q", key, tasks[key], result)
				}
			case wanted && tasks[key] != 1 || tasks[key] > 1:
				return fmt.Errorf("%s has %d tasks", key, tasks[key])
			}
		}
	}
	// DBS still has the announced set: a dead letter would be a second copy of it.
	if n := len(st.deadLetters.sent); n > 0 {
		return fmt.Errorf("%d dead letters", n)
	}
	return nil
}
