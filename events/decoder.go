package events

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/events/rawjson"
)

// Decoder reads payloads. The zero value is ready to use, and a Decoder may be
// used by many goroutines at once.
type Decoder struct {
	// DataFormat is the BackupSetDataFormat of events that name none: one of
	// DataFormats, or empty for not sent.
	DataFormat string
}

// Decode yields the messages of a payload, in order, each read on its own: an
// event with a nil error is complete or to be ignored; one with an error can
// never succeed, and its Body, its ByHand, its Time and what could be read of its
// IDs are set. The error is an [*Error]. Decode never panics, and it does not keep the payload.
//
// The shapes it reads, of Function Compute's triggers and of MNS (for samples see
// testdata and github.com/aliyun/fc-runtime-go-sdk v0.3.1, events/README_MNS_*.md):
//
//   - event streaming: an array of CloudEvents, each an object or a string that
//     holds one, with data.messageBody;
//   - event mode: one such CloudEvent;
//   - RawData: an array, or one, of {requestId, messageId, messageBody};
//   - an MNS topic: {TopicName, MessageId, Message}, {body, attrs}, or the body;
//   - a CloudEvent whose data is the backup set;
//   - the backup set itself, as typed by hand.
//
// A message body is JSON or base64 of JSON, and may itself be a CloudEvent whose
// data is the backup set. An object is a CloudEvent if it has a specversion.
//
// The error of an array's element that has no envelope names the element by its
// number, counted from 1, since nothing else distinguishes it.
func (d Decoder) Decode(payload []byte) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if len(payload) == 0 {
			yield(Event{ByHand: true}, malformed("the payload is empty"))
			return
		}
		content, fault := jsonText(payload)
		if fault != "" {
			yield(Event{ByHand: true, Body: string(payload)}, malformed("the payload (%d bytes) is %s", len(payload), fault))
			return
		}
		if rawjson.IsObject(content) {
			yield(d.message(content, 0))
			return
		}
		number := 0
		for element := range rawjson.Elements(content) {
			number++
			if !yield(d.message(element, number)) {
				return
			}
		}
	}
}

// message reads one message of a payload that is valid JSON. Number is that of
// the element in an array, or 0 for the whole payload: without an envelope in it,
// that was typed by hand.
func (d Decoder) message(raw []byte, number int) (Event, error) {
	r := reader{}
	err := r.unwrap(raw, 0)
	event := r.event
	event.ByHand = number == 0 && !r.enveloped
	if !r.delivered {
		event.Body = text(raw)
	}
	if event.ID == "" {
		event.ID = event.MessageID
	}
	if err == nil && event.DryRun && !event.ByHand {
		if err = malformed("DryRun is for events typed by hand; this one was delivered"); !r.enveloped {
			event.ByHand = true // no trigger sends it, so nothing is published for it
			err = malformed("DryRun takes one backup set, not an array")
		}
	}
	if err != nil {
		event.Request.ClientToken = ""
		if number > 0 && !r.enveloped {
			err = within(fmt.Sprintf("element %d of the array", number), err)
		}
		return event, err
	}
	if event.Ignored() {
		return event, nil
	}
	// Before the default is applied: the token must not change with a setting.
	event.Request.ClientToken = clientToken(event)
	if event.Request.BackupSetDataFormat == "" {
		event.Request.BackupSetDataFormat = d.DataFormat
	}
	return event, nil
}

// object holds the members that any of the known shapes names, as raw JSON.
type object struct {
	specversion, id, source, kind, time, data, dataBase64 []byte // CloudEvents
	traceparent, tracestate                               []byte // CloudEvents, distributed tracing
	messageID, messageBody                                []byte // queue message
	topicName, topicMessageID, topicMessage, publishTime  []byte // topic, JSON format
	body, attrs                                           []byte // topic, STREAM format
	backupSetJobID, backupSetID, backupSetName            []byte // backup set
	backupSetDataFormat, backupStatus, token, dryRun      []byte
}

// member returns the place of the member with this name, or nil if no shape has
// such a member.
func (o *object) member(name []byte) *[]byte {
	switch string(name) {
	case "specversion":
		return &o.specversion
	case "id":
		return &o.id
	case "source":
		return &o.source
	case "type":
		return &o.kind
	case "time":
		return &o.time
	case "data":
		return &o.data
	case "data_base64":
		return &o.dataBase64
	case "traceparent":
		return &o.traceparent
	case "tracestate":
		return &o.tracestate
	case "messageId":
		return &o.messageID
	case "messageBody":
		return &o.messageBody
	case "TopicName":
		return &o.topicName
	case "MessageId":
		return &o.topicMessageID
	case "Message":
		return &o.topicMessage
	case "PublishTime":
		return &o.publishTime
	case "body":
		return &o.body
	case "attrs":
		return &o.attrs
	case "BackupSetJobId":
		return &o.backupSetJobID
	case "BackupSetId":
		return &o.backupSetID
	case "BackupSetName":
		return &o.backupSetName
	case "BackupSetDataFormat":
		return &o.backupSetDataFormat
	case "BackupStatus":
		return &o.backupStatus
	case "ClientToken":
		return &o.token
	case "DryRun":
		return &o.dryRun
	}
	return nil
}

