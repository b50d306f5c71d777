// Package mns is a stand-in for MNS (Simple Message Queue), protocol version
// 2015-06-06: queues and messages, over signed HTTP and XML.
//
// It answers at its root, and under the path [Prefix], which lets the official Go
// SDK take its address for an endpoint. It takes Content-MD5 in both forms that
// are in the wild, query names in any case, and XML of any namespace.
package mns

import (
	"bytes"
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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"increment-backup-download/tests/standin"
)

// Prefix is a path under which the service answers too. The official Go SDK
// splits the whole endpoint at its dots, and wants five parts.
const Prefix = "/mns.local"

// The batch limits of the service.
const (
	maxBatch      = 16
	maxBatchBytes = 65536
)

// Service is the stand-in. It is safe for concurrent use.
type Service struct {
	// Keys are the credentials that are accepted.
	Keys *standin.Keys
	// Policy is the RAM policy of all of them; nil allows everything.
	Policy *standin.Policy
	// Delay is how long an answer to a sender takes.
	Delay time.Duration
	// Region and AccountID are those of the resources in the policy.
	Region, AccountID string

	mu       sync.Mutex
	queues   map[string]*queue
	requests map[string]int
}

// New returns a service that accepts the given credentials and has the given
// queues, with the service's default attributes.
func New(keys *standin.Keys, policy *standin.Policy, queues ...string) *Service {
	s := &Service{Keys: keys, Policy: policy, Region: "cn-hangzhou", AccountID: "1234567890123456",
		queues: make(map[string]*queue), requests: make(map[string]int)}
	for _, name := range queues {
		s.queues[name] = newQueue(name, Defaults())
	}
	return s
}

func newQueue(name string, attributes Attributes) *queue {
	now := time.Now()
	return &queue{name: name, attributes: attributes, created: now, modified: now, arrived: make(chan struct{})}
}

// Put sends a message to a queue, past the network.
func (s *Service) Put(name, body string) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return Message{}, fmt.Errorf("no queue %q", name)
	}
	return *q.send(body, 0, 8, time.Now()), nil
}

// Receive receives up to n messages, past the network.
func (s *Service) Receive(name string, n int) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		return q.receive(n, time.Now())
	}
	return nil
}

// Delete deletes a received message, past the network.
func (s *Service) Delete(name, receiptHandle string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		_ = q.remove(receiptHandle, time.Now())
	}
}

// Messages returns every message of a queue, visible or not, in the order of
// their arrival.
func (s *Service) Messages(name string) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return nil
	}
	all := make([]Message, len(q.messages))
	for i, m := range q.messages {
		all[i] = *m
	}
	slices.SortFunc(all, func(a, b Message) int { return a.sequence - b.sequence })
	return all
}

// Requests counts the well-signed requests to send to a queue.
func (s *Service) Requests(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[name]
}

// RemoveQueue deletes a queue, past the network.
func (s *Service) RemoveQueue(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.queues, name)
}

// AddQueue creates a queue, past the network, and empties the one there is.
func (s *Service) AddQueue(name string, attributes Attributes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[name] = newQueue(name, attributes)
}

// refusal is an error answer of the service.
type refusal struct {
	status        int
	code, message string
}

func invalid(format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, "InvalidArgument", fmt.Sprintf(format, args...)}
}

func queueNotExist() *refusal {
	return &refusal{http.StatusNotFound, "QueueNotExist", "The queue name you provided is not exist."}
}

func messageNotExist() *refusal {
	return &refusal{http.StatusNotFound, "MessageNotExist", "Message not exist."}
}

// requestIDHeader is in lower case on the wire.
const requestIDHeader = "x-mns-request-id"

// namespace is the one that the real service writes, without a slash at its end.
const namespace = "http://mns.aliyuncs.com/doc/v1"

// WriteError answers with an error of the service.
func (s *Service) WriteError(w http.ResponseWriter, status int, code, message string) {
	requestID := standin.Random(24)
	w.Header()[requestIDHeader] = []string{requestID}
	writeXML(w, status, struct {
		XMLName   xml.Name `xml:"Error"`
		Namespace string   `xml:"xmlns,attr"`
		Code      string
		Message   string
		RequestID string `xml:"RequestId"`
		HostID    string `xml:"HostId"`
	}{Namespace: namespace, Code: code, Message: message, RequestID: requestID, HostID: "http://" + s.AccountID + ".mns." + s.Region + ".aliyuncs.com"})
}

