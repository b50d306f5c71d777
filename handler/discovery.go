package handler

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
	"increment-backup-download/handler/cloud"
)

// Discovery is what a discovery run answers.
type Discovery struct {
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
type DiscoveryError struct {
	Plans    int // of the run
	Failures []DiscoveryFailure
}

// DiscoveryFailure says what failed in one backup plan.
type DiscoveryFailure struct {
	BackupPlanID string
	Operation    string // of DBS or MNS
	Err          error  // of the operation's last attempt
}

// text says what failed, and, for a refused permission, which action to allow. That
// comes before the service's own words, which may be cut off.
func (f DiscoveryFailure) text() string {
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
	*Handler
	command    events.Discover
	now, since time.Time
	calls      context.Context // for reading the lists
	publishing context.Context // for announcements
	caller     *caller
	log        *slog.Logger

	mu      sync.Mutex // guards what follows
	counted bool       // the queue's depth is known, or cannot be had
	left    int        // announcements that the run may still make
	depth   error      // why the queue's depth cannot be had
	warned  int
}

// Discover finds the finished backup sets of the plans that command asks for
// which no download task was made for, and announces them to the source queue.
// command.Discover must be set. The plans are independent: what fails in one is in
// the error, a [*DiscoveryError], and in the report of that plan alone. An
// [*events.Error] in an [*EventError] says what the command or the settings lack.
// Discover returns before the deadline of ctx, without which it goes on for as long
// as a service fails, and leaves no goroutine behind. It keeps no state: whatever
// it misses, the next run finds.
func (h *Handler) Discover(ctx context.Context, requestID string, command events.Command) (Discovery, error) {
	started := time.Now()
	log := h.log.With("requestId", requestID)
	answer := Discovery{DryRun: command.Discover.DryRun, Plans: []PlanReport{}}
	plans := h.plans(command.Discover)
	switch {
	case len(plans) == 0 && command.Timer:
		log.WarnContext(ctx, "nothing to discover: BACKUP_PLAN_IDS is empty")
		return answer, nil
	case len(plans) == 0:
		return answer, &EventError{Reason: &events.Error{Code: events.CodeNoBackupPlan,
			Message: "name the backup plans in BackupPlanIds, or in the setting BACKUP_PLAN_IDS"}}
	case h.ports.Source == nil && !command.Discover.DryRun:
		return answer, &EventError{Reason: &events.Error{Code: events.CodeNoSourceQueue,
			Message: "set SOURCE_QUEUE, which names the queue that takes announcements; DryRun needs none"}}
	}

	calls, publishing, cancel := withBudget(ctx, 0)
	defer cancel()
	run := &discoveryRun{
		Handler: h, command: *command.Discover, now: started, since: started.Add(-h.lookback(command.Discover)),
		calls: calls, publishing: publishing, log: log,
		caller: &caller{starting: calls, running: calls, pacer: &pacer{limiter: h.limiter}, log: &callLog{log: log},
			places: make(chan struct{}, h.config.Concurrency)},
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
	attributes := []slog.Attr{
		slog.Bool("dryRun", answer.DryRun), slog.Int("plans", len(plans)), slog.Int("plansFailed", len(failures)),
		slog.Int("listed", total.Listed), slog.Int("taskFailed", total.TaskFailed),
		slog.Int("announced", total.Announced), slog.Int("heldBack", total.HeldBack),
		slog.Int64("attempts", run.caller.log.attempts.Load()),
		slog.Int64("throttled", run.caller.log.throttled.Load()),
		slog.Int64("durationMs", time.Since(started).Milliseconds()),
	}
	if len(failures) > 0 {
		err := &DiscoveryError{Plans: len(plans), Failures: failures}
		log.LogAttrs(ctx, slog.LevelWarn, "discovery failed", append(attributes, slog.String("error", err.Error()))...)
		return answer, err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "discovery done", attributes...)
	return answer, nil
}

// plans returns the IDs of the plans to look at, each once.
func (h *Handler) plans(command *events.Discover) []string {
	asked := command.BackupPlanIDs
	if len(asked) == 0 {
		asked = h.config.BackupPlanIDs
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
func (h *Handler) lookback(command *events.Discover) time.Duration {
	hours := cmp.Or(command.LookbackHours, h.config.LookbackHours)
	if command.LookbackHours == 0 && len(command.BackupSetIDs) > 0 {
		hours = events.MaxLookbackHours
	}
	return time.Duration(hours) * time.Hour
}

// do looks at all plans at once, and returns their reports in order. They start in
// an order that changes, so that none is always the last in line.
func (r *discoveryRun) do(plans []string) ([]PlanReport, []DiscoveryFailure) {
	workers := r.config.Concurrency
	if len(plans) > 1 {
		workers = max(1, workers/2) // a plan whose pages hang leaves places to the others
	}
	reports := make([]PlanReport, len(plans))
	failed := make([]*DiscoveryFailure, len(plans))
	turns := newTurns(len(plans))
	sets, tasks, items := newRoom(maxRows), newRoom(maxRows), newRoom(maxShelved)
	var running sync.WaitGroup
	for _, i := range rand.Perm(len(plans)) { //nolint:gosec // G404: an order needs no secret
		running.Go(func() {
			p := &planRun{discoveryRun: r, items: items, reader: planReader{
				lists: r.ports.Lists, caller: r.caller, workers: workers, plan: plans[i], turns: turns,
				sets: holding{room: sets}, tasks: holding{room: tasks},
			}}
			reports[i], failed[i] = p.do()
		})
	}
	running.Wait()
	if more := r.warned - maxWarned; more > 0 {
		r.log.LogAttrs(r.calls, slog.LevelWarn, "more downloads failed than are named here", slog.Int("count", more))
	}
	var failures []DiscoveryFailure
	for _, failure := range failed {
		if failure != nil {
			failures = append(failures, *failure)
		}
	}
	return reports, failures
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
			attempts := 0
			r.depth = retry(r.publishing, publishTimeout, func(ctx context.Context) error {
				depth, err := r.ports.Source.Depth(ctx)
				r.left = max(0, maxAnnounced-depth)
				return err
			}, func(err error, wait time.Duration) {
				attempts++
				r.caller.log.repeat("calling MNS again", attempts, wait, err, slog.String("operation", operationDepth))
			})
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
func failureOf(plan, operation string, err error) *DiscoveryFailure {
	if err == nil {
		return nil
	}
	return &DiscoveryFailure{BackupPlanID: plan, Operation: operation, Err: err}
}
