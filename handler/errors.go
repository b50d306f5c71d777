package handler

import (
	"fmt"
	"slices"
	"strings"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// codeNotTried is the code in the log of an event that there was no time to call DBS for.
const codeNotTried = "NotTried"

// openEvents says which events of an invocation are open, and why. It is bounded:
// it keeps the first few, and counts the rest.
type openEvents struct {
	events   int         // that were read
	unread   bool        // there was no time to read the rest of the payload
	count    int         // that are open
	first    []openEvent // with an answer of a service first
	answered int         // how many of them
}

type openEvent struct {
	name   string
	reason error
}

// Bounds of the texts of errors.
const (
	maxNamed  = 10  // open events
	maxReason = 350 // bytes for each: about four kilobytes in all
	maxFault  = 500 // bytes of an operator fault; the log has the rest
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

// counts says how many events are open.
func (o *openEvents) counts() string {
	text := fmt.Sprintf("%d of %d events are open", o.count, o.events)
	if o.unread {
		text += ", and there was no time to read the others"
	}
	return text
}

// reasons names the open events with the reason of each, in full once for each code.
func (o *openEvents) reasons() string {
	var s strings.Builder
	s.WriteString(o.counts())
	said := make(map[string]bool)
	for _, e := range o.first {
		reason := e.reason.Error()
		if code := cloud.ErrorOf(e.reason).Code; code != "" && said[code] {
			reason = code
		} else {
			said[code] = true
		}
		s.WriteString("; event " + events.Truncate(e.name+": "+reason, maxReason))
	}
	if more := o.count - len(o.first); more > 0 {
		fmt.Fprintf(&s, "; and %d more", more)
	}
	return s.String()
}

// names counts the open events and names three.
func (o *openEvents) names() string {
	var names []string
	for _, e := range o.first[:min(len(o.first), 3)] {
		names = append(names, events.Truncate(e.name, 45))
	}
	if len(names) == 0 {
		return o.counts()
	}
	return o.counts() + ": " + strings.Join(names, ", ")
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
	return e.open.reasons() + ". Finished results are published. The queue delivers the batch again, for a day; no event gets a second task."
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
	const prefix = "operator fault: "
	fault, rest := cloud.ErrorOf(e.Fault), ""
	if fault.Fix != "" {
		rest = ". Fix: " + events.Truncate(fault.Fix, 150)
	}
	if e.open.events > 0 {
		rest += ". " + e.open.names()
	}
	return prefix + events.Truncate(fault.Cause(), maxFault-len(prefix)-len(rest)) + rest
}

func (e *OperatorFaultError) Unwrap() error { return e.Fault }

// EventError answers a payload that was typed by hand and cannot be understood.
// Nothing was called and nothing published.
type EventError struct{ Reason error } // an [*events.Error]

func (e *EventError) Error() string {
	return e.Reason.Error() + ". Nothing was done."
}

func (e *EventError) Unwrap() error { return e.Reason }

// unpublishedError says that an event is open because its result, dead letter or
// follow-up could not be published.
type unpublishedError struct {
	what string // result, dead letter or follow-up
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
