// Package discovery finds finished backup sets that have no download task, and
// announces them to the source queue.
package discovery

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
)

// Answer is the outcome of a discovery run.
type Answer struct {
	DryRun bool         `json:"dryRun"`
	Plans  []PlanReport `json:"plans"` // in the order in which they were asked for
}

// PlanReport is what a discovery run found in one backup plan. The counts from
// WithTask to HeldBack add up to Listed; they are 0 if the plan was left alone.
type PlanReport struct {
	BackupPlanID   string `json:"BackupPlanId"`
	Listed         int    `json:"listed"` // sets, of those that were asked for
	WithTask       int    `json:"withTask"`
	Incomplete     int    `json:"incomplete"`
	Expired        int    `json:"expired"`
	BeforeLookback int    `json:"beforeLookback"`
	TaskFailed     int    `json:"taskFailed"`
	Announced      int    `json:"announced"` // in a dry run: would be
	HeldBack       int    `json:"heldBack"`

	// Sets names up to a hundred of them, those without a task first.
	Sets []ReportedSet `json:"sets,omitempty"`
	// NotListed names the sets that were asked for and are not in the plan's list.
	NotListed []string `json:"notListed,omitempty"`
	// Error says why the plan was left alone or its announcements failed.
	Error string `json:"error,omitempty"`
}

// ReportedSet is what a discovery run made of one backup set.
type ReportedSet struct {
	State                   string `json:"state"` // the name of its count in PlanReport
	BackupSetJobID          string `json:"BackupSetJobId"`
	BackupSetID             string `json:"BackupSetId"`
	BackupSetDownloadTaskID string `json:"BackupSetDownloadTaskId,omitempty"`
	BackupSetDownloadStatus string `json:"BackupSetDownloadStatus,omitempty"`
}

// Operations of MNS, as [DiscoveryError] names them.
const (
	operationDepth    = "GetQueueAttributes"
	operationAnnounce = "BatchSendMessage"
)

// DiscoveryError fails a discovery run that could not do all it was to do. What it
// did stays done, and the next run finds the rest.
type DiscoveryError struct { //nolint:revive // Function Compute reports the name without the package
	Plans    int // of the run
	Failures []Failure
}

// Failure says what failed in one backup plan.
type Failure struct {
	BackupPlanID string
	Operation    string // of DBS or MNS
	Err          error  // of the operation's last attempt
}

// text says what failed, and, for a refused permission, which action to allow. That
// comes before the service's own words, which may be cut off.
func (f Failure) text() string {
	action, allow := "dbs:"+f.Operation, ""
	switch f.Operation {
	case operationDepth:
		action = "mns:GetQueueAttributes"
	case operationAnnounce:
		action = "mns:SendMessage and mns:BatchSendMessage"
	}
	service := cloud.ErrorOf(f.Err)
	denied := service.Kind == cloud.OperatorFault && service.HTTPStatusCode == forbidden
	if denied && !strings.Contains(service.Message, action) {
		allow = "allow the function's role " + action + ": "
	}
	return fmt.Sprintf("backup plan %s: %s: %s%v", f.BackupPlanID, f.Operation, allow, f.Err)
}

// forbidden is the HTTP status of a request that RAM refuses.
const forbidden = 403

func (e *DiscoveryError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "discovery failed for %d of %d backup plans", len(e.Failures), e.Plans)
	for _, failure := range e.Failures[:min(len(e.Failures), maxNamed)] {
		s.WriteString("; " + events.Truncate(failure.text(), maxReason))
	}
	if more := len(e.Failures) - maxNamed; more > 0 {
		fmt.Fprintf(&s, "; and %d more", more)
	}
	s.WriteString(". The next run tries again")
	return s.String()
}

// Unwrap returns the error of the first failure.
func (e *DiscoveryError) Unwrap() error { return e.Failures[0].Err }

// Bounds of what an error and the answer name.
const (
	maxNamed   = 10  // plans, or sets of a line
	maxReason  = 350 // bytes for each plan
	maxEntries = 100 // sets of a plan
)

