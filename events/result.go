package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// Types of results.
const (
	TypeTaskCreated = "dbs:IncrementBackupSetDownload:TaskCreated"
	TypeTaskFailed  = "dbs:IncrementBackupSetDownload:TaskFailed"
)

// Bounds in bytes for what a service answered, so that a result stays below the
// 64 KB of a queue message in either encoding, even if each byte is escaped.
const (
	maxErrMessage = 1024
	MaxAnswerID   = 128 // ErrCode, RequestId and BackupSetDownloadTaskId
)

// Source names the function that makes the results.
type Source struct {
	Region       string // such as cn-hangzhou
	AccountID    string
	FunctionName string
}

// String returns the source as CloudEvents and Alibaba Cloud write it.
func (s Source) String() string {
	return fmt.Sprintf("acs:fc:%s:%s:functions/%s", s.Region, s.AccountID, s.FunctionName)
}

// Result is what became of one event: a CloudEvents 1.0 event in structured JSON
// mode. A consumer drops repeats by (Source, ID).
type Result struct {
	SpecVersion     string     `json:"specversion"`
	ID              string     `json:"id"` // the event's ResultID
	Source          string     `json:"source"`
	Type            string     `json:"type"` // one of the Type constants
	Subject         string     `json:"subject,omitempty"`
	Time            string     `json:"time"` // RFC 3339, UTC, milliseconds
	DataContentType string     `json:"datacontenttype"`
	Traceparent     string     `json:"traceparent,omitempty"`
	Data            ResultData `json:"data"`
}

// ResultData holds the request and the answer of DBS, under the names of the
// service. A field that is not known is left out.
type ResultData struct {
	EventID                 string `json:"EventId,omitempty"`
	ClientToken             string `json:"ClientToken,omitempty"`
	BackupSetID             string `json:"BackupSetId,omitempty"`
	BackupSetName           string `json:"BackupSetName,omitempty"`
	BackupSetDataFormat     string `json:"BackupSetDataFormat,omitempty"`
	BackupSetDownloadTaskID string `json:"BackupSetDownloadTaskId,omitempty"`
	ErrCode                 string `json:"ErrCode,omitempty"`
	ErrMessage              string `json:"ErrMessage,omitempty"`
	HTTPStatusCode          int    `json:"HttpStatusCode,omitempty"`
	RequestID               string `json:"RequestId,omitempty"`
}

// NewResultData returns the part of a result that the event itself tells.
func NewResultData(event Event) ResultData {
	data := ResultData{
		EventID:             event.ID,
		ClientToken:         event.Request.ClientToken,
		BackupSetID:         event.Request.BackupSetID,
		BackupSetName:       event.Request.BackupSetName,
		BackupSetDataFormat: event.Request.BackupSetDataFormat,
	}
	if len(data.EventID) > maxField {
		data.EventID = event.ResultID()
	}
	return data
}

// NewResult returns the result with the given data: TaskCreated where it has a
// task ID, of at most MaxAnswerID bytes, else TaskFailed. Texts that are too long
// are cut.
func NewResult(id string, event Event, source Source, at time.Time, data ResultData) Result {
	kind := TypeTaskCreated
	if data.BackupSetDownloadTaskID == "" {
		kind = TypeTaskFailed
	}
	data.ErrCode = Truncate(data.ErrCode, MaxAnswerID)
	data.ErrMessage = Truncate(data.ErrMessage, maxErrMessage)
	data.RequestID = Truncate(data.RequestID, MaxAnswerID)
	return Result{
		SpecVersion:     "1.0",
		ID:              id,
		Source:          source.String(),
		Type:            kind,
		Subject:         data.BackupSetName,
		Time:            at.UTC().Format("2006-01-02T15:04:05.000Z"),
		DataContentType: "application/json",
		Traceparent:     event.Traceparent,
		Data:            data,
	}
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
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	// A Result holds strings and numbers only, which always marshal.
	_ = encoder.Encode(result)
	text := bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
	// XML, in which a queue message travels, cannot carry these two.
	text = bytes.ReplaceAll(text, []byte("\ufffe"), []byte(`\ufffe`))
	text = bytes.ReplaceAll(text, []byte("\uffff"), []byte(`\uffff`))
	if e == EncodingBase64 {
		return base64.StdEncoding.EncodeToString(text)
	}
	return string(text)
}

// Truncate returns s cut to at most limit bytes, on a character's edge and with
// an ellipsis where something was cut off.
func Truncate(s string, limit int) string {
	const ellipsis = "…"
	if len(s) <= limit {
		return s
	}
	cut := limit - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
