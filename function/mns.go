package function

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	mns "github.com/aliyun/aliyun-mns-go-sdk"
	"github.com/aliyun/credentials-go/credentials"
	"github.com/valyala/fasthttp"

	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/outbox"
)

// mnsVersion is the version of the protocol.
// See https://help.aliyun.com/document_detail/27485.html
const mnsVersion = "2015-06-06"

// mnsQueue is one queue of MNS, used through its SDK. It is safe for concurrent use.
type mnsQueue struct {
	endpoint *url.URL
	name     string
	http     *http.Transport
	fallback credential
}

var _ handler.Queue = (*mnsQueue)(nil)

// Send makes one BatchSendMessage request, with the default priority of MNS: the SDK
// always sends the field (message.go of v1.0.11), and MNS refuses its zero value. See
// https://help.aliyun.com/document_detail/35134.html
func (q *mnsQueue) Send(ctx context.Context, messages []outbox.Message) []error {
	requests := make([]mns.MessageSendRequest, len(messages))
	for i, m := range messages {
		requests[i] = mns.MessageSendRequest{
			MessageBody: xmlText(m.Body), DelaySeconds: int64(m.Delay / time.Second), Priority: 8,
		}
	}
	return q.send(ctx, requests)
}

// Size returns how many bytes a body takes in a message.
func (q *mnsQueue) Size(body string) int { return len(xmlText(body)) }

// TrySend makes one BatchSendMessage request, as Send does and with the permission
// that Send needs, of a message with a priority that MNS refuses.
func (q *mnsQueue) TrySend(ctx context.Context) error {
	err := q.send(ctx, []mns.MessageSendRequest{{MessageBody: "check", Priority: 0}})[0]
	if err == nil {
		err = &cloud.Error{Kind: cloud.OperatorFault, Service: "MNS", Code: "Accepted",
			Message: "MNS accepted a message that it must refuse: queue " + q.name + " now has a message \"check\""}
	}
	return err
}

// sendAction is what a batch needs. The API's page names mns:BatchSendMessage, that
// of permissions mns:SendMessage for both: see https://help.aliyun.com/document_detail/35135.html
// and https://help.aliyun.com/document_detail/27447.html
const sendAction = "mns:SendMessage and mns:BatchSendMessage"

// send makes one BatchSendMessage request, and returns an answer for each message.
func (q *mnsQueue) send(ctx context.Context, messages []mns.MessageSendRequest) []error {
	answers := make([]error, len(messages))
	err := q.call(ctx, sendAction, func(client *mnsCall) error {
		// A queue object for each request: goroutines race for its rate monitor
		// (qps_monitor.go of the SDK, v1.0.11).
		response, err := mns.NewMNSQueue(q.name, client).BatchSendMessage(messages...)
		if len(response.Messages) != len(messages) {
			if err == nil {
				// An empty answer with a good status comes without an error: batchOpDecoder
				// in decoder.go takes EOF for one.
				err = fmt.Errorf("the answer is about %d of %d messages", len(response.Messages), len(messages))
			}
			return err
		}
		for i, message := range response.Messages {
			switch {
			case message.ErrorCode != "":
				// The status is that of the batch.
				answers[i] = client.attempt.classify(&refusal{
					code: message.ErrorCode, message: message.ErrorMessage, header: client.got.header,
				})
			case message.MessageId == "":
				answers[i] = client.attempt.classify(errors.New("the answer has no MessageId"))
			}
		}
		return nil
	})
	if err != nil {
		return slices.Repeat([]error{err}, len(messages))
	}
	return answers
}

// Depth makes one GetQueueAttributes request. Delayed messages do not count: in the
// source queue they are follow-ups. See
// https://help.aliyun.com/document_detail/35131.html
func (q *mnsQueue) Depth(ctx context.Context) (depth int, err error) {
	err = q.call(ctx, "mns:GetQueueAttributes", func(client *mnsCall) error {
		got, err := mns.NewMNSQueueManager(client).GetQueueAttributes(q.name)
		if err == nil && got.QueueName == "" {
			return foreign(client.got, "the answer of MNS has no QueueName") // nor counts
		}
		depth = int(got.ActiveMessages + got.InactiveMessages)
		return err
	})
	return depth, err
}

// call lets the SDK make one attempt over a client of ours, and classifies its error.
func (q *mnsQueue) call(ctx context.Context, action string, use func(*mnsCall) error) (err error) {
	own, err := credentialOf(ctx, q.fallback)
	if err != nil {
		return err
	}
	attempt := call{
		service: "MNS", host: q.endpoint.Host, action: action, queue: q.name,
		rules: mnsRules, credential: own, started: time.Now(),
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the MNS client panicked (%T)", cause)
		}
		err = attempt.classify(err)
	}()
	return use(&mnsCall{ctx: ctx, queue: q, attempt: &attempt})
}

// mnsCall is the client under one request of the SDK. The SDK's own client (client.go of
// v1.0.11) knows no context, repeats a POST up to four times by itself, turns every error
// into text, panics on an endpoint that is not of five parts, and leaves a goroutine
// running; so this one signs and sends, and the SDK makes the request and reads the answer.
type mnsCall struct {
	mns.MNSClient // never set: only Send is called

	ctx     context.Context // the SDK has no parameter for it
	queue   *mnsQueue
	attempt *call
	got     answer
}