// lookbackMargin is how much longer a backup set may take to fill than discovery
// looks back, since it is not documented which time of a set StartTimestamp
// selects by.
const lookbackMargin = 720 * time.Hour

// maxAnnounced bounds the messages in the source queue: a run announces as many as
// are missing there.
const maxAnnounced = 10_000

// maxWarned bounds the log lines of a run that name one backup set each.
const maxWarned = 80

// discoveryRun is one run over several backup plans.
type discoveryRun struct {
	*Discoverer
	command    events.Discover
	now, since time.Time
	budget     attempt.Budget // Calls are for reading the lists, Publishing is for announcements
	caller     *attempt.Caller
	log        *attempt.Log

	mu      sync.Mutex // guards what follows
	counted bool       // the queue's depth is known, or cannot be had
	left    int        // announcements that the run may still make
	depth   error      // why the queue's depth cannot be had
	warned  int
}

// Config describes what to discover.
type Config struct {
	Source        events.Source
	BackupPlanIDs []string // for a run that is not asked for others
	LookbackHours int      // 0: [DefaultLookbackHours]
}

// DefaultLookbackHours is how far back discovery looks if nothing else is set.
const DefaultLookbackHours = 72

// Discoverer makes discovery runs. It is immutable and safe for concurrent use.
type Discoverer struct {
	config Config
	lists  Lister
	source Queue // nil: none
	limits *attempt.Limits
	log    *slog.Logger
}

// New returns a discoverer that reads lists and announces to source, which is nil (of
// no type) if there is none.
func New(config Config, lists Lister, source Queue, limits *attempt.Limits, log *slog.Logger) *Discoverer {
	config.LookbackHours = cmp.Or(config.LookbackHours, DefaultLookbackHours)
	return &Discoverer{config: config, lists: lists, source: source, limits: limits, log: log}
}

// Run finds the finished backup sets of the plans that command asks for which no
// download task was made for, and announces them to the source queue. The plans are
// independent: what fails in one is in the error, a [*DiscoveryError], and in the
// report of that plan alone. An [*events.Error] says what the command or the settings
// lack. Run returns before the deadline of ctx, without which it goes on for as long as
// a service fails, and leaves no goroutine behind. It keeps no state: whatever it
// misses, the next run finds.
func (d *Discoverer) Run(ctx context.Context, requestID string, command events.Discover, timer bool) (Answer, error) {
	started := time.Now()
	log := attempt.NewLog(d.log.With("requestId", requestID))
	answer := Answer{DryRun: command.DryRun, Plans: []PlanReport{}}
	plans := d.plans(command)
	switch {
	case len(plans) == 0 && timer:
		log.WarnContext(ctx, "nothing to discover: BACKUP_PLAN_IDS is empty")
		return answer, nil
	case len(plans) == 0:
		return answer, &events.Error{Code: events.CodeNoBackupPlan,
			Message: "name the backup plans in BackupPlanIds, or in the setting BACKUP_PLAN_IDS"}
	case d.source == nil && !command.DryRun:
		return answer, &events.Error{Code: events.CodeNoSourceQueue,
			Message: "set SOURCE_QUEUE, which names the queue that takes announcements; DryRun needs none"}
	}

	budget, cancel := attempt.NewBudget(ctx, 0)
	defer cancel()
	run := &discoveryRun{
		Discoverer: d, command: command, now: started, since: started.Add(-d.lookback(command)),
		budget: budget, log: log,
		caller: &attempt.Caller{Gate: d.limits.NewGate(d.limits.Concurrency), Starting: budget.Calls, Running: budget.Calls,
			Timeout: attempt.CallTimeout, Log: log, Service: attempt.DBS},
	}
	reports, failures := run.do(plans)
	answer.Plans = reports

	var total PlanReport
	for _, report := range reports {
		total.Listed += report.Listed
		total.Announced += report.Announced
		total.HeldBack += report.HeldBack
		total.TaskFailed += report.TaskFailed
	}
	attributes := append([]slog.Attr{
		slog.Bool("dryRun", answer.DryRun), slog.Int("plans", len(plans)), slog.Int("plansFailed", len(failures)),
		slog.Int("listed", total.Listed), slog.Int("taskFailed", total.TaskFailed),
		slog.Int("announced", total.Announced), slog.Int("heldBack", total.HeldBack),
		slog.Int64("durationMs", time.Since(started).Milliseconds()),
	}, log.Counts()...)
	if len(failures) > 0 {
		err := &DiscoveryError{Plans: len(plans), Failures: failures}
		log.LogAttrs(ctx, slog.LevelWarn, "discovery failed", append(attributes, slog.String("error", err.Error()))...)
		return answer, err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "discovery done", attributes...)
	return answer, nil
}

