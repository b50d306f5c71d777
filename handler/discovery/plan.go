package discovery

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/outbox"
)

// planRun is a discovery run in one backup plan.
type planRun struct {
	*discoveryRun
	reader planReader
	sets   *setList
	tasks  *taskList
}

// do compares the plan's lists and announces the difference. The sets are read
// before the tasks: a task that is made meanwhile is seen. A plan whose lists
// cannot be had whole is left alone.
func (p *planRun) do() (PlanReport, *Failure) {
	started := time.Now()
	p.sets = newSetList(p.now, p.since, p.command.BackupSetIDs)
	defer p.leaveRooms()
	query := BackupSetQuery{Start: p.since.Add(-lookbackMargin), End: p.now.Add(time.Hour)}
	operation, err := operationSets, p.reader.readSets(p.budget.Calls, query, p.sets)
	if err == nil {
		operation = operationTasks
		p.tasks, err = p.reader.readTasks(p.budget.Calls, p.sets)
	}
	if err != nil {
		failure := failureOf(p.reader.plan, operation, err)
		p.logFailure("backup plan left alone: a list cannot be read whole", failure)
		return PlanReport{BackupPlanID: p.reader.plan, Error: events.Truncate(failure.text(), maxReason)}, failure
	}

	wanted := p.decide()
	failure := p.announce(wanted)
	report := p.report()
	if failure != nil {
		report.Error = events.Truncate(failure.text(), maxReason)
		p.logFailure("announcements held back: they cannot be sent", failure)
	}
	p.logFindings(report)
	p.log.LogAttrs(p.budget.Calls, slog.LevelInfo, "backup plan discovered",
		slog.String("backupPlanId", report.BackupPlanID),
		slog.Bool("dryRun", p.command.DryRun),
		slog.Int("listed", report.Listed),
		slog.Int("withTask", report.WithTask),
		slog.Int("incomplete", report.Incomplete),
		slog.Int("expired", report.Expired),
		slog.Int("beforeLookback", report.BeforeLookback),
		slog.Int("taskFailed", report.TaskFailed),
		slog.Int("announced", report.Announced),
		slog.Int("heldBack", report.HeldBack),
		slog.Int("notListed", len(report.NotListed)),
		slog.Int("tasks", len(p.tasks.ids)),
		slog.Int64("durationMs", time.Since(started).Milliseconds()))
	return report, failure
}

// leaveRooms gives back what the plan holds of the rooms that the plans share.
func (p *planRun) leaveRooms() {
	p.reader.tasks.leave()
	p.reader.sets.leave()
}

// maxFailures is how many downloads of one set may fail before it is announced
// again only by name.
const maxFailures = 3

// decide settles the state of each set, and returns those to be announced, the
// oldest first. They are held back until they are announced.
func (p *planRun) decide() []*listedSet {
	var wanted []*listedSet
	for i := range p.sets.sets {
		set := &p.sets.sets[i]
		switch {
		case set.task.downloads:
			set.state = stateWithTask
		case set.state != stateHeldBack:
		case set.task.failed > 0 && !p.triesAgain(set):
			set.state = stateTaskFailed
			p.warnOfFailure(set)
		default:
			if set.task.failed > 0 {
				p.warnOfFailure(set)
			}
			wanted = append(wanted, set)
		}
	}
	slices.SortFunc(wanted, func(a, b *listedSet) int {
		return cmp.Or(cmp.Compare(a.age(), b.age()),
			strings.Compare(a.key.setID, b.key.setID), strings.Compare(a.key.jobID, b.key.jobID))
	})
	return wanted
}

// triesAgain reports whether the run announces a set whose download failed.
func (p *planRun) triesAgain(set *listedSet) bool {
	return p.command.RetryFailed && (set.task.failed < maxFailures || p.sets.only[set.key.setID])
}

