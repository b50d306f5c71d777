package dbs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The states of a backup set. It is complete only if its BackupStatus says so.
const (
	Init        = "INIT"
	Filling     = "FILLING"
	Completed   = "COMPLETED"
	Uncompleted = "UNCOMPLETED"
)

// The kinds of the job that made the set of a download task.
const (
	FullJob        = "cbs_backup_sub_full"
	IncrementalJob = "cbs_backup_sub_cont"
)

// URLSecret is in the download links of every finished task, as the signature is in
// those of OSS: a link gives access to the backup. It must never be seen elsewhere.
const URLSecret = "SIGNED-LINK-4f2b9d61c8" //nolint:gosec // G101: that of a stand-in

// Plan is a backup plan as the list of plans shows it.
type Plan struct {
	ID       string
	Status   string // wait, init, running, stop, pause, locked, check_pass; empty: running
	Region   string // of the source; empty: the service's
	OnlyFull bool   // no incremental backup: EnableBackupLog is false
}

// Set is an incremental backup set as a plan lists it. What is zero is left out of
// the list; an empty Status means COMPLETED.
type Set struct {
	JobID   string // BackupSetJobId, of the incremental job: BackupSetId of the create call
	Name    string // BackupSetId, a binlog's name for MySQL: BackupSetName of the create call
	Status  string
	Start   time.Time
	End     time.Time
	Expires time.Time
	Size    int64
}

// ListedTask is a download task as a plan lists it.
type ListedTask struct {
	ID         string // empty: a new one
	JobID      string // BackupSetId, the source set's ID
	SetName    string // BackupSetCode, the source set's code: the file's name; for a full backup the JobID
	JobType    string // empty: IncrementalJob, or FullJob if SetName is empty too, which is then the JobID
	Status     string // checking, init, check_pass, pause, schedule, running, stop, finish; empty: running
	Way        string // manual, auto; empty: manual
	DataFormat string // empty: Native
	Created    time.Time
	Finished   time.Time
	ErrMessage string
	Size       int64 // of the file; 0: that of the official sample

	plan     *plan
	proceeds bool // through the states of a download, by TaskTime
}

type setKey struct{ jobID, name string }

// plan is a backup plan. It is guarded by its service's mutex.
type plan struct {
	Plan
	sets   []*Set        // in the order of their arrival, or by Start
	tasks  []*ListedTask // in the order of their arrival, or by Created
	sorted bool          // both are by time
}

// listedSet is the newest set of a plan that has a key.
type listedSet struct {
	plan *plan
	set  *Set
}

// AddPlan adds a running backup plan without any sets and tasks; one that exists
// stays as it is.
func (s *Service) AddPlan(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan(id)
}

// SetPlan adds a backup plan, or changes what the list of plans shows of it.
func (s *Service) SetPlan(plan Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	plan.Status, plan.Region = cmp.Or(plan.Status, "running"), cmp.Or(plan.Region, s.Region)
	s.plan(plan.ID).Plan = plan
}

// plan returns a plan, and adds it if need be. The caller holds mu.
func (s *Service) plan(id string) *plan {
	if s.plans[id] == nil {
		s.plans[id] = &plan{Plan: Plan{ID: id, Status: "running", Region: s.Region}}
		s.planIDs = append(s.planIDs, id)
	}
	return s.plans[id]
}

// AddSet lists a backup set, and adds its plan if need be. A key may be listed
// twice, as after binlog numbers have restarted.
func (s *Service) AddSet(planID string, set Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if set.Status == "" {
		set.Status = Completed
	}
	p := s.plan(planID)
	p.sets, p.sorted = append(p.sets, &set), false
	s.sets[setKey{set.JobID, set.Name}] = &listedSet{p, &set}
	s.jobs[set.JobID] = true
}

// UpdateSet changes the newest backup set with a key, but not the key itself; it
// panics if no plan lists one, since that is a mistake of the test.
func (s *Service) UpdateSet(jobID, name string, change func(*Set)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	listed := s.sets[setKey{jobID, name}]
	if listed == nil {
		panic("dbs: no plan lists the backup set " + jobID + "/" + name)
	}
	change(listed.set)
	listed.plan.sorted = false
}

// Complete completes a backup set, which ends now if it has no end.
func (s *Service) Complete(jobID, name string) {
	s.UpdateSet(jobID, name, func(set *Set) {
		set.Status = Completed
		if set.End.IsZero() {
			set.End = time.Now()
		}
	})
}

// AddTask lists a download task, adds its plan if need be, and returns the task's
// ID. Tasks that are created by calls are listed by themselves: with the plan that
// lists the set, else only by their ID.
func (s *Service) AddTask(planID string, task ListedTask) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if task.ID == "" {
		task.ID = fmt.Sprintf("urxgrxt7%06d", len(s.listed)+1)
	}
	s.addTask(s.plan(planID), task)
	return task.ID
}

// proceed takes a task to the state of its age. The caller holds mu.
func (s *Service) proceed(task *ListedTask, now time.Time) {
	if !task.proceeds {
		return
	}
	status, message := "finish", ""
	if s.TaskEnd != nil {
		status, message = s.TaskEnd(*task)
	}
	ends := s.TaskTime
	if status == "init" {
		ends /= 10
	}
	switch age := now.Sub(task.Created); {
	case age >= ends:
		task.proceeds, task.Status, task.ErrMessage = false, status, message
		if status == "finish" {
			task.Finished = task.Created.Add(ends)
		}
	case age >= s.TaskTime/10:
		task.Status = "running"
	default:
		task.Status = "checking"
	}
}

// addTask lists a task. The caller holds mu.
func (s *Service) addTask(p *plan, task ListedTask) {
	switch {
	case task.JobType == "" && task.SetName != "":
		task.JobType = IncrementalJob
	case task.JobType == "":
		task.JobType, task.SetName = FullJob, task.JobID
	}
	task.Status = cmp.Or(task.Status, "running")
	task.Way = cmp.Or(task.Way, "manual")
	task.DataFormat = cmp.Or(task.DataFormat, "Native")
	task.Size = cmp.Or(task.Size, 237837)
	task.plan = p
	p.tasks, p.sorted = append(p.tasks, &task), false
	s.listed[task.ID] = &task
}

// SetTaskStatus changes the status of a listed task; one that turns to finish is
// finished now. It panics if there is no such task.
func (s *Service) SetTaskStatus(id, status string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	task := s.listed[id]
	if task == nil {
		panic("dbs: no task " + id)
	}
	task.Status, task.proceeds = status, false
	if status == "finish" && task.Finished.IsZero() {
		task.Finished = time.Now()
	}
}

// ListedTasks returns the tasks that a plan lists.
func (s *Service) ListedTasks(planID string) []ListedTask {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.plans[planID]
	if p == nil {
		return nil
	}
	tasks := make([]ListedTask, len(p.tasks))
	now := time.Now()
	for i, task := range p.tasks {
		s.proceed(task, now)
		tasks[i] = *task
	}
	return tasks
}

// sort orders the lists of a plan by time. The caller holds mu.
func (p *plan) sort() {
	if p.sorted {
		return
	}
	slices.SortStableFunc(p.sets, func(a, b *Set) int { return a.Start.Compare(b.Start) })
	slices.SortStableFunc(p.tasks, func(a, b *ListedTask) int { return a.Created.Compare(b.Created) })
	p.sorted = true
}

// listedPlanID is a plan's ID in a task: the official sample has it without the
// prefix that the request has.
func listedPlanID(id string) string { return strings.TrimPrefix(id, "dbs") }
