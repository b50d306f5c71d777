package mns

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func newQueue(name string, attributes Attributes) *queue {
	now := time.Now()
	return &queue{name: name, attributes: attributes, created: now, modified: now, arrived: make(chan struct{})}
}

// RemoveQueue deletes a queue, without the network.
func (s *Service) RemoveQueue(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.queues, name)
}

// AddQueue creates a queue, without the network. It replaces one of the same name,
// messages and all.
func (s *Service) AddQueue(name string, attributes Attributes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[name] = newQueue(name, attributes)
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
	w.Header().Set("Location", s.address()+"/queues/"+name)
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
	answer := q.describe(time.Now())
	answer.Namespace = namespace
	writeXML(w, http.StatusOK, answer)
	return nil
}

// describedXML is a queue as GetQueueAttributes and ListQueue describe it.
type describedXML struct {
	XMLName                xml.Name `xml:"Queue"`
	Namespace              string   `xml:"xmlns,attr,omitempty"`
	QueueURL               string   `xml:",omitempty"`
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
}

func (q *queue) describe(now time.Time) describedXML {
	q.expire(now)
	active, inactive, delayed := q.counts(now)
	return describedXML{
		QueueName: q.name, CreateTime: q.created.Unix(), LastModifyTime: q.modified.Unix(),
		DelaySeconds: q.attributes.DelaySeconds, MaximumMessageSize: q.attributes.MaximumMessageSize,
		MessageRetentionPeriod: q.attributes.MessageRetentionPeriod, VisibilityTimeout: q.attributes.VisibilityTimeout,
		PollingWaitSeconds: q.attributes.PollingWaitSeconds, ActiveMessages: active, InactiveMessages: inactive,
		DelayMessages: delayed, LoggingEnabled: title(q.attributes.LoggingEnabled),
	}
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
	if refused := s.authorize("mns:ListQueue", "/queues"); refused != nil {
		return refused
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
	// The header is not in the documentation; aliyun-mns-go-sdk v1.0.11,
	// queue_manager.go sends it for ListQueueDetail, and reads a queue's attributes.
	detailed := r.Header.Get("X-Mns-With-Meta") == "true"
	list := struct {
		XMLName    xml.Name `xml:"Queues"`
		Namespace  string   `xml:"xmlns,attr"`
		Queue      []any    `xml:"Queue"`
		NextMarker string   `xml:",omitempty"`
	}{Namespace: namespace}
	if len(names) > limit {
		names = names[:limit]
		list.NextMarker = names[limit-1]
	}
	for _, name := range names {
		address := s.address() + "/queues/" + name
		if !detailed {
			list.Queue = append(list.Queue, entry{address})
			continue
		}
		described := s.queues[name].describe(time.Now())
		described.QueueURL = address
		list.Queue = append(list.Queue, described)
	}
	writeXML(w, http.StatusOK, list)
	return nil
}
