// Package discovery finds finished backup sets that have no download task, and
// announces them to the source queue.
package discovery

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
)

// Config describes what to discover.
type Config struct {
	Source        events.Source
	BackupPlanIDs []string // for a run that is not asked for others; events.AllPlans alone: all of the region
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

// New returns a discoverer that reads lists and announces to source, which is an
// untyped nil if there is none.
func New(config Config, lists Lister, source Queue, limits *attempt.Limits, log *slog.Logger) *Discoverer {
	config.LookbackHours = cmp.Or(config.LookbackHours, DefaultLookbackHours)
	return &Discoverer{config: config, lists: lists, source: source, limits: limits, log: log}
}

// Run finds the finished backup sets without a download task, in the plans that command
// names, and announces them to the source queue. The plans are independent: a failure of
// one is in the error, a [*DiscoveryError], and in the report of that plan alone. An
// [*events.Error] says what the command or the settings lack. Run returns before the
// deadline of ctx; without a deadline it goes on for as long as a service fails. It
// leaves no goroutine behind and keeps no state: what one run misses, the next one finds.
func (d *Discoverer) Run(ctx context.Context, requestID string, command events.Discover, timer bool) (Answer, error) {
	log := d.log.With("requestId", requestID)
	answer := Answer{DryRun: command.DryRun, Plans: []PlanReport{}}
	plans := command.BackupPlanIDs
	if len(plans) == 0 {
		plans = d.config.BackupPlanIDs
	}
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

	invocation, cancel := attempt.NewInvocation(ctx, 0, log)
	defer cancel()
	r := d.newRun(invocation, command)
	var err error
	if slices.Equal(plans, []string{events.AllPlans}) {
		if plans, err = r.readPlans(invocation.Calls); err != nil {
			err = &DiscoveryError{Failures: []Failure{{Operation: operationPlans, Err: err}}}
		} else if len(plans) == 0 {
			log.WarnContext(ctx, "nothing to discover: no backup plan of the region has begun and backs up incrementally")
		}
	}
	if err == nil {
		answer.Plans, err = r.discover(plans)
	}
	r.logDone(answer, err)
	return answer, err
}

// newRun returns a run that starts now. It looks back as far as the command or else the
// settings say; for sets that are asked for by name, as far as possible.
func (d *Discoverer) newRun(invocation *attempt.Invocation, command events.Discover) *run {
	hours := cmp.Or(command.LookbackHours, d.config.LookbackHours)
	if command.LookbackHours == 0 && len(command.BackupSetIDs) > 0 {
		hours = events.MaxLookbackHours
	}
	now, pacer := time.Now(), d.limits.NewPacer(d.limits.Concurrency)
	r := &run{
		config: d.config, command: command, lists: d.lists, source: d.source,
		now: now, since: now.Add(-time.Duration(hours) * time.Hour),
		concurrency: d.limits.Concurrency, invocation: invocation, log: invocation.Log,
		dbs: invocation.CallDBS(pacer), pause: pacer.Pause, large: make(chan struct{}, 1),
	}
	r.depth = sync.OnceValues(r.askDepth)
	return r
}

// run is one discovery run over several backup plans.
type run struct {
	config      Config
	command     events.Discover
	lists       Lister
	source      Queue
	now, since  time.Time // since: now less the lookback
	concurrency int
	invocation  *attempt.Invocation
	dbs         *attempt.Caller
	pause       func(context.Context) // waits until DBS lets calls start
	log         *slog.Logger
	large       chan struct{}       // has a place for the plan that reads a large list
	depth       func() (int, error) // of the source queue, asked for once
	warned      atomic.Int64        // failed downloads

	mu      sync.Mutex // guards allowed
	allowed int        // announcements
}

// plansAtOnce is how many plans are looked at together. Each reads a part of the pages
// that may be read at once, so that a plan whose pages hang leaves places to the others.
const plansAtOnce = 4

// discover looks at a few plans at a time, and returns their reports in order. They
// start in an order that changes, so that none is always the last in line. Each reads
// its lists within a share of the time; a plan that cannot gets one more share after
// the others. A share starts when calls may start: a pause is of all plans.
func (r *run) discover(plans []string) ([]PlanReport, error) {
	reports, failures := make([]PlanReport, len(plans)), make([]Failure, len(plans))
	again := make([]bool, len(plans))
	waiting := make(chan int, 2*len(plans))
	var untaken atomic.Int64 // plans: what waiting holds, exact also while several are taken
	untaken.Store(int64(len(plans)))
	for _, i := range rand.Perm(len(plans)) { //nolint:gosec // G404: an order needs no secret
		waiting <- i
	}
	atOnce := max(1, min(plansAtOnce, len(plans), r.concurrency))
	look := func(i int) {
		left := int(untaken.Add(-1)) + 1
		r.pause(r.invocation.Calls)
		share := r.invocation.Calls
		if deadline, ok := share.Deadline(); ok && left > atOnce {
			part := time.Until(deadline) * time.Duration(atOnce) / time.Duration(left)
			ctx, cancel := context.WithTimeoutCause(share, part, errShareUsedUp)
			defer cancel()
			share = ctx
		}
		p := &planRun{run: r, id: plans[i], started: time.Now()}
		failure := p.read(share, max(1, r.concurrency/atOnce))
		if failure.Err != nil && left > atOnce && !again[i] && cloud.KindOf(failure.Err) == cloud.Transient {
			again[i] = true
			untaken.Add(1)
			waiting <- i
		} else {
			reports[i], failures[i] = p.finish(failure)
		}
		if p.holdsPlace {
			<-r.large
		}
	}
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for {
				select {
				case i := <-waiting:
					look(i)
				default:
					return
				}
			}
		})
	}
	running.Wait()
	if more := r.warned.Load() - maxWarned; more > 0 {
		r.log.LogAttrs(context.Background(), slog.LevelWarn, "more downloads failed than are named here", slog.Int64("count", more))
	}
	failures = slices.DeleteFunc(failures, func(f Failure) bool { return f.Err == nil })
	if len(failures) > 0 {
		return reports, &DiscoveryError{Plans: len(plans), Failures: failures}
	}
	return reports, nil
}