// plans returns the IDs of the plans to look at, each once.
func (d *Discoverer) plans(command events.Discover) []string {
	asked := command.BackupPlanIDs
	if len(asked) == 0 {
		asked = d.config.BackupPlanIDs
	}
	var plans []string
	for _, id := range asked {
		if !slices.Contains(plans, id) {
			plans = append(plans, id)
		}
	}
	return plans
}

// lookback returns how far back the run looks. Sets that are asked for by name are
// looked for as far back as there may be any.
func (d *Discoverer) lookback(command events.Discover) time.Duration {
	hours := cmp.Or(command.LookbackHours, d.config.LookbackHours)
	if command.LookbackHours == 0 && len(command.BackupSetIDs) > 0 {
		hours = events.MaxLookbackHours
	}
	return time.Duration(hours) * time.Hour
}

// do looks at all plans at once, and returns their reports in order. They start in
// an order that changes, so that none is always the last in line.
func (r *discoveryRun) do(plans []string) ([]PlanReport, []Failure) {
	workers := r.limits.Concurrency
	if len(plans) > 1 {
		workers = max(1, workers/2) // a plan whose pages hang leaves places to the others
	}
	reports := make([]PlanReport, len(plans))
	failed := make([]*Failure, len(plans))
	sets, tasks := newRoom(maxRows), newRoom(maxRows)
	var running sync.WaitGroup
	for _, i := range rand.Perm(len(plans)) { //nolint:gosec // G404: an order needs no secret
		running.Go(func() {
			p := &planRun{discoveryRun: r, reader: planReader{
				lists: r.lists, caller: r.caller, workers: workers, plan: plans[i],
				sets: holding{room: sets}, tasks: holding{room: tasks},
			}}
			reports[i], failed[i] = p.do()
		})
	}
	running.Wait()
	if more := r.warned - maxWarned; more > 0 {
		r.log.LogAttrs(r.budget.Calls, slog.LevelWarn, "more downloads failed than are named here", slog.Int("count", more))
	}
	var failures []Failure
	for _, failure := range failed {
		if failure != nil {
			failures = append(failures, *failure)
		}
	}
	return reports, failures
}

// mns returns a caller for the source queue.
func (r *discoveryRun) mns() *attempt.Caller {
	return &attempt.Caller{Gate: attempt.Open{}, Starting: r.budget.Publishing, Running: r.budget.Publishing,
		Timeout: attempt.PublishTimeout, Log: r.log, Service: attempt.MNS}
}

// allow takes up to n of the announcements that the run may make: what the source
// queue holds counts against them, so that a queue which is not emptied does not
// grow without end. It asks for the queue's depth once in a run.
func (r *discoveryRun) allow(n int) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.counted {
		r.counted, r.left = true, maxAnnounced
		if !r.command.DryRun {
			r.depth = r.mns().Do(func(ctx context.Context) error {
				depth, err := r.source.Depth(ctx)
				r.left = max(0, maxAnnounced-depth)
				return err
			}, slog.String("operation", operationDepth))
		}
	}
	if r.depth != nil {
		return 0, r.depth
	}
	n = min(n, r.left)
	r.left -= n
	return n, nil
}

// mayWarn reports whether one more line may name a single backup set.
func (r *discoveryRun) mayWarn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warned++
	return r.warned <= maxWarned
}

// failureOf returns what failed in a plan, and nothing if err is nil.
func failureOf(plan, operation string, err error) *Failure {
	if err == nil {
		return nil
	}
	return &Failure{BackupPlanID: plan, Operation: operation, Err: err}
}
