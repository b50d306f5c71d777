package events

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// DataFormats returns the values that DBS documents for BackupSetDataFormat.
func DataFormats() []string { return []string{"Native", "SQL", "CSV", "JSON"} }

// StatusCompleted is the BackupStatus of a backup set that can be downloaded.
const StatusCompleted = "COMPLETED"

// maxField bounds each parameter of a request and an event ID, in characters. DBS
// documents no limit; the parameters travel in a query string, and a result
// repeats them within the 64 KB of a queue message.
const maxField = 1024

// status is what a BackupStatus means for the function.
type status int

const (
	statusNone       status = iota // the event says none
	statusCompleted                // the backup set can be downloaded
	statusIncomplete               // its completion comes as an event of its own
	statusUnknown
)

// statusOf reads a BackupStatus. DBS documents INIT, FILLING, COMPLETED and
// UNCOMPLETED; producers may write them in another case. See
// https://www.alibabacloud.com/help/en/dms/developer-reference/api-dbs-2019-03-06-describeincrementbackuplist
func statusOf(backupStatus string) status {
	switch strings.ToUpper(strings.TrimSpace(backupStatus)) {
	case "":
		return statusNone
	case StatusCompleted:
		return statusCompleted
	case "INIT", "FILLING", "UNCOMPLETED":
		return statusIncomplete
	}
	return statusUnknown
}

// readBackupSet reads the backup set, whose parameters have different names in
// its two shapes; see [Request]. Content is the text of o.
func (r *reader) readBackupSet(o *object, content raw) error {
	var jobID, setID, name, format, status, token string
	for _, field := range [...]struct {
		name  string
		value raw
		into  *string
	}{
		{"BackupSetJobId", o.BackupSetJobID, &jobID},
		{"BackupSetId", o.BackupSetID, &setID},
		{"BackupSetName", o.BackupSetName, &name},
		{"BackupSetDataFormat", o.BackupSetDataFormat, &format},
		{"BackupStatus", o.BackupStatus, &status},
		{"ClientToken", o.ClientToken, &token},
	} {
		if field.value.isNull() {
			continue
		}
		if !field.value.isString() {
			return malformed("%s must be a string", field.name)
		}
		value := field.value.text()
		if n := utf8.RuneCount(value); n > maxField {
			return malformed("%s is %d characters long; at most %d are allowed", field.name, n, maxField)
		}
		*field.into = string(value)
	}
	// Milliseconds, as DBS gives it. A producer may write it otherwise: it only has to
	// be the same for the same set.
	if startTime := text(o.StartTime); startTime != "0" && startTime != "null" {
		r.startTime = startTime
	}
	switch string(o.DryRun) {
	case "", "null", "false":
	case "true":
		r.event.DryRun = true
	default:
		return malformed("DryRun must be true or false")
	}

	request := &r.event.Request
	if jobID == "" {
		request.BackupSetID, request.BackupSetName = setID, name
	} else {
		r.event.BackupStatus = status // that of a list item only
		request.BackupSetID, request.BackupSetName = jobID, setID
	}
	switch statusOf(r.event.BackupStatus) {
	case statusIncomplete:
		return nil // what is missing may come with its completion
	case statusUnknown:
		return &Error{Code: CodeUnknownBackupStatus, Message: fmt.Sprintf(
			"BackupStatus is %.32q; it must be one of INIT, FILLING, COMPLETED, UNCOMPLETED", r.event.BackupStatus)}
	case statusNone, statusCompleted:
	}
	if jobID != "" && name != "" && setID != "" && (jobID != setID || setID != name) {
		*request = Request{}
		return &Error{Code: CodeConflict, Message: "BackupSetJobId, BackupSetId and BackupSetName contradict each other: " +
			"send BackupSetJobId and BackupSetId as DescribeIncrementBackupList lists them, " +
			"or BackupSetId and BackupSetName as the request takes them"}
	}
	if setID == "" || jobID == "" && name == "" {
		*request = Request{}
		return missing(jobID, setID, name, content)
	}
	if format != "" && !slices.Contains(DataFormats(), format) {
		return &Error{Code: CodeUnsupportedDataFormat, Message: fmt.Sprintf("BackupSetDataFormat is %.32q; it must be one of %s",
			format, strings.Join(DataFormats(), ", "))}
	}
	request.BackupSetDataFormat, request.ClientToken = format, token
	if r.enveloped {
		return nil // a producer may add what it likes
	}
	// A person who types dryRun must not get a task.
	if hint := wrongCase(content, "BackupSetDataFormat", "BackupStatus", "ClientToken", "DryRun"); hint != "" {
		return malformed("%s", hint)
	}
	return nil
}

// missing says what content lacks to be a backup set, and what it may be instead.
func missing(jobID, setID, name string, content []byte) error {
	if hint := mistakenFor(content); hint != "" {
		return &Error{Code: CodeMissingBackupSet, Message: hint}
	}
	var what string
	switch {
	case setID != "":
		what = "BackupSetJobId or BackupSetName is missing"
	case jobID == "" && name == "":
		what = "BackupSetId is missing, and BackupSetJobId or BackupSetName"
	default:
		what = "BackupSetId is missing"
	}
	return &Error{Code: CodeMissingBackupSet, Message: what + ": a backup event has BackupSetJobId and BackupSetId " +
		"(an item of DescribeIncrementBackupList) or BackupSetId and BackupSetName (request parameters)"}
}

// mistakenFor recognises what is often sent in place of a backup set, and says
// what to send.
func mistakenFor(content []byte) string {
	found := names(content)
	has := func(name string) bool { return slices.Contains(found, name) }
	switch {
	case has("Items"), has("IncrementBackupFile"):
		return "this is a whole answer of DescribeIncrementBackupList: send each item of Items.IncrementBackupFile by itself"
	case has("Discover"):
		return "Discover is a command and no backup event: type it by hand, by itself, or have a timer send it"
	case has("Check"):
		return "Check is a command and no backup event: type it by hand, by itself"
	case has("data"):
		return "there is data but no specversion: an object is read as a CloudEvent only if it has one"
	}
	return wrongCase(content, "BackupSetJobId", "BackupSetId", "BackupSetName")
}

// wrongCase says which of the known names content has in the wrong case only.
func wrongCase(content []byte, known ...string) string {
	found := names(content)
	for _, k := range known {
		for _, name := range found {
			if !slices.Contains(found, k) && strings.EqualFold(name, k) {
				return fmt.Sprintf("names are case-sensitive: %s, not %s", k, name)
			}
		}
	}
	return ""
}