// errShareUsedUp is the cause with which a plan's share of the time ends.
var errShareUsedUp = errors.New("the plan's share of the time of the run is used up")

// maxAnnounced bounds the messages in the source queue: a run announces as many as
// are missing there.
const maxAnnounced = 10_000

// allow takes up to n of the announcements that the run may make: what the source
// queue holds counts against them, so that a queue which is not emptied does not
// grow without end.
func (r *run) allow(n int) (int, error) {
	depth, err := r.depth()
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n = min(n, max(0, maxAnnounced-depth-r.allowed))
	r.allowed += n
	return n, nil
}

// askDepth returns how many messages the source queue holds.
func (r *run) askDepth() (depth int, err error) {
	if r.command.DryRun {
		return 0, nil
	}
	err = r.invocation.CallMNS().Do(func(ctx context.Context) (err error) {
		depth, err = r.source.Depth(ctx)
		return err
	}, slog.String("operation", operationDepth))
	return depth, err
}

// logDone logs the outcome of the run.
func (r *run) logDone(answer Answer, err error) {
	var total PlanReport
	for _, report := range answer.Plans {
		total.Listed += report.Listed
		total.Announced += report.Announced
		total.HeldBack += report.HeldBack
		total.TaskFailed += report.TaskFailed
	}
	level, text, plansFailed := slog.LevelInfo, "discovery done", 0
	var failed *DiscoveryError
	if errors.As(err, &failed) {
		level, text, plansFailed = slog.LevelWarn, "discovery failed", len(failed.Failures)
		if failed.Plans == 0 && cloud.KindOf(err) != cloud.Transient { // no plan has an ERROR of its own
			level = slog.LevelError
		}
	}
	attributes := append([]slog.Attr{
		slog.Bool("dryRun", answer.DryRun), slog.Int("plans", len(answer.Plans)), slog.Int("plansFailed", plansFailed),
		slog.Int("listed", total.Listed), slog.Int("taskFailed", total.TaskFailed),
		slog.Int("announced", total.Announced), slog.Int("heldBack", total.HeldBack),
		slog.Int64("durationMs", time.Since(r.now).Milliseconds()),
	}, r.invocation.Counts()...)
	if err != nil {
		attributes = append(attributes, slog.String("error", err.Error()))
	}
	r.log.LogAttrs(context.Background(), level, text, attributes...)
}
