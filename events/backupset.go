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

// isIncomplete reports whether a BackupStatus, in any case, is one of a backup set
// that is not complete yet. DBS documents INIT, FILLING, COMPLETED and UNCOMPLETED.
// See https://www.alibabacloud.com/help/en/dms/developer-reference/api-dbs-2019-03-06-describeincrementbackuplist
func isIncomplete(status string) bool {
	return slices.Contains([]string{"INIT", "FILLING", "UNCOMPLETED"}, strings.ToUpper(strings.TrimSpace(status)))
}

// readBackupSet reads the backup set, whose parameters have different names in
// its two shapes; see [Request]. Content is the text of o.
func (r *reader) readBackupSet(o *object, content raw) error {
	var err error
	get := func(name string, value raw) string {
		text := value.string()
		switch n := utf8.RuneCountInString(text); {
		case err != nil || value.isNull():
			return ""
		case !value.isString():
			err = malformed("%s must be a string", name)
		case n > maxField:
			err = malformed("%s is %d characters long; at most %d are allowed", name, n, maxField)
		}
		return text
	}
	jobID, setID, name := get("BackupSetJobId", o.BackupSetJobID), get("BackupSetId", o.BackupSetID), get("BackupSetName", o.BackupSetName)
	format, status, token := get("BackupSetDataFormat", o.BackupSetDataFormat), get("BackupStatus", o.BackupStatus), get("ClientToken", o.ClientToken)
	if err != nil {
		return err
	}
	if !o.DryRun.isNull() && unmarshal(o.DryRun, &r.event.DryRun) != nil {
		return malformed("DryRun must be true or false")
	}
	// Milliseconds, as DBS gives it. A producer may write it otherwise: it only has to
	// be the same for the same set.
	if startTime := o.StartTime.string(); startTime != "0" && startTime != "null" {
		r.startTime = startTime
	}

	request := &r.event.Request
	if jobID == "" {
		request.BackupSetID, request.BackupSetName = setID, name
	} else {
		r.event.BackupStatus = status // that of a list item only
		request.BackupSetID, request.BackupSetName = jobID, setID
	}
	switch status := r.event.BackupStatus; {
	case isIncomplete(status):
		return nil // missing fields may come with its completion
	case strings.TrimSpace(status) != "" && !strings.EqualFold(strings.TrimSpace(status), StatusCompleted):
		return &Error{CodeUnknownBackupStatus, fmt.Sprintf(
			"BackupStatus is %.32q; it must be one of INIT, FILLING, COMPLETED, UNCOMPLETED", status)}
	case jobID != "" && name != "" && setID != "" && (jobID != setID || setID != name):
		*request = Request{}
		return &Error{CodeConflict, "BackupSetJobId, BackupSetId and BackupSetName contradict each other: " +
			"send BackupSetJobId and BackupSetId as DescribeIncrementBackupList lists them, " +
			"or BackupSetId and BackupSetName as the request takes them"}
	case setID == "" || jobID == "" && name == "":
		*request = Request{}
		return r.missing(content, jobID+name != "", setID != "")
	case format != "" && !slices.Contains(DataFormats(), format):
		return &Error{CodeUnsupportedDataFormat, fmt.Sprintf("BackupSetDataFormat is %.32q; it must be one of %s",
			format, strings.Join(DataFormats(), ", "))}
	}
	request.BackupSetDataFormat, request.ClientToken = format, token
	if r.enveloped {
		return nil // producers may add fields
	}
	// A person who types dryRun must not get a task.
	if hint := wrongCase(names(content), "BackupSetDataFormat", "BackupStatus", "ClientToken", "DryRun", "StartTime"); hint != "" {
		return malformed("%s", hint)
	}
	return nil
}

// missing says which fields content lacks and, to a person, which commands there are.
func (r *reader) missing(content raw, hasOther, hasID bool) error {
	found := names(content)
	has := func(name string) bool { return slices.Contains(found, name) }
	what := wrongCase(found, "BackupSetJobId", "BackupSetId", "BackupSetName", "Discover", "Check")
	switch {
	case has("Items"), has("IncrementBackupFile"):
		what = "this is a whole answer of DescribeIncrementBackupList: send each item of Items.IncrementBackupFile by itself"
	case has("Discover"), has("Check"):
		what = "this is a command, not a backup event: type it by hand, alone; a timer may send Discover only"
	case has("data"):
		what = "this has data but no specversion, which a CloudEvent needs"
	case what != "":
	case hasID:
		what = "BackupSetJobId or BackupSetName is missing"
	case hasOther:
		what = "BackupSetId is missing"
	case r.enveloped:
		what = "this is not a backup set"
	default:
		what = "this is neither a backup set nor a command"
	}
	what += ". A backup set needs BackupSetJobId and BackupSetId, as DescribeIncrementBackupList lists it, " +
		"or BackupSetId and BackupSetName, as CreateIncrementBackupSetDownload takes it"
	if !r.enveloped {
		what += commands
	}
	return &Error{CodeMissingBackupSet, what}
}

// commands says what else a person can type.
const commands = `. The commands are {"Check":{}}, which tries the deployment, and {"Discover":{}}, which announces finished sets`

// wrongCase says which of the known names is found in the wrong case only.
func wrongCase(found []string, known ...string) string {
	for _, k := range known {
		for _, name := range found {
			if strings.EqualFold(name, k) && !slices.Contains(found, k) {
				return fmt.Sprintf("names are case-sensitive: %s, not %s", k, name)
			}
		}
	}
	return ""
}
