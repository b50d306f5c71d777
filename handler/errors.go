package handler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"increment-backup-download/events"
)

// Kind says what a failure means for the event it is about.
type Kind int

// The kinds. The zero value is Transient, so that whatever is not known leads to
// another try and never to a lost event.
const (
	// Transient: the same call may succeed later.
	Transient Kind = iota
	// Permanent: the request itself is wrong and can never succeed.
	Permanent
	// OperatorFault: no call can succeed until somebody fixes the deployment.
	OperatorFault
)

func (k Kind) String() string {
	switch k {
	case Permanent:
		return "permanent"
	case OperatorFault:
		return "operator fault"
	}
	return "transient"
}

// ServiceError is a failed call to a service, classified by the adapter that made
// it. It holds no credential and no signature: adapters see to that.
type ServiceError struct {
	Kind           Kind
	Service        string        // DBS or MNS
	Code           string        // the service's error code, or the adapter's word for a failure without one
	Message        string        // the service's message, or what happened
	HTTPStatusCode int           // 0 if there was no answer
	RequestID      string        // the service's RequestId, if it answered with one
	Throttled      bool          // the service asks to be called less often
	RetryAfter     time.Duration // the wait that a throttled answer asks for; 0 if it gave none
	Unrecognized   bool          // a refusal in the service's own form, with a code that no table has
	Err            error         // the cause, for errors.Is; never printed
}

func (e *ServiceError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", e.Service, events.Truncate(e.Code, events.MaxAnswerID))
	if e.HTTPStatusCode != 0 {
		fmt.Fprintf(&s, " (HTTP %d)", e.HTTPStatusCode)
	}
	if e.Message != "" {
		fmt.Fprintf(&s, ": %s", events.Truncate(e.Message, 300))
	}
	if e.RequestID != "" {
		fmt.Fprintf(&s, " [RequestId %s]", events.Truncate(e.RequestID, 64))
	}
	return s.String()
}

func (e *ServiceError) Unwrap() error { return e.Err }

// kindOf returns the kind of an error from a port, wrapped or bare. What no
// adapter has classified is transient.
func kindOf(err error) Kind {
	var service *ServiceError
	if errors.As(err, &service) {
		return service.Kind
	}
	return Transient
}

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
	if serviceErrorOf(reason).Code != "" && o.answered < maxNamed {
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
	Fault error // the first fault, a *ServiceError
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
