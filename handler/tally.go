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

// outcome is how an event ended, as the summary writes it.
type outcome string

const (
	outcomeCreated     outcome = "created"
	outcomeFailed      outcome = "failed"
	outcomeIgnored     outcome = "ignored"
	outcomeAlreadyDone outcome = "alreadyDone"
	outcomeOpen        outcome = "open" // in the log and in errors only
)

// delivery is one event of the payload.
type delivery struct {
	index    int
	event    events.Event
	resultID string
	message  recordKey // the key of this message
	created  recordKey // the key of this event once a task is created for it
	fate     *fate     // nil for a repeat
}

// end is what became of an event.
type end struct {
	*delivery
	outcome  outcome
	data     events.ResultData
	text     string        // of the log line
	reason   error         // why it is open
	attempts int           // calls made to DBS
	took     time.Duration // from the first call to the last answer
}

// leftOpen returns the end of an event that stays open for the given reason.
func (e end) leftOpen(reason error) end {
	e.outcome, e.reason, e.text = outcomeOpen, reason, "event open, to be delivered again"
	return e
}

// attributes are those of the event's log line. They hold no body and no
// credential.
func (e end) attributes() []slog.Attr {
	attributes := make([]slog.Attr, 0, 12)
	attributes = append(attributes, slog.String("eventId", events.Truncate(e.resultID, 256)))
	data := e.data
	for _, a := range [...]slog.Attr{
		slog.String("clientToken", data.ClientToken),
		slog.String("backupSetId", data.BackupSetID),
		slog.String("backupSetName", data.BackupSetName),
		slog.String("taskId", data.BackupSetDownloadTaskID),
		slog.String("dbsRequestId", data.RequestID),
		slog.String("errCode", data.ErrCode),
	} {
		if a.Value.String() != "" {
			attributes = append(attributes, a)
		}
	}
	if e.attempts > 0 {
		attributes = append(attributes, slog.Int("attempts", e.attempts), slog.Int64("durationMs", e.took.Milliseconds()))
	}
	switch {
	case e.reason != nil:
		attributes = append(attributes, slog.String("error", e.reason.Error()))
	case data.ErrMessage != "":
		attributes = append(attributes, slog.String("error", data.ErrMessage))
	}
	return attributes
}

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

// take counts an event of the payload.
func (t *tally) take() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.summary.Events++
}

// add counts the end of an event, and logs it.
func (t *tally) add(e end) {
	age := time.Duration(0)
	if e.outcome == outcomeOpen && !e.event.Time.IsZero() {
		age = time.Since(e.event.Time)
	}
	if !t.count(e) {
		return
	}
	level := slog.LevelInfo
	switch {
	case e.outcome == outcomeFailed, age >= oldAge:
		level = slog.LevelError
	case e.outcome == outcomeOpen:
		level = slog.LevelWarn
	}
	if !t.log.Enabled(context.Background(), level) {
		return
	}
	attributes := e.attributes()
	if age >= oldAge {
		attributes = append(attributes, slog.Int64("ageMinutes", int64(age.Minutes())))
	}
	if e.outcome == outcomeIgnored {
		attributes = append(attributes, slog.String("backupStatus", events.Truncate(e.event.BackupStatus, 64)))
	}
	t.log.LogAttrs(context.Background(), level, e.text, attributes...)
}

// count counts the end of an event, and reports whether it has a log line.
func (t *tally) count(e end) bool {
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
	case outcomeOpen:
		t.open.add(e.event, e.reason)
		t.oldest = earlier(t.oldest, e.event.Time)
		if t.open.count > maxOpenLines {
			t.more = earlier(t.more, e.event.Time)
			return false
		}
		return true
	}
	if e.index < maxEntries {
		entry := Entry{Outcome: string(e.outcome), ResultData: e.data, index: e.index}
		if e.outcome == outcomeIgnored {
			entry.BackupStatus = events.Truncate(e.event.BackupStatus, 64)
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

// close returns the summary and, if events are open, the error that fails the
// invocation. It says how many open events have no log line of their own.
func (t *tally) close() (Summary, error) {
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
	t.open.events = t.summary.Events
	switch {
	case t.fault != nil:
		return t.summary, &OperatorFaultError{Fault: t.fault, open: t.open}
	case t.open.count > 0:
		return t.summary, &RedeliveryError{open: t.open}
	}
	return t.summary, nil
}

// done writes the line of the whole invocation.
func (t *tally) done(err error, calls *callLog, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	attributes := []slog.Attr{
		slog.Int("events", t.summary.Events),
		slog.Int("created", t.summary.Created),
		slog.Int("failed", t.summary.Failed),
		slog.Int("ignored", t.summary.Ignored),
		slog.Int("alreadyDone", t.summary.AlreadyDone),
		slog.Int("open", t.open.count),
		slog.Int64("attempts", calls.attempts.Load()),
		slog.Int64("throttled", calls.throttled.Load()),
		slog.Int64("durationMs", took.Milliseconds()),
	}
	if !t.oldest.IsZero() {
		attributes = append(attributes, slog.Int64("oldestOpenMinutes", int64(time.Since(t.oldest).Minutes())))
	}
	logInvocation(t.log, err, attributes)
}
