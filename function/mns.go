package function

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	mns "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/valyala/fasthttp"

	"increment-backup-download/handler"
)

// mnsPriority is the service's default. The SDK always sends the field, and the
// service refuses its zero value.
const mnsPriority = 8

// The connections to MNS are those of two outboxes. A usual batch of results has
// some 15 KB of XML.
const (
	mnsConnections = 8
	mnsWriteBuffer = 64 << 10
)

// mnsQueue publishes to one queue through the MNS SDK. It is safe for concurrent
// use.
type mnsQueue struct {
	endpoint *url.URL
	name     string
	http     *http.Client
	fallback *accessKey
}

var _ handler.Queue = (*mnsQueue)(nil)

// Send makes one BatchSendMessage request.
func (q *mnsQueue) Send(ctx context.Context, bodies []string) (answers []error) {
	answers = make([]error, len(bodies))
	all := func(err error) []error {
		for i := range answers {
			answers[i] = err
		}
		return answers
	}
	key, err := accessKeyOf(ctx, q.fallback)
	if err != nil {
		return all(err)
	}
	defer func() {
		if cause := recover(); cause != nil {
			answers = all(classifyMNS(fmt.Errorf("the MNS client panicked (%T)", cause), q.name, key))
		}
	}()

	messages := make([]mns.MessageSendRequest, len(bodies))
	for i, body := range bodies {
		messages[i] = mns.MessageSendRequest{MessageBody: xmlText(body), Priority: mnsPriority}
	}
	// A queue object holds a rate monitor that goroutines race for; one for each
	// request costs next to nothing.
	call := &mnsCall{ctx: ctx, endpoint: q.endpoint, http: q.http, key: key}
	response, err := mns.NewMNSQueue(q.name, call).BatchSendMessage(messages...)
	if len(response.Messages) != len(bodies) {
		// An empty answer with a good status comes without an error.
		if err == nil {
			err = fmt.Errorf("the answer is about %d of %d messages", len(response.Messages), len(bodies))
		}
		return all(classifyMNS(err, q.name, key))
	}
	for i, message := range response.Messages {
		switch {
		case message.ErrorCode != "":
			answers[i] = classifyMNS(&mnsError{status: call.status, code: message.ErrorCode, message: message.ErrorMessage}, q.name, key)
		case message.MessageId == "":
			answers[i] = classifyMNS(errors.New("the answer has no MessageId"), q.name, key)
		}
	}
	return answers
}

// mnsCall is the client under one request of an SDK queue. The SDK's own client
// knows no context, repeats a POST up to four times by itself, turns every error
// into text, panics on an endpoint that is not of five parts, and leaves a
// goroutine behind; so this one signs and sends, and the SDK makes the request and
// reads the answer.
type mnsCall struct {
	mns.MNSClient // never set: a queue calls Send only

	ctx      context.Context // the SDK has no parameter for it
	endpoint *url.URL
	http     *http.Client
	key      *accessKey
	status   int
}

// Send implements the SDK's client. Its errors reach the caller of the queue as
// they are.
func (c *mnsCall) Send(method mns.Method, _ map[string]string, message any, resource string) (*fasthttp.Response, error) {
	body, err := xml.Marshal(message)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(c.ctx, string(method), c.endpoint.String()+"/"+resource, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sum := md5.Sum(body)
	request.Header.Set("Content-Type", "application/xml")
	// MNS takes the digest's hex text here, as the SDK sends it, and the digest.
	request.Header.Set("Content-Md5", base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(sum[:]))))
	request.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	request.Header.Set("X-Mns-Version", "2015-06-06")
	request.Header.Set("User-Agent", userAgent)
	if c.key.token != "" {
		request.Header.Set("Security-Token", c.key.token)
	}
	request.Header.Set("Authorization", "MNS "+c.key.id+":"+signMNS(request, "/"+resource, c.key.secret))

	got, err := exchange(c.http, request)
	if err != nil {
		return nil, err
	}
	c.status = got.status
	if got.status < 200 || got.status >= 300 {
		var refusal mnsError
		switch root := xmlRoot(got.body); {
		case root == "Messages": // some were refused: the SDK reads which
		case root == "Error" && xml.Unmarshal(got.body, &refusal) == nil && refusal.code != "":
			refusal.status = got.status
			return nil, &refusal
		default:
			return nil, &statusError{status: got.status}
		}
	}
	response := &fasthttp.Response{}
	response.SetStatusCode(got.status)
	response.SetBodyRaw(got.body)
	return response, nil
}

