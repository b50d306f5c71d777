package discovery

import (
	"cmp"
	"context"
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
	run        *run
	id         string // BackupPlanId
	started    time.Time
	holdsPlace bool // of the plan that reads a large list
	sets       *setList
	tasks      *taskList
}

// finish announces the difference of the plan's lists. A plan whose lists cannot be had
// whole is left alone.
func (p *planRun) finish(failure Failure) (PlanReport, Failure) {
	report := PlanReport{BackupPlanID: p.id}
	text := "backup plan left alone: a list cannot be read whole"
	if failure.Err == nil {
		failure = p.announce(p.decide())
		text = "announcements held back: they cannot be sent"
		report = p.report()
		p.logFindings()
		p.logReport(report)
	}
	if failure.Err != nil {
		report.Error = failure.text()
		p.logFailure(text, failure)
	}
	return report, failure
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
		case set.tasks.lasts:
			set.state = stateWithTask
		case set.state != stateHeldBack:
		case set.tasks.failed > 0:
			p.warnOfFailure(set)
			if p.run.command.RetryFailed && (set.tasks.failed < maxFailures || p.sets.only[set.key.setID]) {
				wanted = append(wanted, set)
			} else {
				set.state = stateTaskFailed
			}
		default:
			wanted = append(wanted, set)
		}
	}
	slices.SortFunc(wanted, func(a, b *listedSet) int {
		return cmp.Or(cmp.Compare(a.age(), b.age()),
			strings.Compare(a.key.setID, b.key.setID), strings.Compare(a.key.jobID, b.key.jobID))
	})
	return wanted
}

func (p *planRun) warnOfFailure(set *listedSet) {
	if p.run.warned.Add(1) <= maxWarned {
		p.log(slog.LevelWarn, "the download of a backup set failed",
			slog.String("backupSetId", set.key.jobID), slog.String("backupSetName", set.key.setID),
			slog.String("taskId", set.tasks.id), slog.String("taskStatus", set.tasks.status),
			slog.Int("failedTasks", set.tasks.failed))
	}
}

// announce sends the sets to the source queue, one batch after the other, so that
// what does not get there is the newest.
func (p *planRun) announce(wanted []*listedSet) Failure {
	if len(wanted) == 0 {
		return Failure{}
	}
	allowed, err := p.run.allow(len(wanted))
	if err != nil {
		return Failure{p.id, operationDepth, err}
	}
	if more := len(wanted) - allowed; more > 0 {
		p.log(slog.LevelWarn, "announcements held back: the source queue is at its limit",
			slog.Int("heldBack", more), slog.Int("limit", maxAnnounced))
	}
	wanted = wanted[:allowed]
	if p.run.command.DryRun {
		for _, set := range wanted {
			set.state = stateAnnounced
		}
		return Failure{}
	}
	out := outbox.New(p.run.invocation, p.run.source)
	var mu sync.Mutex // guards failure
	var failure error // the first
	for batch := range slices.Chunk(wanted, outbox.MaxMessages) {
		for _, set := range batch {
			out.Add(outbox.Message{Body: p.announcement(set)}, func(err error) {
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					set.state = stateAnnounced
					return
				}
				failure = cmp.Or(failure, err)
			})
		}
		out.Flush()
	}
	return Failure{p.id, operationAnnounce, failure}
}

func (p *planRun) announcement(set *listedSet) string {
	source := p.run.config.Source
	return events.Announcement{
		Region: source.Region, AccountID: source.AccountID, BackupPlanID: p.id,
		FailedTaskID: set.tasks.id, Time: time.Now(),
		Set: events.AnnouncedSet{
			BackupSetJobID: set.key.jobID, BackupSetID: set.key.setID, BackupStatus: events.StatusCompleted,
			StartTime: set.start, EndTime: set.end, BackupSetExpiredTime: set.expires,
			BackupSize: set.size, StorageMethod: set.storage,
		},
	}.Encode()
}

// report counts and names what became of the sets.
func (p *planRun) report() PlanReport {
	report := PlanReport{BackupPlanID: p.id, Listed: len(p.sets.sets)}
	counts := map[setState]*int{
		stateWithTask: &report.WithTask, stateIncomplete: &report.Incomplete, stateExpired: &report.Expired,
		stateBeforeLookback: &report.BeforeLookback, stateTaskFailed: &report.TaskFailed,
		stateAnnounced: &report.Announced, stateHeldBack: &report.HeldBack,
	}
	var underWay int64
	for i := range p.sets.sets {
		set := &p.sets.sets[i]
		*counts[set.state]++
		if set.tasks.finished {
			report.Downloaded++
		}
		if made := set.tasks.underWay; made != 0 && (underWay == 0 || made < underWay) {
			underWay = made
		}
	}
	report.OldestDownloadMinutes = p.age(underWay)
	for _, id := range p.run.command.BackupSetIDs {
		if !p.sets.only[id] {
			report.NotListed = append(report.NotListed, id)
		}
	}
	for _, hasTask := range []bool{false, true} {
		for _, state := range []setState{stateHeldBack, stateAnnounced, stateTaskFailed, stateIncomplete, stateExpired,
			stateBeforeLookback, stateWithTask} {
			for i := 0; i < len(p.sets.sets) && len(report.Sets) < maxEntries; i++ {
				if set := &p.sets.sets[i]; set.state == state && (set.tasks.id != "") == hasTask {
					report.Sets = append(report.Sets, ReportedSet{
						State: string(state), BackupSetJobID: set.key.jobID, BackupSetID: set.key.setID,
						BackupSetDownloadTaskID: set.tasks.id, BackupSetDownloadStatus: set.tasks.status,
						TaskAgeMinutes: p.age(set.tasks.created), Downloaded: set.tasks.finished,
					})
				}
			}
		}
	}
	return report
}

