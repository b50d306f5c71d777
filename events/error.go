package events

import (
	"errors"
	"fmt"
)

// Error codes of the function itself, besides those of DBS.
const (
	CodeMalformed             = "Event.Malformed"             // not an event in any known shape
	CodeMissingBackupSet      = "Event.MissingBackupSet"      // the backup set is incomplete
	CodeConflict              = "Event.Conflict"              // values that contradict each other
	CodeUnsupportedDataFormat = "Event.UnsupportedDataFormat" // BackupSetDataFormat is none of [DataFormats]
	CodeUnknownBackupStatus   = "Event.UnknownBackupStatus"   // BackupStatus is none that DBS documents
	CodeNoBackupPlan          = "Event.NoBackupPlan"          // a command to discover, and no backup plan is named
	CodeNoSourceQueue         = "Event.NoSourceQueue"         // a command to discover, and no queue for announcements

	// These must not be answered with a result: it would come back too, or the event has one.
	CodeOwnResult   = "Event.OwnResult"   // a result of this function that came back as an event
	CodeBadFollowUp = "Event.BadFollowUp" // a follow-up that cannot be followed
)

// Error says why an event can never succeed. Its text holds names of fields and
// positions, and never a message body.
type Error struct {
	Code    string // one of the Code constants
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// within prefixes the message of an [Error] with the place of the mistake.
func within(place string, err error) error {
	var reason *Error
	if !errors.As(err, &reason) {
		return err
	}
	return &Error{Code: reason.Code, Message: place + ": " + reason.Message}
}

func malformed(format string, args ...any) error {
	return &Error{Code: CodeMalformed, Message: fmt.Sprintf(format, args...)}
}