// WriteThrottle answers as the service does over its rate limit. It knows no wait
// hint.
func (s *Service) WriteThrottle(w http.ResponseWriter, _ time.Duration) {
	s.WriteError(w, http.StatusBadRequest, "QpsLimitExceeded", "The qps limit of the queue is exceeded.")
}

func writeXML(w http.ResponseWriter, status int, document any) {
	body, err := xml.Marshal(document)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "text/xml;charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, xml.Header)
	_, _ = w.Write(body)
}

// queueName is what the service allows.
var queueName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*$`)

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header()[requestIDHeader] = []string{standin.Random(24)}
	w.Header().Set("x-mns-version", "2015-06-06")
	body, err := io.ReadAll(io.LimitReader(r.Body, 4<<20))
	if err != nil {
		return
	}
	refused := s.authenticate(r, body)
	if refused == nil {
		refused = s.route(w, r, body)
	}
	if refused != nil {
		s.WriteError(w, refused.status, refused.code, refused.message)
	}
}

func (s *Service) route(w http.ResponseWriter, r *http.Request, body []byte) *refusal {
	rest := strings.Trim(strings.TrimPrefix(r.URL.Path, Prefix), "/")
	parts := strings.Split(rest, "/")
	query := make(map[string]string)
	for name, values := range r.URL.Query() {
		query[strings.ToLower(name)] = values[0]
	}
	if parts[0] != "queues" || len(parts) > 3 || len(parts) == 3 && parts[2] != "messages" {
		return &refusal{http.StatusBadRequest, "InvalidRequestURL", "Http url of the request is invalid."}
	}
	if len(parts) == 1 {
		if r.Method != http.MethodGet {
			return &refusal{http.StatusBadRequest, "InvalidRequestURL", "Http url of the request is invalid."}
		}
		return s.listQueues(w, r)
	}
	name := parts[1]
	switch {
	case len(name) > 256:
		return &refusal{http.StatusBadRequest, "QueueNameLengthError", "The length of queue name should between 1 and 256."}
	case !queueName.MatchString(name):
		return &refusal{http.StatusBadRequest, "InvalidQueueName", "The queue name you provided is invalid. It should contain letters, digits and hyphens only."}
	}
	action, resource := "", fmt.Sprintf("acs:mns:%s:%s:/queues/%s", s.Region, s.AccountID, name)
	var serve func(http.ResponseWriter, string, map[string]string, []byte) *refusal
	if len(parts) == 2 {
		switch r.Method {
		case http.MethodPut:
			action, serve = "mns:CreateQueue", s.createQueue
			if query["metaoverride"] == "true" {
				action, serve = "mns:SetQueueAttributes", s.setAttributes
			}
		case http.MethodGet:
			action, serve = "mns:GetQueueAttributes", s.getAttributes
		case http.MethodDelete:
			action, serve = "mns:DeleteQueue", s.deleteQueue
		}
	} else {
		resource += "/messages"
		switch r.Method {
		case http.MethodPost:
			action = "mns:SendMessage"
			serve = func(w http.ResponseWriter, name string, _ map[string]string, body []byte) *refusal {
				return s.sendMessages(w, r, name, body)
			}
		case http.MethodGet:
			action, serve = "mns:ReceiveMessage", s.receiveMessages
			if query["peekonly"] == "true" {
				action = "mns:PeekMessage"
			}
		case http.MethodDelete:
			action, serve = "mns:DeleteMessage", s.deleteMessages
		case http.MethodPut:
			action, serve = "mns:ChangeMessageVisibility", s.changeVisibility
		}
	}
	if serve == nil {
		return &refusal{http.StatusBadRequest, "InvalidRequestURL", "Http method of the request is invalid."}
	}
	if !s.Policy.Allows(action, resource) {
		return &refusal{http.StatusForbidden, "AccessDenied", "The OwnerId that your Access Key Id associated to is forbidden for this operation."}
	}
	return serve(w, name, query, body)
}

// authenticate checks what the service checks before anything else.
func (s *Service) authenticate(r *http.Request, body []byte) *refusal {
	authorization := r.Header.Get("Authorization")
	if authorization == "" {
		return &refusal{http.StatusBadRequest, "MissingAuthorizationHeader", "Authorization header is required."}
	}
	id, signature, ok := strings.Cut(strings.TrimPrefix(authorization, "MNS "), ":")
	if !ok || !strings.HasPrefix(authorization, "MNS ") {
		return &refusal{http.StatusBadRequest, "InvalidAuthorizationHeader", "The Authorization header format is invalid."}
	}
	key, ok := s.Keys.Find(id)
	if !ok {
		return &refusal{http.StatusForbidden, "InvalidAccessKeyId", "The AccessKey Id you provided is not exist."}
	}
	if r.Header.Get("X-Mns-Version") == "" {
		return invalid("x-mns-version is required.")
	}
	date := r.Header.Get("X-Mns-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	if date == "" {
		return &refusal{http.StatusBadRequest, "MissingDateHeader", "Date header is required."}
	}
	at, err := http.ParseTime(date)
	if err != nil {
		return &refusal{http.StatusBadRequest, "InvalidDateHeader", "The Date header format is invalid."}
	}
	if time.Since(at).Abs() > 15*time.Minute {
		return &refusal{http.StatusRequestTimeout, "TimeExpired", "The http request you sent is expired."}
	}
	// Some clients sign the endpoint's path with the resource, some do not.
	withPrefix, without := StringToSign(r, r.RequestURI), StringToSign(r, strings.TrimPrefix(r.RequestURI, Prefix))
	if Sign(key.Secret, withPrefix) != signature && Sign(key.Secret, without) != signature {
		return &refusal{http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. string to sign: " +
			without + " security-token: " + r.Header.Get("Security-Token")}
	}
	if r.Header.Get("Security-Token") != key.Token {
		return &refusal{http.StatusForbidden, "AccessDenied", "The security token you provided is invalid."}
	}
	if given := r.Header.Get("Content-Md5"); given != "" {
		sum := md5.Sum(body)
		hexText := hex.EncodeToString(sum[:])
		if given != base64.StdEncoding.EncodeToString(sum[:]) && given != base64.StdEncoding.EncodeToString([]byte(hexText)) && given != hexText {
			return &refusal{http.StatusBadRequest, "InvalidDegist", "The Content-MD5 you specified did not match what we received."}
		}
	}
	return nil
}

// StringToSign returns what a request's signature is over, for a resource.
func StringToSign(r *http.Request, resource string) string {
	date := r.Header.Get("X-Mns-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	var headers []string
	for name, values := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-mns-") {
			headers = append(headers, name+":"+strings.TrimSpace(values[0])+"\n")
		}
	}
	slices.Sort(headers)
	return strings.Join([]string{r.Method, r.Header.Get("Content-Md5"), r.Header.Get("Content-Type"), date, strings.Join(headers, "") + resource}, "\n")
}

// Sign returns the signature over a text.
func Sign(secret, text string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	_, _ = io.WriteString(mac, text)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// attributesXML is the body of CreateQueue and SetQueueAttributes: all optional.
type attributesXML struct {
	DelaySeconds           *int
	MaximumMessageSize     *int
	MessageRetentionPeriod *int
	VisibilityTimeout      *int
	PollingWaitSeconds     *int
	LoggingEnabled         *string
}

func (x attributesXML) apply(a Attributes) Attributes {
	for _, field := range []struct {
		from *int
		to   *int
	}{
		{x.DelaySeconds, &a.DelaySeconds}, {x.MaximumMessageSize, &a.MaximumMessageSize},
		{x.MessageRetentionPeriod, &a.MessageRetentionPeriod}, {x.VisibilityTimeout, &a.VisibilityTimeout},
		{x.PollingWaitSeconds, &a.PollingWaitSeconds},
	} {
		if field.from != nil {
			*field.to = *field.from
		}
	}
	if x.LoggingEnabled != nil {
		a.LoggingEnabled = strings.EqualFold(*x.LoggingEnabled, "true")
	}
	return a
}

// readXML reads a request body of any namespace; an empty one is all defaults.
func readXML(body []byte, root string, into any) *refusal {
	decoder := xml.NewDecoder(bytes.NewReader(body))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(body)) == 0 {
			return nil
		}
		if err != nil {
			return &refusal{http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed."}
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if root != "" && start.Name.Local != root || decoder.DecodeElement(into, &start) != nil {
			return &refusal{http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed."}
		}
		return nil
	}
}

func (s *Service) createQueue(w http.ResponseWriter, name string, _ map[string]string, body []byte) *refusal {
	var given attributesXML
	if refused := readXML(body, "Queue", &given); refused != nil {
		return refused
	}
	attributes := given.apply(Defaults())
	if refused := attributes.check(); refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Location", "http://"+s.AccountID+".mns."+s.Region+".aliyuncs.com/queues/"+name)
	if existing, ok := s.queues[name]; ok {
		if existing.attributes != attributes {
			return &refusal{http.StatusConflict, "QueueAlreadyExist", "The queue you want to create is already exist."}
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	s.queues[name] = newQueue(name, attributes)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (s *Service) setAttributes(w http.ResponseWriter, name string, _ map[string]string, body []byte) *refusal {
	var given attributesXML
	if refused := readXML(body, "Queue", &given); refused != nil {
		return refused
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return queueNotExist()
	}
	attributes := given.apply(q.attributes)
	if refused := attributes.check(); refused != nil {
		return refused
	}
	q.attributes, q.modified = attributes, time.Now()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) getAttributes(w http.ResponseWriter, name string, _ map[string]string, _ []byte) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return queueNotExist()
	}
	active, inactive, delayed := q.counts(time.Now())
	writeXML(w, http.StatusOK, struct {
		XMLName                xml.Name `xml:"Queue"`
		Namespace              string   `xml:"xmlns,attr"`
		QueueName              string
		CreateTime             int64
		LastModifyTime         int64
		DelaySeconds           int
		MaximumMessageSize     int
		MessageRetentionPeriod int
		VisibilityTimeout      int
		PollingWaitSeconds     int
		ActiveMessages         int
		InactiveMessages       int
		DelayMessages          int
		LoggingEnabled         string
	}{
		Namespace: namespace, QueueName: name, CreateTime: q.created.Unix(), LastModifyTime: q.modified.Unix(),
		DelaySeconds: q.attributes.DelaySeconds, MaximumMessageSize: q.attributes.MaximumMessageSize,
		MessageRetentionPeriod: q.attributes.MessageRetentionPeriod, VisibilityTimeout: q.attributes.VisibilityTimeout,
		PollingWaitSeconds: q.attributes.PollingWaitSeconds, ActiveMessages: active, InactiveMessages: inactive,
		DelayMessages: delayed, LoggingEnabled: title(q.attributes.LoggingEnabled),
	})
	return nil
}

func title(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func (s *Service) deleteQueue(w http.ResponseWriter, name string, _ map[string]string, _ []byte) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.queues, name)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) listQueues(w http.ResponseWriter, r *http.Request) *refusal {
	if !s.Policy.Allows("mns:ListQueue", fmt.Sprintf("acs:mns:%s:%s:/queues", s.Region, s.AccountID)) {
		return &refusal{http.StatusForbidden, "AccessDenied", "The OwnerId that your Access Key Id associated to is forbidden for this operation."}
	}
	limit := 1000
	if given := r.Header.Get("X-Mns-Ret-Number"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 || n > 1000 {
			return invalid("The value of x-mns-ret-number should between 1 and 1000")
		}
		limit = n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.queues {
		if strings.HasPrefix(name, r.Header.Get("X-Mns-Prefix")) && name > r.Header.Get("X-Mns-Marker") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	type entry struct {
		QueueURL string
	}
	list := struct {
		XMLName    xml.Name `xml:"Queues"`
		Namespace  string   `xml:"xmlns,attr"`
		Queue      []entry
		NextMarker string `xml:",omitempty"`
	}{Namespace: namespace}
	if len(names) > limit {
		names = names[:limit]
		list.NextMarker = names[limit-1]
	}
	for _, name := range names {
		list.Queue = append(list.Queue, entry{"http://" + s.AccountID + ".mns." + s.Region + ".aliyuncs.com/queues/" + name})
	}
	writeXML(w, http.StatusOK, list)
	return nil
}

type messageXML struct {
	MessageBody  *string
	DelaySeconds int
	Priority     *int
}

func (m messageXML) check(q *queue) *refusal {
	switch {
	case m.MessageBody == nil || *m.MessageBody == "":
		return &refusal{http.StatusBadRequest, "MalformedXML", "MessageBody is required."}
	case m.Priority != nil && (*m.Priority < 1 || *m.Priority > 16):
		return invalid("The value of Priority should between 1 and 16")
	case m.DelaySeconds < 0 || m.DelaySeconds > 604800:
		return invalid("The value of DelaySeconds should between 0 and 604800")
	case len(*m.MessageBody) > q.attributes.MaximumMessageSize:
		return invalid("The length of message should not be larger than MaximumMessageSize.")
	}
	return nil
}

func (m messageXML) send(q *queue) *Message {
	priority := 8
	if m.Priority != nil {
		priority = *m.Priority
	}
	return q.send(*m.MessageBody, max(m.DelaySeconds, q.attributes.DelaySeconds), priority, time.Now())
}

type sentXML struct {
	XMLName        xml.Name `xml:"Message"`
	Namespace      string   `xml:"xmlns,attr,omitempty"`
	ErrorCode      string   `xml:",omitempty"`
	ErrorMessage   string   `xml:",omitempty"`
	MessageID      string   `xml:"MessageId,omitempty"`
	MessageBodyMD5 string   `xml:",omitempty"`
	ReceiptHandle  string   `xml:",omitempty"`
}

func (s *Service) sendMessages(w http.ResponseWriter, r *http.Request, name string, body []byte) *refusal {
	// authenticate has read it.
	sender, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "MNS "), ":")
	if s.Delay > 0 {
		time.Sleep(s.Delay)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[name]++
	q, ok := s.queues[name]
	if !ok {
		return queueNotExist()
	}
	var batch struct{ Message []messageXML }
	if readXML(body, "Messages", &batch) != nil || batch.Message == nil {
		var one messageXML
		if refused := readXML(body, "Message", &one); refused != nil {
			return refused
		}
		if refused := one.check(q); refused != nil {
			return refused
		}
		sent := one.send(q)
		sent.AccessKeyID = sender
		writeXML(w, http.StatusCreated, sentXML{Namespace: namespace, MessageID: sent.ID, MessageBodyMD5: sent.BodyMD5, ReceiptHandle: sent.ReceiptHandle})
		return nil
	}
	if len(batch.Message) > maxBatch {
		return invalid("The number of messages should between 1 and %d", maxBatch)
	}
	total := 0
	for _, m := range batch.Message {
		if refused := m.check(q); refused != nil {
			return refused
		}
		total += len(*m.MessageBody)
	}
	if total > maxBatchBytes {
		return invalid("The total size of messages should not be larger than %d", maxBatchBytes)
	}
	answer := struct {
		XMLName   xml.Name `xml:"Messages"`
		Namespace string   `xml:"xmlns,attr"`
		Message   []sentXML
	}{Namespace: namespace}
	status := http.StatusCreated
	for i, m := range batch.Message {
		if standin.IsPartial(r.Context()) && i%2 == 1 {
			status = http.StatusInternalServerError
			answer.Message = append(answer.Message, sentXML{ErrorCode: "InternalServerError", ErrorMessage: "InternalServerError"})
			continue
		}
		sent := m.send(q)
		sent.AccessKeyID = sender
		answer.Message = append(answer.Message, sentXML{MessageID: sent.ID, MessageBodyMD5: sent.BodyMD5, ReceiptHandle: sent.ReceiptHandle})
	}
	writeXML(w, status, answer)
	return nil
}

type receivedXML struct {
	XMLName          xml.Name `xml:"Message"`
	Namespace        string   `xml:"xmlns,attr,omitempty"`
	MessageID        string   `xml:"MessageId"`
	MessageBodyMD5   string
	MessageBody      string
	ReceiptHandle    string `xml:",omitempty"`
	EnqueueTime      int64
	FirstDequeueTime int64
	NextVisibleTime  int64 `xml:",omitempty"`
	DequeueCount     int
	Priority         int
}

func received(m Message, peek bool) receivedXML {
	x := receivedXML{MessageID: m.ID, MessageBodyMD5: m.BodyMD5, MessageBody: m.Body, ReceiptHandle: m.ReceiptHandle, EnqueueTime: m.EnqueueTime,
		FirstDequeueTime: m.FirstDequeueTime, NextVisibleTime: m.NextVisibleTime, DequeueCount: m.DequeueCount, Priority: m.Priority}
	if peek {
		x.ReceiptHandle, x.NextVisibleTime = "", 0
	}
	return x
}

func (s *Service) receiveMessages(w http.ResponseWriter, name string, query map[string]string, _ []byte) *refusal {
	n := 1
	given, batch := query["numofmessages"]
	if batch {
		parsed, err := strconv.Atoi(given)
		if err != nil || parsed < 1 || parsed > maxBatch {
			return invalid("The value of numOfMessages should between 1 and %d", maxBatch)
		}
		n = parsed
	}
	peek := query["peekonly"] == "true"
	wait := -1
	if given, ok := query["waitseconds"]; ok {
		parsed, err := strconv.Atoi(given)
		if err != nil || parsed < 0 || parsed > 30 {
			return invalid("The value of waitseconds should between 0 and 30")
		}
		wait = parsed
	}
	started := time.Now()
	var messages []Message
	for {
		s.mu.Lock()
		q, ok := s.queues[name]
		if !ok {
			s.mu.Unlock()
			return queueNotExist()
		}
		if wait < 0 {
			wait = q.attributes.PollingWaitSeconds
		}
		now := time.Now()
		if peek {
			messages = q.peek(n, now)
		} else {
			messages = q.receive(n, now)
		}
		arrived := q.arrived
		s.mu.Unlock()
		left := time.Duration(wait)*time.Second - time.Since(started)
		if len(messages) > 0 || peek || left <= 0 {
			break
		}
		// A message may also become visible again without arriving.
		select {
		case <-arrived:
		case <-time.After(min(left, 100*time.Millisecond)):
		}
	}
	if len(messages) == 0 {
		return messageNotExist()
	}
	if !batch {
		x := received(messages[0], peek)
		x.Namespace = namespace
		writeXML(w, http.StatusOK, x)
		return nil
	}
	answer := struct {
		XMLName   xml.Name `xml:"Messages"`
		Namespace string   `xml:"xmlns,attr"`
		Message   []receivedXML
	}{Namespace: namespace}
	for _, m := range messages {
		answer.Message = append(answer.Message, received(m, peek))
	}
	writeXML(w, http.StatusOK, answer)
	return nil
}

func (s *Service) deleteMessages(w http.ResponseWriter, name string, query map[string]string, body []byte) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return queueNotExist()
	}
	now := time.Now()
	if handle, one := query["receipthandle"]; one {
		if refused := q.remove(handle, now); refused != nil {
			return refused
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	var handles struct{ ReceiptHandle []string }
	if refused := readXML(body, "ReceiptHandles", &handles); refused != nil {
		return refused
	}
	if len(handles.ReceiptHandle) == 0 {
		return &refusal{http.StatusBadRequest, "MissingReceiptHandle", "ReceiptHandle is required."}
	}
	type failed struct {
		ErrorCode, ErrorMessage, ReceiptHandle string
	}
	errorsXML := struct {
		XMLName   xml.Name `xml:"Errors"`
		Namespace string   `xml:"xmlns,attr"`
		Error     []failed
	}{Namespace: namespace}
	for _, handle := range handles.ReceiptHandle {
		if refused := q.remove(handle, now); refused != nil {
			errorsXML.Error = append(errorsXML.Error, failed{refused.code, refused.message, handle})
		}
	}
	if len(errorsXML.Error) > 0 {
		writeXML(w, http.StatusNotFound, errorsXML)
		return nil
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) changeVisibility(w http.ResponseWriter, name string, query map[string]string, _ []byte) *refusal {
	handle, ok := query["receipthandle"]
	if !ok {
		return &refusal{http.StatusBadRequest, "MissingReceiptHandle", "ReceiptHandle is required."}
	}
	given, ok := query["visibilitytimeout"]
	if !ok {
		return &refusal{http.StatusBadRequest, "MissingVisibilityTimeout", "VisibilityTimeout is required."}
	}
	seconds, err := strconv.Atoi(given)
	if err != nil || seconds < 1 || seconds > 43200 {
		return invalid("The value of VisibilityTimeout should between 1 and 43200")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return queueNotExist()
	}
	now := time.Now()
	i, refused := q.find(handle, now)
	if refused != nil {
		return refused
	}
	m := q.messages[i]
	m.NextVisibleTime = now.UnixMilli() + int64(seconds)*1000
	m.ReceiptHandle = q.handle(m)
	writeXML(w, http.StatusOK, struct {
		XMLName         xml.Name `xml:"ChangeVisibility"`
		Namespace       string   `xml:"xmlns,attr"`
		ReceiptHandle   string
		NextVisibleTime int64
	}{Namespace: namespace, ReceiptHandle: m.ReceiptHandle, NextVisibleTime: m.NextVisibleTime})
	return nil
}

// Endpoint returns the URL under which a server of this service takes the
// official Go SDK too.
func Endpoint(serverURL string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		return serverURL
	}
	return u.JoinPath(Prefix).String()
}
