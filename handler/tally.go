package handler

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"increment-backup-download/events"
)

// maxOpenLines bounds the log lines about open events: a batch has up to 10,000,
// and they end in the last second.
const maxOpenLines = 100

// oldAge is the age from which an open event is an ERROR. The trigger gives a
// message up after a day.
const oldAge = time.Hour

// tally counts what became of the events of one invocation, and writes a log line
// for each. It is safe for concurrent use.
type tally struct {
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	summary Summary
	open    openEvents
	oldest  time.Time // of the open events; zero if none has a time
	more    time.Time // the oldest of those without a log line
	fault   error     // the first operator fault
}

// add counts and logs what became of an event.
func (t *tally) add(d *delivery, e ending) {
	age := time.Duration(0)
	if e.outcome == outcomeOpen && !d.event.Time.IsZero() {
		age = time.Since(d.event.Time)
	}
	if !t.count(d, e) {
		return
	}
	level := slog.LevelInfo
	switch {
	case e.outcome == outcomeFailed, e.outcome == outcomeStopped, e.outcome == outcomeUnfinished, age >= oldAge:
		level = slog.LevelError
	case e.outcome == outcomePending:
		level = slog.LevelDebug
	case e.outcome == outcomeOpen:
		level = slog.LevelWarn
	}
	if !t.log.Enabled(context.Background(), level) {
		return
	}
	attributes := e.attributes(d)
	if age >= oldAge {
		attributes = append(attributes, slog.Int64("ageMinutes", int64(age.Minutes())))
	}
	t.log.LogAttrs(context.Background(), level, e.outcome.logText(), attributes...)
}

// count counts what became of an event, and reports whether that has a log line.
func (t *tally) count(d *delivery, e ending) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.outcome {
	case outcomeCreated:
		t.summary.Created++
	case outcomeFailed:
		t.summary.Failed++
	case outcomeIgnored:
		t.summary.Ignored++
	case outcomeAlreadyDone:
		t.summary.AlreadyDone++
	case outcomeFinished:
		t.summary.Finished++
	case outcomeStopped, outcomeUnfinished:
		t.summary.Stopped++
	case outcomePending:
		t.summary.Pending++
	case outcomeOpen:
		t.open.add(d.event, e.reason)
		t.oldest = earlier(t.oldest, d.event.Time)
		if t.open.count > maxOpenLines {
			t.more = earlier(t.more, d.event.Time)
			return false
		}
		return true
	}
	if d.index < maxEntries {
		entry := Entry{Outcome: string(e.outcome), ResultData: e.data, index: d.index}
		if e.outcome == outcomeIgnored {
			entry.BackupStatus = events.Truncate(d.event.BackupStatus, 64)
		}
		t.summary.Results = append(t.summary.Results, entry)
	}
	return true
}

// earlier returns the earlier of two times that may be unknown.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// dryRun notes what would be done.
func (t *tally) dryRun(dry DryRun) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.summary.DryRun = &dry
}

// faulted notes the first operator fault.
func (t *tally) faulted(fault error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fault == nil {
		t.fault = fault
	}
}

// close returns the summary of so many events and, if some are open or unread, the error
// that fails the invocation. It says how many open events have no log line of their own.
func (t *tally) close(read int, unread bool) (Summary, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if more := t.open.count - maxOpenLines; more > 0 {
		level, attributes := slog.LevelWarn, []slog.Attr{slog.Int("open", t.open.count)}
		if !t.more.IsZero() && time.Since(t.more) >= oldAge {
			level = slog.LevelError
			attributes = append(attributes, slog.Int64("ageMinutes", int64(time.Since(t.more).Minutes())))
		}
		t.log.LogAttrs(context.Background(), level, "more events open, without a line of their own", attributes...)
	}
	slices.SortFunc(t.summary.Results, func(a, b Entry) int { return cmp.Compare(a.index, b.index) })
	t.summary.Events, t.open.events, t.open.unread = read, read, unread
	switch {
	case t.fault != nil:
		return t.summary, &OperatorFaultError{Fault: t.fault, open: t.open}
	case t.open.count > 0 || t.open.unread:
		return t.summary, &RedeliveryError{open: t.open}
	}
	return t.summary, nil
}

// logInvocation logs the invocation's outcome, with the counts of its calls.
func (t *tally) logInvocation(err error, took time.Duration, calls []slog.Attr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	attributes := append([]slog.Attr{
		slog.Int("events", t.summary.Events),
		slog.Int("created", t.summary.Created),
		slog.Int("failed", t.summary.Failed),
		slog.Int("ignored", t.summary.Ignored),
		slog.Int("finished", t.summary.Finished),
		slog.Int("stopped", t.summary.Stopped),
		slog.Int("pending", t.summary.Pending),
		slog.Int("alreadyDone", t.summary.AlreadyDone),
		slog.Int("open", t.open.count),
		slog.Int64("durationMs", took.Milliseconds()),
	}, calls...)
	if !t.oldest.IsZero() {
		attributes = append(attributes, slog.Int64("oldestOpenMinutes", int64(time.Since(t.oldest).Minutes())))
	}
	logInvocation(t.log, err, attributes)
}
