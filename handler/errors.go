package handler

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// codeNotTried stands in the log for the code of an event that there was no time to
// call DBS for.
const codeNotTried = "NotTried"

// openEvents says which events of an invocation are open, and why. It is bounded:
// it keeps the first few, and counts the rest.
type openEvents struct {
	events   int         // in the payload
	count    int         // that are open
	first    []openEvent // those that a service answered for go first
	answered int         // how many of them
}

type openEvent struct {
	name   string
	reason error
}

// maxNamed bounds the open events that an error names, and maxReason the bytes
// for each, which keeps the error's text within about four kilobytes.
const (
	maxNamed  = 10
	maxReason = 350
)

func (o *openEvents) add(event events.Event, reason error) {
	o.count++
	at := len(o.first)
	if cloud.ErrorOf(reason).Code != "" && o.answered < maxNamed {
		at = o.answered // it says more than that there was no time to try
		o.answered++
	}
	if at < maxNamed {
		o.first = slices.Insert(o.first, at, openEvent{describe(event), reason})
		o.first = o.first[:min(len(o.first), maxNamed)]
	}
}

// text names the open events, with their reasons but for one that is already said.
func (o *openEvents) text(said error) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d of %d events are open", o.count, o.events)
	for _, e := range o.first {
		reason := ""
		if said == nil || !errors.Is(e.reason, said) {
			reason = ": " + e.reason.Error()
		}
		s.WriteString("; event " + events.Truncate(e.name+reason, maxReason))
	}
	if more := o.count - len(o.first); more > 0 {
		fmt.Fprintf(&s, "; and %d more", more)
	}
	return s.String()
}

// describe names an event for a person.
func describe(event events.Event) string {
	id := events.Truncate(event.ResultID(), 80)
	if name := event.Request.BackupSetName; name != "" {
		return fmt.Sprintf("%s (%s)", id, events.Truncate(name, 80))
	}
	return id
}

// RedeliveryError fails an invocation whose open events a further delivery may
// finish. Nobody has to do anything unless it goes on for hours.
type RedeliveryError struct{ open openEvents }

func (e *RedeliveryError) Error() string {
	return e.open.text(nil) + ". What is finished is published. The queue delivers the batch again for a day; no event gets a second task"
}

// Unwrap returns why the first of them is open.
func (e *RedeliveryError) Unwrap() error {
	if len(e.open.first) == 0 {
		return nil
	}
	return e.open.first[0].reason
}

// OperatorFaultError fails an invocation that no redelivery can finish until
// somebody fixes a permission, a credential, a queue or a setting.
type OperatorFaultError struct {
	Fault error // the first fault, a *cloud.Error
	open  openEvents
}

func (e *OperatorFaultError) Error() string {
	return fmt.Sprintf("operator fault: %v. Fix this within 24 hours; until then every delivery fails and is repeated. %s", e.Fault, e.open.text(e.Fault))
}

func (e *OperatorFaultError) Unwrap() error { return e.Fault }

// EventError answers a payload that was typed by hand and cannot be understood.
// Nothing was called and nothing published.
type EventError struct{ Reason *events.Error }

func (e *EventError) Error() string {
	return e.Reason.Error() + ". Nothing was done for it"
}

func (e *EventError) Unwrap() error { return e.Reason }

// unpublishedError says that an event is open because its result or dead letter
// could not be published.
type unpublishedError struct {
	what string // result or dead letter
	task Task   // that exists; empty if none does
	err  error
}

func (e *unpublishedError) Error() string {
	text := "its " + e.what + " is not published: " + e.err.Error()
	if e.task.ID != "" {
		text += fmt.Sprintf("; task %s exists, DBS RequestId %s", e.task.ID, e.task.RequestID)
	}
	return text
}

func (e *unpublishedError) Unwrap() error { return e.err }
