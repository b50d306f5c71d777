package events

import (
	"fmt"
	"strings"
	"time"
)

// TypeFollowUp is the CloudEvents type of a follow-up.
const TypeFollowUp = "dbs:IncrementBackupSetDownloadTask:FollowUp"

// FollowUp asks what has become of a download task. The function sends it to its own source
// queue, with a delay, and sends the same again for as long as the task runs.
type FollowUp struct {
	TaskID  string
	Created time.Time // when the task was created
	Result  Result    // the TaskCreated result of the task, under TypeFollowUp
}

// NewFollowUp returns the follow-up of the task of a TaskCreated result.
func NewFollowUp(created Result) FollowUp {
	at, _ := time.Parse(timeLayout, created.Time) // as NewResult wrote it
	created.Type = TypeFollowUp
	return FollowUp{TaskID: created.Data.BackupSetDownloadTaskID, Created: at, Result: created}
}

// TaskEnd reports how a download task has ended, if it has, by its BackupSetDownloadStatus
// and its age: finish; stop, its download failed; or init, its precheck did. A young task
// in init may still start. See https://www.alibabacloud.com/help/doc-detail/178749.htm.
func TaskEnd(status string, age time.Duration) (finished, failed bool) {
	status = strings.ToLower(strings.TrimSpace(status))
	return status == "finish", status == "stop" || status == "init" && age >= 10*time.Minute
}

// Encode returns the message body.
func (f FollowUp) Encode() string { return marshal(f.Result) }

// End returns the result that says how the task ended. Kind is TypeTaskFinished,
// TypeTaskStopped or TypeTaskUnfinished; data is the Data of f.Result with what is
// known of the end. Texts that are too long are cut.
func (f FollowUp) End(kind string, at time.Time, data ResultData) Result {
	result := f.Result
	result.Type, result.Time, result.Data = kind, at.UTC().Format(timeLayout), data.bounded()
	return result
}

// readFollowUp reads a CloudEvent of type TypeFollowUp, whose id is in r.event.
func (r *reader) readFollowUp(o *object) error {
	if !r.delivered {
		r.byHand = true
		return malformed("a follow-up is a message that the function sends to its own source queue; it cannot be typed")
	}
	var data ResultData
	var source string
	created := cloudEventTime(o.Time)
	switch {
	case unmarshal(o.Data, &data) != nil, unmarshal(o.Source, &source) != nil,
		o.ID.isNull(), string(o.ID) == `""`, source == "", !allowed(source), created.IsZero(),
		data.BackupSetDownloadTaskID == "", len(data.BackupSetDownloadTaskID) > MaxAnswerID:
		return &Error{Code: CodeBadFollowUp,
			Message: "a follow-up needs id, source and time, and data with the BackupSetDownloadTaskId of the task"}
	}
	// Not the trace context of the envelope, which differs each time.
	r.event.Traceparent, r.event.Tracestate = "", ""
	r.readTraceContext(o.Traceparent, o.Tracestate)
	// Only DBS says how the task ended.
	data.BackupSetDownloadStatus, data.BackupSetDataSize, data.BackupSetDownloadFinishTime = "", 0, 0
	data.ErrCode, data.ErrMessage, data.HTTPStatusCode = "", "", 0
	followUp := NewFollowUp(NewResult(TypeFollowUp, r.event.ResultID(), r.event, Source{}, created, data))
	followUp.Result.Source = fmt.Sprintf("%.*s", maxField, source)
	r.event.FollowUp = &followUp
	return nil
}
