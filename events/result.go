package events

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Types of results.
const (
	TypeTaskCreated    = "dbs:IncrementBackupSetDownload:TaskCreated"    // DBS has the download task
	TypeTaskFailed     = "dbs:IncrementBackupSetDownload:TaskFailed"     // the event will make no task
	TypeTaskFinished   = "dbs:IncrementBackupSetDownload:TaskFinished"   // the file can be fetched
	TypeTaskStopped    = "dbs:IncrementBackupSetDownload:TaskStopped"    // the task will give no file
	TypeTaskUnfinished = "dbs:IncrementBackupSetDownload:TaskUnfinished" // the task is not followed any longer

	resultTypes = "dbs:IncrementBackupSetDownload:" // what all types of results start with
)

// timeLayout is RFC 3339 in UTC with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Bounds in bytes for texts from others, so that a result stays below the 64 KB of a
// queue message in either encoding, even if each byte is escaped.
const (
	maxErrMessage = 1024
	MaxAnswerID   = 128 // ErrCode, RequestId, BackupSetDownloadTaskId and BackupPlanId
)

// Source names the function that makes the results.
type Source struct {
	Region       string // such as cn-hangzhou
	AccountID    string
	FunctionName string
}

// String returns the source as CloudEvents and Alibaba Cloud write it.
func (s Source) String() string {
	return "acs:fc:" + s.Region + ":" + s.AccountID + ":functions/" + s.FunctionName
}

// CloudEvent is a CloudEvents 1.0 event in structured JSON mode.
type CloudEvent[Data any] struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"` // one of the Type constants
	Subject         string `json:"subject,omitempty"`
	Time            string `json:"time"` // RFC 3339, UTC, milliseconds
	DataContentType string `json:"datacontenttype"`
	Traceparent     string `json:"traceparent,omitempty"`
	Tracestate      string `json:"tracestate,omitempty"`
	Data            Data   `json:"data"`
}

func newCloudEvent[Data any](kind, id, source, subject string, at time.Time, data Data) CloudEvent[Data] {
	return CloudEvent[Data]{
		SpecVersion: "1.0", ID: id, Source: source, Type: kind, Subject: subject,
		Time: at.UTC().Format(timeLayout), DataContentType: "application/json", Data: data,
	}
}

// Result is what became of one event. A consumer drops repeats by (Source, ID, Type): a
// success may follow a failure, if the same event is sent again after its cause is gone.
type Result = CloudEvent[ResultData]

// ResultData holds the request and the answer of DBS, under the names of the
// service. A field that is not known is left out.
type ResultData struct {
	EventID                 string `json:"EventId,omitempty"`
	ClientToken             string `json:"ClientToken,omitempty"`
	BackupPlanID            string `json:"BackupPlanId,omitempty"`
	BackupSetID             string `json:"BackupSetId,omitempty"`
	BackupSetName           string `json:"BackupSetName,omitempty"`
	BackupSetDataFormat     string `json:"BackupSetDataFormat,omitempty"`
	BackupSetDownloadTaskID string `json:"BackupSetDownloadTaskId,omitempty"`

	// Of a task that has ended.
	BackupSetDownloadStatus     string `json:"BackupSetDownloadStatus,omitempty"`
	BackupSetDataSize           int64  `json:"BackupSetDataSize,omitzero"`           // bytes
	BackupSetDownloadFinishTime int64  `json:"BackupSetDownloadFinishTime,omitzero"` // milliseconds since 1970

	ErrCode        string `json:"ErrCode,omitempty"`
	ErrMessage     string `json:"ErrMessage,omitempty"`
	HTTPStatusCode int    `json:"HttpStatusCode,omitzero"`
	RequestID      string `json:"RequestId,omitempty"`
}

// NewResultData returns the part of a result that comes from the event itself. An event ID
// that is too long is replaced by its SHA-256; otherwise the values are the real ones,
// whatever their characters. For a follow-up it is the data of its task's TaskCreated.
func NewResultData(event Event) ResultData {
	if event.FollowUp != nil {
		return event.FollowUp.Result.Data
	}
	data := ResultData{
		EventID: event.ID, ClientToken: event.Request.ClientToken, BackupPlanID: event.BackupPlanID,
		BackupSetID: event.Request.BackupSetID, BackupSetName: event.Request.BackupSetName,
		BackupSetDataFormat: event.Request.BackupSetDataFormat,
	}
	if len(data.EventID) > maxField {
		data.EventID = event.ResultID()
	}
	return data
}

// NewResult returns the result of an event; kind is TypeTaskCreated or
// TypeTaskFailed. Texts that are too long are cut; a task ID must have at most
// MaxAnswerID bytes. A BackupSetName with characters that CloudEvents forbids does
// not become the subject; the data has it in any case.
func NewResult(kind, id string, event Event, source Source, at time.Time, data ResultData) Result {
	data = data.bounded()
	result := newCloudEvent(kind, id, source.String(), "", at, data)
	if allowed(data.BackupSetName) {
		result.Subject = data.BackupSetName
	}
	result.Traceparent, result.Tracestate = event.Traceparent, event.Tracestate
	return result
}

// bounded returns the data with overlong texts cut.
func (d ResultData) bounded() ResultData {
	for _, text := range []*string{&d.EventID, &d.BackupSetID, &d.BackupSetName} {
		*text = fmt.Sprintf("%.*s", maxField, *text) // in characters
	}
	for _, text := range []*string{
		&d.ClientToken, &d.BackupSetDataFormat, &d.BackupPlanID, &d.BackupSetDownloadStatus, &d.ErrCode, &d.RequestID,
	} {
		*text = Truncate(*text, MaxAnswerID)
	}
	d.ErrMessage = Truncate(d.ErrMessage, maxErrMessage)
	return d
}

// Truncate returns s cut to at most limit bytes (limit is at least 3) at a character
// boundary, with an ellipsis if something was cut off.
func Truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// Encoding is how a result becomes the text of a queue message.
type Encoding string

// The encodings: the JSON text, and its base64, which the Java, Python and PHP
// SDKs of MNS decode by default.
const (
	EncodingRaw    Encoding = "raw"
	EncodingBase64 Encoding = "base64"
)

// Encode returns the message body that carries the result.
func (e Encoding) Encode(result Result) string {
	text := marshal(result)
	if e == EncodingBase64 {
		return base64.StdEncoding.EncodeToString([]byte(text))
	}
	return text
}

// marshal returns a struct of strings and numbers as the JSON text of a queue message,
// which travels in XML: JSON escapes every control character, but not U+FFFE and U+FFFF,
// which XML cannot carry either. See https://www.w3.org/TR/xml/#charsets.
func marshal(value any) string {
	text, _ := json.Marshal(value, jsontext.AllowInvalidUTF8(true)) // strings and numbers always marshal
	return strings.ReplaceAll(strings.ReplaceAll(string(text), "\ufffe", `\ufffe`), "\uffff", `\uffff`)
}