func (p *planRun) warnOfFailure(set *listedSet) {
	if !p.mayWarn() {
		return
	}
	p.log.LogAttrs(p.budget.Calls, slog.LevelWarn, "the download of a backup set failed",
		slog.String("backupPlanId", p.reader.plan),
		slog.String("backupSetId", set.key.jobID),
		slog.String("backupSetName", set.key.setID),
		slog.String("taskId", set.task.id),
		slog.String("taskStatus", events.Truncate(set.task.status, maxShown)),
		slog.Int("failedTasks", set.task.failed))
}

// announce sends the sets to the source queue, one batch after the other, so that
// what does not get there is the newest.
func (p *planRun) announce(wanted []*listedSet) *Failure {
	if len(wanted) == 0 {
		return nil
	}
	allowed, err := p.allow(len(wanted))
	if err != nil {
		return failureOf(p.reader.plan, operationDepth, err)
	}
	if more := len(wanted) - allowed; more > 0 {
		p.log.LogAttrs(p.budget.Calls, slog.LevelWarn, "announcements held back: the source queue is to hold no more",
			slog.String("backupPlanId", p.reader.plan), slog.Int("heldBack", more), slog.Int("limit", maxAnnounced))
	}
	wanted = wanted[:allowed]
	if p.command.DryRun {
		for _, set := range wanted {
			set.state = stateAnnounced
		}
		return nil
	}
	out := announcer{outbox: outbox.New(p.budget, p.source, p.log)}
	for _, set := range wanted {
		out.add(p.announcement(set), set)
	}
	out.flush()
	return failureOf(p.reader.plan, operationAnnounce, out.failure)
}

func (p *planRun) announcement(set *listedSet) string {
	return events.Announcement{
		Region:       p.config.Source.Region,
		AccountID:    p.config.Source.AccountID,
		BackupPlanID: p.reader.plan,
		FailedTaskID: set.task.id,
		Time:         time.Now(),
		Set: events.AnnouncedSet{
			BackupSetJobID:       set.key.jobID,
			BackupSetID:          set.key.setID,
			BackupStatus:         events.StatusCompleted,
			StartTime:            set.start,
			EndTime:              set.end,
			BackupSetExpiredTime: set.expires,
			BackupSize:           set.size,
			StorageMethod:        set.storage,
		},
	}.Encode()
}

// announcer sends announcements through an outbox, a batch at a time.
type announcer struct {
	outbox          *outbox.Outbox
	messages, bytes int // in the batch

	mu      sync.Mutex
	failure error // the first
	stopped bool  // what failed would fail for every message
}

func (a *announcer) add(body string, set *listedSet) {
	if a.messages == outbox.MaxMessages || a.bytes+len(body) > outbox.MaxBytes {
		a.flush()
	}
	a.mu.Lock()
	stopped := a.stopped
	a.mu.Unlock()
	if stopped {
		return
	}
	a.messages++
	a.bytes += len(body)
	a.outbox.Add(outbox.Message{Body: body}, func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if err == nil {
			set.state = stateAnnounced
			return
		}
		if a.failure == nil {
			a.failure = err
		}
		a.stopped = a.stopped || cloud.KindOf(err) != cloud.Permanent
	})
}

func (a *announcer) flush() {
	a.outbox.Flush()
	a.messages, a.bytes = 0, 0
}

// report counts and names what became of the sets.
func (p *planRun) report() PlanReport {
	report := PlanReport{BackupPlanID: p.reader.plan, Listed: len(p.sets.sets)}
	counts := map[setState]*int{
		stateWithTask: &report.WithTask, stateIncomplete: &report.Incomplete, stateExpired: &report.Expired,
		stateBeforeLookback: &report.BeforeLookback, stateTaskFailed: &report.TaskFailed,
		stateAnnounced: &report.Announced, stateHeldBack: &report.HeldBack,
	}
	listed := make(map[string]bool)
	for i := range p.sets.sets {
		set := &p.sets.sets[i]
		*counts[set.state]++
		if p.sets.only[set.key.setID] {
			listed[set.key.setID] = true
		}
	}
	for _, id := range p.command.BackupSetIDs {
		if !listed[id] {
			report.NotListed = append(report.NotListed, id)
		}
	}
	states := []setState{stateHeldBack, stateAnnounced, stateTaskFailed, stateIncomplete, stateExpired, stateBeforeLookback, stateWithTask}
	for _, hasTask := range []bool{false, true} {
		for _, state := range states {
			report.Sets = p.name(report.Sets, state, hasTask)
		}
	}
	return report
}