// signMNS returns the signature of a request. The endpoint's path is not part of
// the resource that is signed.
func signMNS(request *http.Request, resource, secret string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%s\n%s\n%s\n%s\nx-mns-version:%s\n%s", request.Method, request.Header.Get("Content-Md5"),
		request.Header.Get("Content-Type"), request.Header.Get("Date"), request.Header.Get("X-Mns-Version"), resource)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// xmlRoot returns the name of a document's root element, or "" where there is none.
func xmlRoot(document []byte) string {
	decoder := xml.NewDecoder(bytes.NewReader(document))
	for {
		token, err := decoder.Token()
		if err != nil {
			return ""
		}
		if start, ok := token.(xml.StartElement); ok {
			return start.Name.Local
		}
	}
}

// xmlText returns a body that arrives as it is. XML cannot carry some characters,
// and the encoder would replace them without a word; a body with such goes in
// base64, from which every byte can be had back.
func xmlText(body string) string {
	if !utf8.ValidString(body) || strings.ContainsFunc(body, func(c rune) bool {
		return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == '\ufffe' || c == '\uffff'
	}) {
		return base64.StdEncoding.EncodeToString([]byte(body))
	}
	return body
}

// mnsError is an error in the service's form.
type mnsError struct {
	status                   int
	code, message, requestID string
}

func (e *mnsError) Error() string {
	return fmt.Sprintf("MNS refused: %s (HTTP %d)", e.code, e.status)
}

// UnmarshalXML reads the service's error document, of any namespace.
func (e *mnsError) UnmarshalXML(decoder *xml.Decoder, start xml.StartElement) error {
	var document struct {
		Code      string
		Message   string
		RequestID string `xml:"RequestId"`
	}
	err := decoder.DecodeElement(&document, &start)
	e.code, e.message, e.requestID = document.Code, document.Message, document.RequestID
	return err
}

// classifyMNS is the one place that says what a failed request to MNS means.
func classifyMNS(err error, queue string, key *accessKey) error {
	failure := &handler.ServiceError{Service: "MNS", Err: err}
	var refusal *mnsError
	var status *statusError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		failure.Code, failure.Message = "Timeout", "no answer in time from queue "+queue
		return failure
	case errors.As(err, &refusal):
		failure.HTTPStatusCode, failure.Code, failure.Message, failure.RequestID = refusal.status, refusal.code, refusal.message, refusal.requestID
	case errors.As(err, &status):
		failure.HTTPStatusCode, failure.Code, failure.Message = status.status, notAnAnswer, "the answer is not one of MNS: check MNS_ENDPOINT, and what stands between"
	default:
		failure.Code, failure.Message = "NoAnswer", key.redact(err.Error())
		return failure
	}
	failure.Kind, failure.Throttled = mnsKind(failure.Code, failure.HTTPStatusCode)
	failure.Message = key.redact(failure.Message)
	if hint := mnsHint(failure.Code, queue); failure.Kind == handler.OperatorFault && failure.Code != notAnAnswer {
		// The service's own words may quote the signed request.
		failure.Message = hint
	}
	return failure
}

// mnsKind classifies by code first, and by status where the code is not known.
func mnsKind(code string, status int) (kind handler.Kind, throttled bool) {
	switch code {
	case "QpsLimitExceeded":
		return handler.Transient, true
	case "InternalError", "InternalServerError", "InvalidDegist":
		return handler.Transient, false
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "TimeExpired", "QueueNotExist",
		"InvalidAuthorizationHeader", "MissingAuthorizationHeader", "InvalidDateHeader", "MissingDateHeader",
		"InvalidRequestURL", "InvalidQueueName", "QueueNameLengthError":
		return handler.OperatorFault, false
	case "InvalidArgument", "MalformedXML", "InvalidQueryString":
		return handler.Permanent, false
	}
	return statusKind(status)
}

// mnsHint says what the operator can do about an operator fault.
func mnsHint(code, queue string) string {
	switch code {
	case "QueueNotExist":
		return "queue " + queue + " does not exist: create it, or correct RESULT_QUEUE or DEAD_LETTER_QUEUE"
	case "TimeExpired":
		return "the clock of the instance is off"
	case "AccessDenied":
		return "allow mns:SendMessage on queue " + queue + " to the function's role (function/ram-policy.json)"
	case "InvalidRequestURL", "InvalidQueueName", "QueueNameLengthError":
		return "queue " + queue + " cannot be addressed: check its name and MNS_ENDPOINT"
	}
	return "the credentials or the signature were refused for queue " + queue + ": check the function's role"
}
