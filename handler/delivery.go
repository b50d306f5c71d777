package handler

import (
	"fmt"
	"log/slog"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/follow"
	"increment-backup-download/handler/outbox"
)

// delivery is one event, as it was delivered in the payload.
type delivery struct {
	index    int
	event    events.Event
	resultID string
	message  recordKey // the key of this message
	created  recordKey // the key of this event once a task is created for it

	// Guarded by the lock of duplicates.
	ending  *ending     // nil until the event has ended
	repeats []*delivery // which end alike
}

// setKeys sets the keys of an event, and returns those by which it is known as done.
func (d *delivery) setKeys(complete bool) []recordKey {
	d.message = messageKey(d.event, d.resultID)
	switch {
	case !complete:
		return []recordKey{d.message}
	case d.event.FollowUp != nil:
		return []recordKey{d.message, followUpKey(*d.event.FollowUp)}
	}
	d.created = createdKey(d.event, d.resultID)
	return []recordKey{d.message, d.created}
}

// mayEndRefused reports whether a refusal with an unknown code ends the event: an
// announcement at once, since the next run announces its set again; another event when
// its message is an hour old, so that it does not fail its batch for a day.
func (d *delivery) mayEndRefused() bool {
	return d.event.Announced || !d.event.ByHand && !d.event.Time.IsZero() && time.Since(d.event.Time) >= oldAge
}

// outcome is how an event ended, as the summary writes it.
type outcome string

const (
	outcomeCreated     outcome = "created"
	outcomeFailed      outcome = "failed"
	outcomeIgnored     outcome = "ignored"
	outcomeAlreadyDone outcome = "alreadyDone"
	outcomeFinished            = outcome(follow.Finished)
	outcomeStopped             = outcome(follow.Stopped)
	outcomeUnfinished          = outcome(follow.Unfinished)
	outcomePending             = outcome(follow.Pending)
	outcomeOpen        outcome = "open" // in the log and in errors only
)

// logText is the text of the event's log line.
func (o outcome) logText() string {
	switch o {
	case outcomeFailed:
		return "event failed"
	case outcomeIgnored:
		return "event ignored: the backup set is not complete"
	case outcomeAlreadyDone:
		return "event already done"
	case outcomeOpen:
		return "event open, to be delivered again"
	default:
		return "task " + string(o)
	}
}

// ending is what became of an event. It is made once, and then only read.
type ending struct {
	outcome  outcome
	data     events.ResultData
	reason   error          // why the event is open
	attempts int            // calls made to DBS
	took     time.Duration  // from the first call to the last answer
	followed *follow.Ending // of a follow-up
}

// unkept returns the ending of an event whose body no queue can hold.
func (e ending) unkept(d *delivery) ending {
	e.data.ErrMessage = fmt.Sprintf("%s (the body, %d bytes, was too large to keep: a queue message has at most %d)",
		events.Truncate(e.data.ErrMessage, 800), len(d.event.Body), outbox.MaxBytes)
	return e
}

// attributes are those of the event's log line. They hold no body and no credential.
func (e ending) attributes(d *delivery) []slog.Attr {
	attributes := make([]slog.Attr, 0, 12)
	attributes = append(attributes, slog.String("eventId", events.Truncate(d.resultID, 256)))
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
	if e.followed != nil {
		attributes = append(attributes, slog.String("status", e.data.BackupSetDownloadStatus),
			slog.Int64("ageMinutes", int64(e.followed.Age.Minutes())))
		if e.followed.Delay > 0 {
			attributes = append(attributes, slog.Int64("delaySeconds", int64(e.followed.Delay.Seconds())))
		}
	}
	if e.outcome == outcomeIgnored {
		attributes = append(attributes, slog.String("backupStatus", events.Truncate(d.event.BackupStatus, 64)))
	}
	return attributes
}