// name appends the sets in the given state, with a task of any kind or without, as
// long as the answer has room.
func (p *planRun) name(named []ReportedSet, state setState, hasTask bool) []ReportedSet {
	for i := 0; i < len(p.sets.sets) && len(named) < maxEntries; i++ {
		set := &p.sets.sets[i]
		if set.state == state && (set.task.id != "") == hasTask {
			named = append(named, ReportedSet{
				State:                   string(state),
				BackupSetJobID:          set.key.jobID,
				BackupSetID:             set.key.setID,
				BackupSetDownloadTaskID: set.task.id,
				BackupSetDownloadStatus: set.task.status,
			})
		}
	}
	return named
}

// logFindings writes what a person should look at, a line for each kind.
func (p *planRun) logFindings(report PlanReport) {
	var unfinished, missed []setKey
	for i := range p.sets.sets {
		set := &p.sets.sets[i]
		switch {
		case set.state == stateIncomplete && set.unfinished:
			unfinished = append(unfinished, set.key)
		case set.state == stateBeforeLookback && p.tasks.oldest != 0 && set.end > p.tasks.oldest:
			missed = append(missed, set.key)
		}
	}
	p.warnOfSets("backup sets ended before the lookback and have no task: name them in BackupSetIds, or look back further",
		missed, len(missed))
	p.warnOfSets("backup sets have been UNCOMPLETED for more than a day", unfinished, len(unfinished))
	p.warnOfSets("backup sets have the name of an earlier one: neither a request nor the task list can tell them apart",
		p.sets.restarted, p.sets.restarts)
	if p.sets.nameless > 0 {
		p.log.LogAttrs(p.budget.Calls, slog.LevelWarn,
			"backup sets have no usable BackupSetJobId or BackupSetId, and cannot be asked for",
			slog.String("backupPlanId", p.reader.plan), slog.Int("count", p.sets.nameless))
	}
	if p.tasks.doubtful() {
		p.log.LogAttrs(p.budget.Calls, slog.LevelError,
			"download tasks of the lookback belong to no listed backup set: tasks may name sets in an unknown way",
			slog.String("backupPlanId", p.reader.plan),
			slog.Int("tasks", p.tasks.recent),
			slog.Int("listed", report.Listed))
	}
}

// warnOfSets writes one line about sets of which there should be none; it names
// the first few.
func (p *planRun) warnOfSets(text string, sets []setKey, count int) {
	if count == 0 {
		return
	}
	var names []string
	for _, key := range sets[:min(len(sets), maxNamed)] {
		names = append(names, events.Truncate(fmt.Sprintf("%s/%s", key.jobID, key.setID), maxShown))
	}
	p.log.LogAttrs(p.budget.Calls, slog.LevelWarn, text,
		slog.String("backupPlanId", p.reader.plan),
		slog.Int("count", count),
		slog.String("sets", strings.Join(names, ", ")))
}

// logFailure writes why the plan is not done: an ERROR if the next run fails as
// well unless a person does something.
func (p *planRun) logFailure(text string, failure *Failure) {
	level := slog.LevelWarn
	if cloud.KindOf(failure.Err) != cloud.Transient {
		level = slog.LevelError
	}
	attributes := []slog.Attr{
		slog.String("backupPlanId", failure.BackupPlanID),
		slog.String("operation", failure.Operation),
	}
	var service *cloud.Error
	if errors.As(failure.Err, &service) {
		attributes = append(attributes, slog.String("errCode", events.Truncate(service.Code, events.MaxAnswerID)))
	}
	p.log.LogAttrs(p.budget.Calls, level, text, append(attributes, slog.String("error", failure.text()))...)
}