// Send implements the SDK's client. Its errors come out of the SDK as they are.
func (c *mnsCall) Send(method mns.Method, _ map[string]string, message any, resource string) (*fasthttp.Response, error) {
	body, err := xml.Marshal(message) // empty of the nil of a GET
	if err != nil {
		return nil, err
	}
	header := signMNS(string(method), resource, body, c.attempt.credential(), time.Now())
	c.got, err = exchange(c.ctx, c.queue.http, string(method), c.queue.endpoint.String()+"/"+resource, header, body, maxMNSAnswer)
	if err == nil && !c.got.ok() {
		err = mnsRefusal(c.got)
	}
	if err != nil {
		return nil, err
	}
	response := &fasthttp.Response{}
	response.SetStatusCode(c.got.status)
	response.SetBodyRaw(c.got.body)
	return response, nil
}

// mnsRefusal reads an error document of MNS, in any namespace. It returns nil for the
// answer about a batch of which some messages are refused: the SDK reads which. Its
// decoder for anything else reads a reader that is spent (batchOpDecoder.DecodeError in
// decoder.go, v1.0.11).
func mnsRefusal(got answer) error {
	var document struct {
		XMLName   xml.Name
		Code      string
		Message   string
		RequestID string `xml:"RequestId"`
	}
	err := xml.Unmarshal(got.body, &document)
	switch root := document.XMLName.Local; {
	case root == "Messages":
		return nil
	case root != "Error" || err != nil || document.Code == "":
		return foreign(got, "")
	}
	return &refusal{status: got.status, code: document.Code, message: document.Message,
		requestID: document.RequestID, header: got.header}
}

// signMNS returns the signed headers of a request. The endpoint's path is not part
// of the resource that is signed, as in the SDK (Send in client.go, v1.0.11). See
// https://help.aliyun.com/document_detail/27487.html
func signMNS(method, resource string, body []byte, key *credentials.CredentialModel, now time.Time) http.Header {
	const contentType = "application/xml"
	sum := md5.Sum(body)
	// The base64 of the digest's hex text, as the SDK sends it (Send in client.go,
	// v1.0.11); other clients send that of the digest itself.
	digest := base64.StdEncoding.EncodeToString([]byte(hex.EncodeToString(sum[:])))
	date := now.UTC().Format(http.TimeFormat)
	mac := hmac.New(sha1.New, []byte(*key.AccessKeySecret))
	_, _ = io.WriteString(mac, method+"\n"+digest+"\n"+contentType+"\n"+date+"\nx-mns-version:"+mnsVersion+"\n/"+resource)
	header := http.Header{
		"Content-Type":  {contentType},
		"Content-Md5":   {digest},
		"Date":          {date},
		"X-Mns-Version": {mnsVersion},
		"User-Agent":    {userAgent},
		"Authorization": {"MNS " + *key.AccessKeyId + ":" + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}
	if *key.SecurityToken != "" {
		header["Security-Token"] = []string{*key.SecurityToken}
	}
	return header
}

// xmlText returns a body as it goes into a message: as it is, or in base64, which keeps
// every byte, if it has characters that XML cannot carry and the encoder would silently
// replace. See https://www.w3.org/TR/xml/#charsets
func xmlText(body string) string {
	if !utf8.ValidString(body) || strings.ContainsFunc(body, func(c rune) bool {
		return c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == '\ufffe' || c == '\uffff'
	}) {
		return base64.StdEncoding.EncodeToString([]byte(body))
	}
	return body
}

// mnsRules are the error codes of MNS. See https://help.aliyun.com/document_detail/27501.html,
// and for too many requests
// https://www.alibabacloud.com/help/en/mns/developer-reference/flow-limiting-policy
func mnsRules() []rule {
	const (
		denied  = "grant {action} on queue {queue} to the function's role (the role's policy in s.yaml)"
		address = "correct the setting that names queue {queue}, or MNS_ENDPOINT"
		missing = "create queue {queue}, or correct the setting that names it"
	)
	return []rule{
		{codes: "TooManyRequests QpsLimitExceeded Throttling", throttled: true},
		{codes: "InternalError InternalServerError ServiceUnavailable"},
		{codes: "InvalidDegist"}, // sic; the body was changed on the way
		{codes: "TimeExpired", kind: cloud.OperatorFault, fix: fixClock},
		{codes: "QueueNotExist", kind: cloud.OperatorFault, fix: missing},
		{codes: "AccessDenied", kind: cloud.OperatorFault, fix: denied},
		{codes: "InvalidAccessKeyId SignatureDoesNotMatch", kind: cloud.OperatorFault, fix: fixCredentials},
		{codes: "InvalidAuthorizationHeader MissingAuthorizationHeader InvalidDateHeader MissingDateHeader",
			kind: cloud.OperatorFault, fix: fixProxy},
		{codes: "InvalidRequestURL InvalidQueueName QueueNameLengthError", kind: cloud.OperatorFault, fix: address},
		{codes: "InvalidArgument MalformedXML InvalidQueryString", kind: cloud.Permanent},
	}
}