func readObject(text []byte) object {
	var o object
	for name, value := range rawjson.Members(text) {
		if place := o.member(name); place != nil {
			*place = value
		}
	}
	return o
}

// reader takes one message out of its envelopes, outermost first, and notes what
// they say.
type reader struct {
	event     Event
	enveloped bool // in an envelope of any kind
	delivered bool // in a queue or topic message, whose body is in event.Body
}

// unwrap reads value, which is valid JSON.
func (r *reader) unwrap(value []byte, depth int) error {
	if rawjson.IsString(value) {
		return r.unwrapText(rawjson.Unquote(value), depth)
	}
	return r.unwrapJSON(value, depth)
}

// unwrapText reads text that should be JSON or base64 of JSON.
func (r *reader) unwrapText(text []byte, depth int) error {
	content, fault := jsonText(text)
	if fault != "" {
		return malformed("the event is %s", fault)
	}
	return r.unwrapJSON(content, depth)
}

// unwrapJSON reads content, which is valid JSON and no string.
func (r *reader) unwrapJSON(content []byte, depth int) error {
	switch {
	case depth > maxNesting:
		return malformed("the event is wrapped more than %d times", maxNesting)
	case content[0] == '[':
		return malformed("the event is a JSON array: send one backup set in each message")
	case !rawjson.IsObject(content):
		return malformed("the event is neither a JSON object nor base64 of one")
	}
	o := readObject(content)
	switch {
	case !rawjson.IsNull(o.specversion):
		return r.unwrapCloudEvent(&o, depth)
	case o.messageBody != nil:
		return r.unwrapMessage(time.Time{}, o.messageID, o.messageBody, "messageBody", depth)
	case o.topicName != nil && o.topicMessage != nil:
		return r.unwrapMessage(publishTime(o.publishTime), o.topicMessageID, o.topicMessage, "Message", depth)
	case o.body != nil && o.attrs != nil:
		return r.unwrapMessage(time.Time{}, nil, o.body, "body", depth)
	}
	return r.readBackupSet(&o, content)
}

func (r *reader) unwrapCloudEvent(o *object, depth int) error {
	if !r.enveloped {
		r.event.Time = cloudEventTime(o.time)
	}
	r.enveloped = true
	if err := readID(&r.event.ID, "id", o.id); err != nil {
		return err
	}
	r.readTraceContext(o.traceparent, o.tracestate)
	if rawjson.IsString(o.kind) {
		kind := unquote(o.kind)
		if strings.HasPrefix(kind, resultTypes) {
			return &Error{Code: CodeOwnResult, Message: "this is a result of the function, not a backup event: " +
				"the result queue and the source queue are the same, or one is forwarded to the other"}
		}
		r.event.Announced = kind == TypeBackupSetCompleted && rawjson.IsString(o.source) && isBackupPlan(unquote(o.source))
	}
	if rawjson.IsNull(o.data) {
		o.data = o.dataBase64
	}
	if rawjson.IsNull(o.data) {
		return malformed("the CloudEvent has no data")
	}
	return r.unwrap(o.data, depth+1)
}

// unwrapMessage reads a queue or topic message. If messages are nested, the
// outermost is the one that was delivered: its ID and its body count.
func (r *reader) unwrapMessage(sent time.Time, id, body []byte, field string, depth int) error {
	if !r.enveloped {
		r.event.Time = sent
	}
	r.enveloped = true
	content := body
	if rawjson.IsString(body) {
		content = rawjson.Unquote(body)
	}
	if !r.delivered {
		r.delivered = true
		r.event.Body = string(content)
		if err := readID(&r.event.MessageID, "the message ID", id); err != nil {
			return err
		}
	}
	switch {
	case rawjson.IsString(body):
		return r.unwrapText(content, depth+1)
	case rawjson.IsObject(body):
		return r.unwrapJSON(content, depth+1)
	}
	return malformed("%s must be a string", field)
}

// text returns a JSON string's content, and any other JSON value as it stands.
func text(value []byte) string {
	if rawjson.IsString(value) {
		return unquote(value)
	}
	return string(value)
}

// cloudEventTime returns the zero time if value is no RFC 3339 time. Triggers
// write any number of fractional digits.
func cloudEventTime(value []byte) time.Time {
	if !rawjson.IsString(value) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, unquote(value))
	if err != nil {
		return time.Time{}
	}
	return t
}

// publishTime reads a topic message's PublishTime, in milliseconds since 1970. See
// github.com/aliyun/fc-runtime-go-sdk v0.3.1, events/README_MNS_Topic.md; the
// SDK's own type cannot read that number.
func publishTime(value []byte) time.Time {
	const year10000 = 253_402_300_800_000
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || ms <= 0 || ms >= year10000 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// isBackupPlan reports whether source is acs:dbs:<region>:<account>:backupplan/<id>.
func isBackupPlan(source string) bool {
	parts := strings.SplitN(source, ":", 5)
	if len(parts) < 5 || parts[0] != "acs" || parts[1] != "dbs" || parts[2] == "" || parts[3] == "" {
		return false
	}
	id, ok := strings.CutPrefix(parts[4], "backupplan/")
	return ok && id != ""
}
