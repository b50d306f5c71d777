package events

import (
	"cmp"
	"fmt"
	"iter"
	"path"
	"strconv"
	"strings"
	"time"
)

// Decoder reads payloads. The zero value is ready to use, and a Decoder may be
// used by many goroutines at once.
type Decoder struct {
	// DataFormat is the BackupSetDataFormat of events that name none: one of
	// DataFormats; if it is empty, the field is not sent.
	DataFormat string
}

// maxBody bounds the Body of an event, in bytes of JSON. No queue message holds more:
// 64 KB, of which each byte may be escaped as six.
const maxBody = 6 * 64 << 10

// Decode yields the messages of a payload, in order, each read on its own. An event
// without an error is a complete request, a follow-up, or to be ignored. One with an
// error, which is an [*Error], can never succeed: its Body, its ByHand, its Time and
// what could be read of its IDs are set. The Body is not kept if the payload cannot be
// read at all, or if an element is too large for a queue: either may have 32 MB.
// Decode never panics, and does not keep the payload.
//
// The shapes it reads, of Function Compute's triggers and of MNS (for samples see
// testdata and github.com/aliyun/fc-runtime-go-sdk v0.3.1, events/README_MNS_*.md):
//
//   - event streaming: an array of CloudEvents, each an object or a string that
//     holds one, with data.messageBody; event mode: one of them;
//   - RawData: an array, or one, of {requestId, messageId, messageBody};
//   - an MNS topic: {TopicName, MessageId, Message}, {body, attrs}, or the body;
//   - a CloudEvent whose data is the backup set, or that itself, as typed by hand;
//   - in a queue message, a follow-up.
//
// A message body is JSON or base64 of JSON, and may itself be a CloudEvent whose
// data is the backup set. An object is a CloudEvent if it has a specversion.
func (d Decoder) Decode(payload []byte) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if len(payload) == 0 {
			yield(Event{ByHand: true}, malformed("the payload is empty%s", commands))
			return
		}
		content, err := jsonText(payload)
		if err != nil {
			yield(Event{ByHand: true}, malformed("the payload (%d bytes) is %s%s", len(payload), err, commands))
			return
		}
		if raw(content).isObject() {
			yield(d.message(content, 0))
			return
		}
		number := 0
		for element := range elements(content) {
			number++
			if !yield(d.message(element, number)) {
				return
			}
		}
	}
}