// age returns how many minutes ago a task was made, nil if that is unknown.
func (p *planRun) age(made int64) *int64 {
	if made == 0 {
		return nil
	}
	minutes := max(0, p.run.now.UnixMilli()-made) / time.Minute.Milliseconds()
	return &minutes
}

// logReport logs the counts of a plan.
func (p *planRun) logReport(r PlanReport) {
	attributes := []slog.Attr{
		slog.Bool("dryRun", p.run.command.DryRun), slog.Int("listed", r.Listed),
		slog.Int("withTask", r.WithTask), slog.Int("downloaded", r.Downloaded), slog.Int("incomplete", r.Incomplete),
		slog.Int("expired", r.Expired), slog.Int("beforeLookback", r.BeforeLookback), slog.Int("taskFailed", r.TaskFailed),
		slog.Int("announced", r.Announced), slog.Int("heldBack", r.HeldBack), slog.Int("notListed", len(r.NotListed)),
		slog.Int("tasks", len(p.tasks.ids)), slog.Int64("durationMs", time.Since(p.started).Milliseconds()),
	}
	if minutes := r.OldestDownloadMinutes; minutes != nil {
		attributes = append(attributes, slog.Int64("oldestDownloadMinutes", *minutes))
	}
	p.log(slog.LevelInfo, "backup plan discovered", attributes...)
}

// logFindings logs what a person should look at, a line for each kind.
func (p *planRun) logFindings() {
	var unfinished, missed, twice []setKey
	for i := range p.sets.sets {
		set := &p.sets.sets[i]
		if set.twice {
			twice = append(twice, set.key)
		}
		switch {
		case set.state == stateIncomplete && set.unfinished:
			unfinished = append(unfinished, set.key)
		case set.state == stateBeforeLookback && p.tasks.oldest != 0 && set.end > p.tasks.oldest:
			missed = append(missed, set.key)
		}
	}
	p.warnOfSets("backup sets that ended before the lookback have no task: name them in BackupSetIds, or look back further", missed)
	p.warnOfSets("backup sets have been UNCOMPLETED for more than a day", unfinished)
	p.warnOfSets("backup sets have the name of an earlier one that is listed too: only the newer one can be asked for", twice)
	if n := p.sets.nameless; n > 0 {
		p.log(slog.LevelWarn, "backup sets have no usable BackupSetJobId or BackupSetId, and cannot be asked for", slog.Int("count", n))
	}
	if p.tasks.doubtful() {
		p.log(slog.LevelError, "download tasks of the lookback belong to no listed backup set: tasks may name sets in an unknown way",
			slog.Int("tasks", p.tasks.recent), slog.Int("listed", len(p.sets.sets)))
	}
}

// warnOfSets logs one line about sets of which there should be none; it names the
// first few.
func (p *planRun) warnOfSets(text string, sets []setKey) {
	var names []string
	for _, key := range sets[:min(len(sets), maxNamed)] {
		names = append(names, events.Truncate(key.jobID+"/"+key.setID, events.MaxAnswerID))
	}
	if len(sets) > 0 {
		p.log(slog.LevelWarn, text, slog.Int("count", len(sets)), slog.String("sets", strings.Join(names, ", ")))
	}
}

// logFailure logs why the plan is not done: an ERROR if the next run will fail as well
// unless somebody acts.
func (p *planRun) logFailure(text string, failure Failure) {
	level := slog.LevelWarn
	if cloud.KindOf(failure.Err) != cloud.Transient {
		level = slog.LevelError
	}
	p.log(level, text, slog.String("operation", failure.Operation),
		slog.String("errCode", cloud.ErrorOf(failure.Err).Code), slog.String("error", failure.text()))
}

func (p *planRun) log(level slog.Level, text string, attributes ...slog.Attr) {
	p.run.log.LogAttrs(context.Background(), level, text, append([]slog.Attr{slog.String("backupPlanId", p.id)}, attributes...)...)
}
