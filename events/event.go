package events

import "time"

// Request holds the parameters of CreateIncrementBackupSetDownload. A list item of
// DescribeIncrementBackupList names them differently: its BackupSetJobId is the
// BackupSetID here, and its BackupSetId is the BackupSetName. See
// https://www.alibabacloud.com/help/en/dms/developer-reference/api-dbs-2019-03-06-createincrementbackupsetdownload
type Request struct {
	BackupSetID         string `json:"BackupSetId"`                   // incremental backup task ID, such as t4yh0g0g0001
	BackupSetName       string `json:"BackupSetName"`                 // incremental backup set ID; for MySQL a binlog name
	BackupSetDataFormat string `json:"BackupSetDataFormat,omitempty"` // one of DataFormats, or empty: not sent
	ClientToken         string `json:"ClientToken"`                   // idempotence token, 1 to 64 printable ASCII characters
}

// Event is one message of a payload.
type Event struct {
	// ID is the event ID: the CloudEvents id of the innermost envelope that has one, else
	// the message ID, else empty.
	ID           string
	MessageID    string // of the queue or topic message, if there is one
	Body         string // the original message body, unchanged: what a dead letter holds
	BackupStatus string // that of a list item, and empty for request parameters
	DryRun       bool   // answer what would be done, and do nothing; only if ByHand
	// ByHand says that the payload was typed, in the console or on a command line, and not
	// delivered by a trigger: it has no envelope. The bare body that an MNS topic sends in
	// STREAM format without attributes looks the same.
	ByHand bool
	// Time is when the outermost envelope says that the message was sent: a CloudEvent's
	// time, a topic message's PublishTime. Zero if it says nothing that can be read.
	Time time.Time
	// Traceparent and Tracestate are the W3C trace context of the innermost envelope
	// whose traceparent has the right form. Tracestate is empty if it is not printable
	// ASCII of at most 512 bytes.
	Traceparent, Tracestate string
	// Announced says that the event is an announcement of discovery: a CloudEvent of type
	// dbs:IncrementBackupSet:Completed with a backup plan as its source. BackupPlanID is
	// that plan, and empty for any other event.
	Announced    bool
	BackupPlanID string
	// FollowUp is set if the event asks for the state of a download task instead of
	// announcing a backup set. Request is empty then.
	FollowUp *FollowUp
	// Request is complete if the event came without an error and is not to be ignored.
	// Otherwise it holds the BackupSetID and the BackupSetName as far as the event gives
	// them unambiguously, and no ClientToken.
	Request Request
}

// Ignored reports whether the event announces a backup set that is not complete
// yet. Its completion comes as an event of its own.
func (e Event) Ignored() bool { return isIncomplete(e.BackupStatus) }

// ResultID returns the id of the event's result: the event ID, or the SHA-256 of
// the body in hex if there is none. An event ID that is longer than 1024 bytes or
// has a character that CloudEvents forbids is replaced by its SHA-256.
func (e Event) ResultID() string {
	switch {
	case e.ID == "":
		return digest(e.Body)
	case len(e.ID) > maxField || !allowed(e.ID):
		return digest(e.ID)
	}
	return e.ID
}

// OwnResultID returns an id for the event's result if another event, with the same
// event ID but different content, has taken the usual one.
func (e Event) OwnResultID() string { return digest(e.ID + "\n" + e.MessageID + "\n" + e.Body) }
