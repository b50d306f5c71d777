package mns

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/tests/standin"
)

// The batch limits of the service.
const (
	maxBatch      = 16
	maxBatchBytes = 65536
)

// Put sends a message to a queue, without the network and its checks.
func (s *Service) Put(name, body string) (Message, error) { return s.PutDelayed(name, body, 0) }

// PutDelayed is Put of a message that is delayed.
func (s *Service) PutDelayed(name, body string, delay time.Duration) (Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.queues[name]
	if !ok {
		return Message{}, fmt.Errorf("no queue %q", name)
	}
	return *q.send(body, s.delay(delay), 8, time.Now()), nil
}

// Receive receives up to n messages, without the network.
func (s *Service) Receive(name string, n int) []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		return q.receive(n, time.Now())
	}
	return nil
}

// Delete deletes a received message, without the network.
func (s *Service) Delete(name, receiptHandle string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		_ = q.remove(receiptHandle, time.Now())
	}
}

// Release ends the visibility timeouts of all messages that somebody has received.
func (s *Service) Release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		for _, m := range q.messages {
			if m.DequeueCount > 0 {
				m.NextVisibleTime = min(m.NextVisibleTime, time.Now().UnixMilli())
			}
		}
	}
}

// Counts returns how many messages of a queue can be received, are held by somebody
// who has received them, and are delayed.
func (s *Service) Counts(name string) (active, inactive, delayed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queues[name]; ok {
		return q.counts(time.Now())
	}
	return 0, 0, 0
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

func (s *Service) send(q *queue, m messageXML) *Message {
	priority := 8
	if m.Priority != nil {
		priority = *m.Priority
	}
	delay := time.Duration(max(m.DelaySeconds, q.attributes.DelaySeconds)) * time.Second
	return q.send(*m.MessageBody, s.delay(delay), priority, time.Now())
}

// delay is how long a delay takes here.
func (s *Service) delay(d time.Duration) time.Duration {
	return d / time.Duration(max(s.DelayFactor, 1))
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

func sentOf(m *Message) sentXML {
	return sentXML{MessageID: m.ID, MessageBodyMD5: m.BodyMD5, ReceiptHandle: m.ReceiptHandle}
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
	var given struct {
		XMLName xml.Name
		messageXML
		Message []messageXML
	}
	if refused := readXML(body, "", &given); refused != nil {
		return refused
	}
	switch given.XMLName.Local {
	case "Message":
		return s.sendOne(w, q, given.messageXML, sender)
	case "Messages":
		// Alibaba's pages contradict each other about the action of a batch: that of
		// BatchSendMessage (help.aliyun.com/document_detail/35135.html) names
		// mns:BatchSendMessage, that of the permissions (27447.html) says that
		// mns:SendMessage covers it. The stand-in wants both, so that a deployment that
		// works here works under either reading.
		if refused := s.authorize("mns:BatchSendMessage", messagesOf(name)); refused != nil {
			return refused
		}
		return s.sendBatch(w, r, q, given.Message, sender)
	default:
		return &refusal{http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed."}
	}
}

func (s *Service) sendOne(w http.ResponseWriter, q *queue, m messageXML, sender string) *refusal {
	if refused := m.check(q); refused != nil {
		return refused
	}
	sent := s.send(q, m)
	sent.AccessKeyID = sender
	answer := sentOf(sent)
	answer.Namespace = namespace
	writeXML(w, http.StatusCreated, answer)
	return nil
}

func (s *Service) sendBatch(w http.ResponseWriter, r *http.Request, q *queue, messages []messageXML, sender string) *refusal {
	if len(messages) == 0 || len(messages) > maxBatch {
		return invalid("The number of messages should between 1 and %d", maxBatch)
	}
	total := 0
	for _, m := range messages {
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
	for i, m := range messages {
		if standin.IsPartial(r.Context()) && i%2 == 1 {
			status = http.StatusInternalServerError
			answer.Message = append(answer.Message, sentXML{
				ErrorCode: "InternalServerError", ErrorMessage: "InternalServerError"})
			continue
		}
		sent := s.send(q, m)
		sent.AccessKeyID = sender
		answer.Message = append(answer.Message, sentOf(sent))
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
	x := receivedXML{
		MessageID: m.ID, MessageBodyMD5: m.BodyMD5, MessageBody: m.Body, ReceiptHandle: m.ReceiptHandle,
		EnqueueTime: m.EnqueueTime, FirstDequeueTime: m.FirstDequeueTime, NextVisibleTime: m.NextVisibleTime,
		DequeueCount: m.DequeueCount, Priority: m.Priority,
	}
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
