package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/schollz/progressbar/v3"

	"increment-backup-download/tests/harness"
)

// generate runs a scenario of generated events.
func (l *local) generate(ctx context.Context, cloud *harness.Cloud, instance *harness.Instance) (bool, error) {
	scenario := harness.Scenario{Events: l.events, Seed: l.seed, FaultRate: l.faults, Mixed: l.faults > 0,
		Kills: l.faults > 0, Discovery: l.discover}
	what := "Delivering " + count(l.events, "event")
	if l.discover {
		what = "Discovering " + count(l.events, "backup set")
	}
	if l.faults > 0 {
		cloud.Timeout = 3 * time.Second
		l.say("%s; %.0f%% of all calls go wrong; seed %d ...", what, l.faults*100, l.seed)
	} else {
		l.say("%s ...", what)
	}
	var done func()
	scenario.Progress, done = l.progress(ctx)
	report, err := scenario.Run(ctx, cloud, instance)
	done()
	if err != nil {
		return false, fmt.Errorf("%w\n%v", err, report)
	}
	ok := len(report.Violations) == 0
	if l.json {
		return ok, l.print(document{OK: ok, Report: &report})
	}
	l.summary(report)
	if l.faults > 0 {
		if err := l.attempts(cloud); err != nil {
			return false, err
		}
		discover := ""
		if l.discover {
			discover = " -discover"
		}
		l.say("Replay with: go run ./tests/local -events %d%s -faults %v -seed %d", l.events, discover, l.faults, l.seed)
	}
	for _, violation := range report.Violations {
		l.say("VIOLATION: %s", violation)
	}
	if ok {
		l.say("Every event ended as it should: none lost, no token with two tasks.")
	}
	return ok, nil
}

// progress shows how far a scenario is: as a bar on a terminal, else as a line now and
// then.
func (l *local) progress(ctx context.Context) (report func(harness.Progress), done func()) {
	var latest atomic.Pointer[harness.Progress]
	if !isTerminal(l.stderr) {
		end := l.notes.during(func() string {
			p := latest.Load()
			if p == nil {
				return "starting"
			}
			return fmt.Sprintf("%d of %d have a result; %s", p.Done, p.Of, p.State)
		})
		return func(p harness.Progress) { latest.Store(&p) }, end
	}
	bar := progressbar.NewOptions(l.events, progressbar.OptionSetWriter(l.stderr),
		progressbar.OptionSetDescription("results"), progressbar.OptionShowCount(),
		progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetWidth(20)) // with the description, at most 100 columns
	return func(p harness.Progress) {
		if ctx.Err() == nil {
			bar.ChangeMax(p.Of)
			bar.Describe(shorten(p.State, 40))
			_ = bar.Set(p.Done)
		}
	}, func() { _ = bar.Finish() }
}

func isTerminal(w io.Writer) bool {
	if p, ok := w.(*pipe); ok {
		w = p.Writer
	}
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}

// summary says what became of the events, as sums.
func (l *local) summary(r harness.Report) {
	distinct := r.Results - r.DuplicateResults
	if l.discover {
		l.say("%s = %d created + %d failed + %d not wanted or downloaded before", count(r.Events, "backup set"),
			r.Created, r.Failed, r.Left)
	} else {
		l.say("%s = %d created + %d failed + %d repeats", count(r.Events, "event"), r.Created, r.Failed, r.Repeats)
	}
	l.say("%s = %d for distinct events + %d repeats", count(r.Results, "result"), distinct, r.DuplicateResults)
	if r.DeadLetters > 0 {
		l.say("%s = %d for failed events + %d repeats", count(r.DeadLetters, "dead letter"), r.Failed, r.DeadLetters-r.Failed)
	}
	if l.faults > 0 {
		l.say("  Results outnumber events because delivery is at least once: a batch that failed, or whose")
		l.say("  process was killed, is delivered again whole. A consumer drops repeats by (source, id, type).")
	}
	if l.discover {
		l.say("  A set is announced again for as long as DBS lists no task for it.")
	}
	if l.discover {
		t := l.table("timer runs", "failed", "announced", "list calls")
		t.AppendRow(table.Row{r.TimerRuns, r.FailedTimerRuns, r.Announced, r.ListCalls})
		t.Render()
	}
	t := l.table("tasks", "dbs calls", "deliveries", "redeliveries", "kills", "faults", "seconds")
	t.AppendRow(table.Row{r.Tasks, r.DBSCalls, r.Deliveries, r.FailedDeliveries, r.Kills, r.Faults,
		fmt.Sprintf("%.2f", r.Took.Seconds())})
	t.Render()
}

// attempts shows how many calls to DBS the events took, and which took the most.
func (l *local) attempts(cloud *harness.Cloud) error {
	found, err := rows(cloud)
	if err != nil {
		return err
	}
	once := 0
	var events []row
	for _, r := range found {
		if r.Attempts > 0 {
			events = append(events, r)
		}
		if r.Attempts == 1 {
			once++
		}
	}
	slices.SortFunc(events, func(a, b row) int {
		return cmp.Or(b.Attempts-a.Attempts, strings.Compare(a.EventID, b.EventID))
	})
	l.say("Of %s that DBS was asked for, %d took one call and %d took more. The most:",
		count(len(events), "event"), once, len(events)-once)
	t := l.table("event id", "backup set", "outcome", "task or reason", "calls")
	for _, r := range events[:min(len(events), 5)] {
		t.AppendRow(table.Row{brief(r.EventID), r.BackupSetName, r.Outcome, r.reason(), r.Attempts})
	}
	t.Render()
	return nil
}
