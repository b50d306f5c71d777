package mns

import (
	"encoding/xml"
	"fmt"
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
