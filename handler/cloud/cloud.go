// Package cloud says what a failed call to a service of the cloud means.
package cloud

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"increment-backup-download/events"
)

// Kind says what a failure means for the event it is about.
type Kind int

// The kinds. The zero value is Transient, so that an unknown failure leads to
// another try and never to a lost event.
const (
	// Transient: the same call may succeed later.
	Transient Kind = iota
	// Permanent: the request itself is wrong and can never succeed.
	Permanent
	// OperatorFault: no call can succeed until somebody fixes the deployment.
	OperatorFault
)

// Error is a failed call to a service, classified by the adapter that made
// it. It holds no credential and no signature, and its Code and RequestID have at most
// [events.MaxAnswerID] bytes: adapters see to that.
type Error struct {
	Kind           Kind
	Service        string        // DBS or MNS
	Code           string        // the service's error code, or the adapter's word for a failure without one
	Message        string        // the service's message, or what happened
	Fix            string        // what the operator can do; empty if that is unknown
	HTTPStatusCode int           // 0 if there was no answer
	RequestID      string        // the service's RequestId, if it answered with one
	Throttled      bool          // the service asks to be called less often
	RetryAfter     time.Duration // the wait that a throttled answer asks for; 0 if it gave none
	Unrecognized   bool          // a refusal in the service's own form, with a code that no table has
	Err            error         // the cause, for errors.Is; never printed
}

func (e *Error) Error() string {
	if e.Fix == "" {
		return e.Cause()
	}
	return e.Cause() + ". Fix: " + events.Truncate(e.Fix, 300)
}

// Cause says what failed, in the service's own words, without the fix.
func (e *Error) Cause() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s %s", e.Service, e.Code)
	if e.HTTPStatusCode != 0 {
		fmt.Fprintf(&s, " (HTTP %d)", e.HTTPStatusCode)
	}
	if e.Message != "" {
		fmt.Fprintf(&s, ": %s", events.Truncate(e.Message, 300))
	}
	if e.RequestID != "" {
		fmt.Fprintf(&s, " [RequestId %s]", e.RequestID)
	}
	return s.String()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of an error from a port, wrapped or bare. What no adapter has
// classified is transient.
func KindOf(err error) Kind { return ErrorOf(err).Kind }

// ErrorOf returns the *Error in err, or, if no adapter has classified err, one that says
// nothing: transient.
func ErrorOf(err error) *Error {
	var service *Error
	if errors.As(err, &service) {
		return service
	}
	return &Error{Err: err}
}