// message reads one message of a payload that is valid JSON. Number is the position of
// an array element, by which an error names it if it has no envelope, or 0 for the whole
// payload, which was typed by hand if it has no envelope.
func (d Decoder) message(value raw, number int) (Event, error) {
	r := reader{body: value}
	err := r.unwrap(value, 0)
	event := r.event
	event.ByHand = r.byHand || number == 0 && !r.enveloped
	event.ID = cmp.Or(event.ID, event.MessageID)
	switch {
	case len(r.body) > maxBody:
		event.ID = cmp.Or(event.ID, digest(r.body)) // in place of a copy
	case r.delivered:
		event.Body = string(r.body)
	default:
		event.Body = value.string()
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
	if event.Ignored() || event.FollowUp != nil {
		return event, nil
	}
	// Before the default is applied: the token must not change with a setting.
	event.Request.ClientToken = clientToken(event, r.startTime)
	event.Request.BackupSetDataFormat = cmp.Or(event.Request.BackupSetDataFormat, d.DataFormat)
	return event, nil
}

// object holds the members that any of the known shapes names.
type object struct {
	// CloudEvent, with the extension for distributed tracing
	SpecVersion raw `json:"specversion"`
	ID          raw `json:"id"`
	Source      raw `json:"source"`
	Type        raw `json:"type"`
	Time        raw `json:"time"`
	Data        raw `json:"data"`
	DataBase64  raw `json:"data_base64"`
	Traceparent raw `json:"traceparent"`
	Tracestate  raw `json:"tracestate"`

	// queue message
	MessageID   raw `json:"messageId"`
	MessageBody raw `json:"messageBody"`

	// topic message, in JSON and STREAM format
	TopicMessageID                  raw `json:"MessageId"`
	TopicName, Message, PublishTime raw
	Body                            raw `json:"body"`
	Attrs                           raw `json:"attrs"`

	// backup set
	BackupSetJobID                               raw `json:"BackupSetJobId"`
	BackupSetID                                  raw `json:"BackupSetId"`
	BackupSetName, BackupSetDataFormat           raw
	BackupStatus, StartTime, ClientToken, DryRun raw
}

// reader takes one message out of its envelopes, outermost first, and notes what they say.
type reader struct {
	event     Event
	enveloped bool // in an envelope of any kind
	delivered bool // in a queue or topic message
	body      raw  // what was delivered; else the message as a JSON value
	byHand    bool // typed, whatever is around it
	startTime string
}

// unwrap reads value, which is valid JSON.
func (r *reader) unwrap(value raw, depth int) error {
	if value.isString() {
		return r.unwrapText(value.text(), depth)
	}
	return r.unwrapJSON(value, depth)
}

// unwrapText reads text that should be JSON or base64 of JSON.
func (r *reader) unwrapText(text []byte, depth int) error {
	content, err := jsonText(text)
	if err != nil {
		return malformed("the event is %s", err)
	}
	return r.unwrapJSON(content, depth)
}

// unwrapJSON reads content, which is valid JSON but not a string.
func (r *reader) unwrapJSON(content raw, depth int) error {
	switch {
	case depth > maxNesting:
		return malformed("the event is wrapped more than %d times", maxNesting)
	case content[0] == '[':
		return malformed("the event is a JSON array: send one backup set in each message")
	case !content.isObject():
		return malformed("the event is neither a JSON object nor base64 of one")
	}
	var o object
	if err := unmarshal(content, &o); err != nil {
		return malformed("the event is a JSON object that cannot be read")
	}
	switch {
	case !o.SpecVersion.isNull():
		return r.unwrapCloudEvent(&o, depth)
	case o.MessageBody != nil:
		return r.unwrapMessage(time.Time{}, o.MessageID, o.MessageBody, "messageBody", depth)
	case o.TopicName != nil && o.Message != nil:
		return r.unwrapMessage(publishTime(o.PublishTime), o.TopicMessageID, o.Message, "Message", depth)
	case o.Body != nil && o.Attrs != nil:
		return r.unwrapMessage(time.Time{}, nil, o.Body, "body", depth)
	}
	return r.readBackupSet(&o, content)
}

func (r *reader) unwrapCloudEvent(o *object, depth int) error {
	if !r.enveloped {
		r.event.Time = cloudEventTime(o.Time)
	}
	r.enveloped = true
	if err := readID(&r.event.ID, "id", o.ID); err != nil {
		return err
	}
	r.readTraceContext(o.Traceparent, o.Tracestate)
	switch kind := o.Type.string(); {
	case !o.Type.isString():
	case strings.HasPrefix(kind, resultTypes):
		return &Error{CodeOwnResult, "this is a result of the function, not a backup event: " +
			"the result queue and the source queue are the same, or one is forwarded to the other"}
	case kind == TypeFollowUp:
		return r.readFollowUp(o)
	default:
		r.event.BackupPlanID = announcedPlan(kind, o.Source.string())
		r.event.Announced = r.event.BackupPlanID != ""
	}
	if o.Data.isNull() {
		o.Data = o.DataBase64
	}
	if o.Data.isNull() {
		return malformed("the CloudEvent has no data")
	}
	return r.unwrap(o.Data, depth+1)
}

// unwrapMessage reads a queue or topic message. If messages are nested, the
// outermost is the one that was delivered: its ID and its body count.
func (r *reader) unwrapMessage(sent time.Time, id, body raw, field string, depth int) error {
	if !r.enveloped {
		r.event.Time = sent
	}
	r.enveloped = true
	content := body.text()
	if !r.delivered {
		r.delivered, r.body = true, content
		if err := readID(&r.event.MessageID, "the message ID", id); err != nil {
			return err
		}
	}
	if !body.isString() && !body.isObject() {
		return malformed("%s must be a string", field)
	}
	return r.unwrapText(content, depth+1) // an object is the text that it is
}

// cloudEventTime returns the zero time if value is not an RFC 3339 time. Triggers
// write any number of fractional digits.
func cloudEventTime(value raw) time.Time {
	t, _ := time.Parse(time.RFC3339, value.string())
	return t
}

// publishTime reads a topic message's PublishTime, in milliseconds since 1970. See
// github.com/aliyun/fc-runtime-go-sdk v0.3.1, events/README_MNS_Topic.md; the
// SDK's own type cannot read that number.
func publishTime(value raw) time.Time {
	const year10000 = 253_402_300_800_000
	ms, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || ms <= 0 || ms >= year10000 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// announcedPlan returns the ID of the plan that the source of an announcement names.
func announcedPlan(kind, source string) string {
	if ok, _ := path.Match("acs:dbs:?*:?*:backupplan/?*", source); !ok || kind != TypeBackupSetCompleted {
		return ""
	}
	return source[strings.LastIndexByte(source, '/')+1:]
}
