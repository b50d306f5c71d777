package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Error codes of the function itself, beside those of DBS.
const (
	CodeMalformed             = "Event.Malformed"             // not an event in any known shape
	CodeMissingBackupSet      = "Event.MissingBackupSet"      // the backup set is incomplete
	CodeConflict              = "Event.Conflict"              // values that contradict each other
	CodeUnsupportedDataFormat = "Event.UnsupportedDataFormat" // BackupSetDataFormat is none of [DataFormats]
)

// DataFormats returns the values that DBS documents for BackupSetDataFormat.
func DataFormats() []string { return []string{"Native", "SQL", "CSV", "JSON"} }

// StatusCompleted is the BackupStatus of a backup set that can be downloaded.
const StatusCompleted = "COMPLETED"

// maxField bounds each parameter of a request and an event ID, in characters. DBS
// documents no limit; the parameters travel in a query string, and a result
// repeats them within the 64 KB of a queue message.
const maxField = 1024

// Error says why an event can never succeed. Its text holds names of fields, and
// never a message body.
type Error struct {
	Code    string // one of the Code constants
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func malformed(format string, args ...any) *Error {
	return &Error{Code: CodeMalformed, Message: fmt.Sprintf(format, args...)}
}

// Request holds the parameters of CreateIncrementBackupSetDownload, under the
// names of the request. A list item of DescribeIncrementBackupList names them
// differently: its BackupSetJobId is the BackupSetID here, and its BackupSetId
// is the BackupSetName.
type Request struct {
	BackupSetID         string // incremental backup task ID, such as t4yh0g0g0001
	BackupSetName       string // incremental backup set ID; for MySQL a binlog name
	BackupSetDataFormat string // one of DataFormats, or empty: not sent
	ClientToken         string // idempotence token, 1 to 64 printable ASCII characters
}

// Event is one message of a payload.
type Event struct {
	// ID is the event ID: the CloudEvents id of the innermost envelope that has
	// one, else the message ID, else empty.
	ID string
	// MessageID is the ID of the queue or topic message, where there is one.
	MessageID string
	// Time is when the outermost envelope says the event happened, or zero.
	Time time.Time
	// Announced says that discovery announced the event.
	Announced bool
	// Traceparent is the W3C trace context of the innermost envelope that has one.
	Traceparent string
	// Body is the original message body, unchanged: what a dead letter holds.
	Body string
	// ByHand says that the payload is no delivery of a trigger but was typed, in
	// the console or on a command line: it has no envelope. The bare body that an
	// MNS topic sends in STREAM format without attributes looks the same.
	ByHand bool
	// DryRun asks to answer what would be done, and to do nothing. Only events
	// typed by hand can ask for it.
	DryRun bool
	// BackupStatus is that of a list item, and empty for request parameters.
	BackupStatus string
	// Request is complete where the event came without an error and is not to be
	// ignored.
	Request Request
}

// Ignored reports whether the event announces a backup set that is not complete.
// Its completion comes as an event of its own.
func (e Event) Ignored() bool {
	return e.BackupStatus != "" && !strings.EqualFold(e.BackupStatus, StatusCompleted)
}

// ResultID returns the id of the event's result: the event ID, or the SHA-256 of
// the body in hex where there is none, or of the event ID where that is longer than 1024 bytes.
func (e Event) ResultID() string {
	switch {
	case e.ID == "":
		return digest(e.Body)
	case len(e.ID) > maxField:
		return digest(e.ID)
	}
	return e.ID
}

// OwnResultID returns an id for the event's result where another event, of the
// same event ID and another content, has taken the usual one.
func (e Event) OwnResultID() string { return digest(e.ID + "\n" + e.MessageID + "\n" + e.Body) }

// Decoder reads payloads. The zero value is ready to use, and a Decoder may be
// used by many goroutines at once.
type Decoder struct {
	// DataFormat is the BackupSetDataFormat of events that name none: one of
	// DataFormats, or empty for not sent.
	DataFormat string
}

// Decode yields the messages of a payload, in order, each read on its own: an
// event with a nil error is complete or to be ignored; one with an [*Error] can
// never succeed, and its Body, its ByHand and what could be read of its IDs are
// set. It never panics, and it does not keep the payload.
//
// The shapes it reads, of Function Compute's triggers and of MNS:
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
// data is the backup set.
func (d Decoder) Decode(payload []byte) iter.Seq2[Event, *Error] {
	return func(yield func(Event, *Error) bool) {
		content, ok := jsonText(payload)
		if len(payload) == 0 {
			yield(Event{ByHand: true}, malformed("the payload is empty"))
			return
		}
		if !ok {
			yield(Event{ByHand: true, Body: string(payload)},
				malformed("the payload (%d bytes) is neither a JSON object or array nor base64 of one", len(payload)))
			return
		}
		if isObject(content) {
			yield(d.message(content, true))
			return
		}
		for element := range elements(content) {
			if !yield(d.message(element, false)) {
				return
			}
		}
	}
}

// message reads one message of a payload that is valid JSON. A bare one is the
// whole payload: without an envelope in it, it was typed by hand.
func (d Decoder) message(raw []byte, bare bool) (Event, *Error) {
	r := reader{}
	err := r.unwrap(raw, 0)
	event := r.event
	event.ByHand = bare && !r.enveloped
	if !r.delivered {
		event.Body = text(raw)
	}
	if event.ID == "" {
		event.ID = event.MessageID
	}
	switch {
	case err != nil:
		return event, err
	case event.DryRun && !r.enveloped && !event.ByHand:
		event.ByHand = true // no trigger sends it, so nothing is published for it
		return event, malformed("DryRun takes one backup set, not an array")
	case event.DryRun && !event.ByHand:
		return event, malformed("DryRun is for events typed by hand; this one was delivered")
	case event.Ignored():
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
	specversion, id, traceparent, data, dataBase64   []byte // CloudEvents
	messageID, messageBody                           []byte // queue message
	topicName, topicMessageID, topicMessage          []byte // topic, JSON format
	body, attrs                                      []byte // topic, STREAM format
	backupSetJobID, backupSetID, backupSetName       []byte // backup set
	backupSetDataFormat, backupStatus, token, dryRun []byte
}

func readObject(text []byte) object {
	var o object
	for name, value := range members(text) {
		switch string(name) {
		case "specversion":
			o.specversion = value
		case "id":
			o.id = value
		case "traceparent":
			o.traceparent = value
		case "data":
			o.data = value
		case "data_base64":
			o.dataBase64 = value
		case "messageId":
			o.messageID = value
		case "messageBody":
			o.messageBody = value
		case "TopicName":
			o.topicName = value
		case "MessageId":
			o.topicMessageID = value
		case "Message":
			o.topicMessage = value
		case "body":
			o.body = value
		case "attrs":
			o.attrs = value
		case "BackupSetJobId":
			o.backupSetJobID = value
		case "BackupSetId":
			o.backupSetID = value
		case "BackupSetName":
			o.backupSetName = value
		case "BackupSetDataFormat":
			o.backupSetDataFormat = value
		case "BackupStatus":
			o.backupStatus = value
		case "ClientToken":
			o.token = value
		case "DryRun":
			o.dryRun = value
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
func (r *reader) unwrap(value []byte, depth int) *Error {
	if depth > maxNesting {
		return malformed("the event is wrapped more than %d times", maxNesting)
	}
	content, ok := value, isObject(value)
	if isString(value) {
		content, ok = jsonText([]byte(unquote(value)))
	}
	switch {
	case !ok:
		return malformed("the event is neither a JSON object nor base64 of one")
	case !isObject(content):
		return malformed("the event is a JSON array: send one backup set in each message")
	}

	o := readObject(content)
	switch {
	case o.specversion != nil, o.id != nil && o.data != nil:
		return r.unwrapCloudEvent(o, depth)
	case o.messageBody != nil:
		return r.unwrapMessage(o.messageID, o.messageBody, "messageBody", depth)
	case o.topicName != nil && o.topicMessage != nil:
		return r.unwrapMessage(o.topicMessageID, o.topicMessage, "Message", depth)
	case o.body != nil && o.attrs != nil:
		return r.unwrapMessage(nil, o.body, "body", depth)
	}
	return r.readBackupSet(o)
}

func (r *reader) unwrapCloudEvent(o object, depth int) *Error {
	r.enveloped = true
	if err := readID(&r.event.ID, "id", o.id); err != nil {
		return err
	}
	if isString(o.traceparent) {
		if parent := unquote(o.traceparent); isTraceparent(parent) {
			r.event.Traceparent = parent
		}
	}
	if isNull(o.data) {
		o.data = o.dataBase64
	}
	if isNull(o.data) {
		return malformed("the CloudEvent has no data")
	}
	return r.unwrap(o.data, depth+1)
}

// unwrapMessage reads a queue or topic message. Where messages are nested, the
// outermost is the one that was delivered: its ID and its body count.
func (r *reader) unwrapMessage(id, body []byte, field string, depth int) *Error {
	r.enveloped = true
	if !r.delivered {
		r.delivered = true
		r.event.Body = text(body)
		if err := readID(&r.event.MessageID, "the message ID", id); err != nil {
			return err
		}
	}
	if !isString(body) && !isObject(body) {
		return malformed("%s must be a string", field)
	}
	return r.unwrap(body, depth+1)
}

// readBackupSet reads the backup set, whose parameter names cross over between
// its two shapes; see [Request].
func (r *reader) readBackupSet(o object) *Error {
	var jobID, setID, name, format, token string
	for _, field := range []struct {
		name  string
		value []byte
		into  *string
	}{
		{"BackupSetJobId", o.backupSetJobID, &jobID},
		{"BackupSetId", o.backupSetID, &setID},
		{"BackupSetName", o.backupSetName, &name},
		{"BackupSetDataFormat", o.backupSetDataFormat, &format},
		{"BackupStatus", o.backupStatus, &r.event.BackupStatus},
		{"ClientToken", o.token, &token},
	} {
		if isNull(field.value) {
			continue
		}
		if !isString(field.value) {
			return malformed("%s must be a string", field.name)
		}
		*field.into = unquote(field.value)
		if n := utf8.RuneCountInString(*field.into); n > maxField {
			return malformed("%s is %d characters long; at most %d are taken", field.name, n, maxField)
		}
	}
	switch string(o.dryRun) {
	case "", "null", "false":
	case "true":
		r.event.DryRun = true
	default:
		return malformed("DryRun must be true or false")
	}

	if jobID == "" {
		r.event.BackupStatus = "" // that of a list item only
	}
	if r.event.Ignored() {
		return nil
	}
	request := Request{BackupSetDataFormat: format, ClientToken: token}
	switch {
	case jobID != "" && setID != "" && name == "":
		request.BackupSetID, request.BackupSetName = jobID, setID
	case jobID == "" && setID != "" && name != "":
		request.BackupSetID, request.BackupSetName = setID, name
	case jobID != "" && setID != "" && name != "":
		if jobID != setID || setID != name {
			return &Error{Code: CodeConflict, Message: "BackupSetJobId, BackupSetId and BackupSetName contradict each other: " +
				"send BackupSetJobId and BackupSetId as DescribeIncrementBackupList lists them, or BackupSetId and BackupSetName as the request takes them"}
		}
		request.BackupSetID, request.BackupSetName = setID, name
	default:
		return missing(jobID, setID, name)
	}
	if format != "" && !slices.Contains(DataFormats(), format) {
		return &Error{Code: CodeUnsupportedDataFormat, Message: fmt.Sprintf("BackupSetDataFormat is %.32q; it must be one of %s",
			format, strings.Join(DataFormats(), ", "))}
	}
	r.event.Request = request
	return nil
}

func missing(jobID, setID, name string) *Error {
	var what string
	switch {
	case setID != "":
		what = "BackupSetJobId or BackupSetName is missing"
	case jobID == "" && name == "":
		what = "BackupSetId is missing, and BackupSetJobId or BackupSetName"
	default:
		what = "BackupSetId is missing"
	}
	return &Error{Code: CodeMissingBackupSet, Message: what +
		": a backup event has BackupSetJobId and BackupSetId (an item of DescribeIncrementBackupList) or BackupSetId and BackupSetName (request parameters)"}
}

// readID reads an ID, which CloudEvents wants to be a string; a number is taken
// by its digits, so that it stays the same ID on redelivery.
func readID(into *string, name string, value []byte) *Error {
	switch {
	case isNull(value):
	case isString(value):
		if id := unquote(value); id != "" {
			*into = id
		}
	case value[0] == '-' || value[0] >= '0' && value[0] <= '9':
		*into = string(value)
	default:
		return malformed("%s must be a string", name)
	}
	return nil
}

// text returns a JSON string's content, and any other JSON value as it stands.
func text(value []byte) string {
	if isString(value) {
		return unquote(value)
	}
	return string(value)
}

// maxToken is the length that Alibaba Cloud's general idempotence rule allows a
// ClientToken; DBS itself documents none.
const maxToken = 64

// clientToken returns the token for an event whose request is otherwise whole: an
// explicit one, else the event ID, else the parameters that it names. It never
// changes for the same event, so that DBS answers a repeat with the same task.
func clientToken(event Event) string {
	token := event.Request.ClientToken
	if token == "" {
		token = event.ID
	}
	if token == "" {
		parameters := url.Values{
			"BackupSetId":   {event.Request.BackupSetID},
			"BackupSetName": {event.Request.BackupSetName},
		}
		if event.Request.BackupSetDataFormat != "" {
			parameters.Set("BackupSetDataFormat", event.Request.BackupSetDataFormat)
		}
		return digest(parameters.Encode())
	}
	if len(token) > maxToken || strings.ContainsFunc(token, func(c rune) bool { return c < ' ' || c > '~' }) {
		return digest(token)
	}
	return token
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// isTraceparent reports whether s has the form of a W3C trace context:
// version-traceid-parentid-flags, in lower-case hex.
func isTraceparent(s string) bool {
	if len(s) != 55 {
		return false
	}
	for i, c := range []byte(s) {
		dash := i == 2 || i == 35 || i == 52
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return true
}
