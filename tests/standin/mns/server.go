// Package mns is a stand-in for MNS (Simple Message Queue), protocol version
// 2015-06-06: queues and messages, over signed HTTP and XML. It knows no topics and
// subscriptions, no tags, and no signature but HMAC-SHA1 in the Authorization
// header.
//
// It answers at its root, and under the path [Prefix], which lets the official Go
// SDK take its address for an endpoint. It takes Content-MD5 in both forms that
// are in the wild, query names in any case, and XML of any namespace.
package mns

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"increment-backup-download/tests/standin"
)

// Prefix is a path under which the service answers too. The official Go SDK
// splits the whole endpoint at its dots, and wants five parts.
const Prefix = "/mns.local"

// Service is the stand-in. It is safe for concurrent use.
type Service struct {
	// Keys are the credentials that are accepted.
	Keys *standin.Keys
	// Policy is the RAM policy of all of them; nil allows everything.
	Policy *standin.Policy
	// Delay is how long an answer to a sender takes.
	Delay time.Duration
	// DelayFactor is how many times as fast the delays of messages pass; 0 means 1.
	// Nothing else goes faster.
	DelayFactor int
	// Region and AccountID are those of the resources in the policy.
	Region, AccountID string
	// TooManyRequests throttles with the status 429 and that code, as
	// https://www.alibabacloud.com/help/en/mns/developer-reference/flow-limiting-policy
	// has it, not with the older 400 QpsLimitExceeded.
	TooManyRequests bool

	closed atomic.Bool // the public endpoint

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

// Requests returns how many well-signed requests to send there were for a queue.
func (s *Service) Requests(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[name]
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
	}{Namespace: namespace, Code: code, Message: message, RequestID: requestID, HostID: s.address()})
}

// WriteThrottle answers as the service does over its rate limit: with
// TooManyRequests if the option says so, else with the older QpsLimitExceeded. It
// knows no wait hint.
func (s *Service) WriteThrottle(w http.ResponseWriter, _ time.Duration) {
	if s.TooManyRequests {
		s.WriteError(w, http.StatusTooManyRequests, "TooManyRequests",
			"The request is denied by cluster flow limiter for too many requests.")
		return
	}
	s.WriteError(w, http.StatusBadRequest, "QpsLimitExceeded", "The qps limit of the queue is exceeded.")
}

// address is the service's in the cloud.
func (s *Service) address() string {
	return "http://" + s.AccountID + ".mns." + s.Region + ".aliyuncs.com"
}

// authorize refuses what the policy does not allow, on a path such as
// /queues/letters/messages.
func (s *Service) authorize(action, path string) *refusal {
	if s.Policy.Allows(action, fmt.Sprintf("acs:mns:%s:%s:%s", s.Region, s.AccountID, path)) {
		return nil
	}
	return &refusal{http.StatusForbidden, "AccessDenied",
		"The OwnerId that your Access Key Id associated to is forbidden for this operation."}
}

func messagesOf(queue string) string { return "/queues/" + queue + "/messages" }

// maxQueueName is the current limit; older pages say 256. See
// https://www.alibabacloud.com/help/en/mns/product-overview/limits.
const maxQueueName = 120

// queueName is what the service allows. See
// https://www.alibabacloud.com/help/en/mns/developer-reference/queue-queue.
var queueName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9-]*$`)

// OpenEndpoint switches the public endpoint on, as it is at first, or off. Alibaba
// documents the switch (EnableEndpoint, DisableEndpoint of mns-open 2022-01-19), but
// not what a client then sees. The stand-in assumes what is hardest for a client:
// status 403 with a page of the gateway's, not an error in XML.
func (s *Service) OpenEndpoint(open bool) { s.closed.Store(!open) }

// QueueOf returns the queue that a request is about, or "" if it is about none, so
// that a plan of faults can choose by it.
func QueueOf(r *http.Request) string {
	rest, ok := strings.CutPrefix(strings.TrimPrefix(r.URL.Path, Prefix), "/queues/")
	name, _, _ := strings.Cut(rest, "/")
	if !ok {
		return ""
	}
	return name
}

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.closed.Load() {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>")
		return
	}
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
	case len(name) > maxQueueName:
		return &refusal{http.StatusBadRequest, "QueueNameLengthError",
			fmt.Sprintf("The length of queue name should between 1 and %d.", maxQueueName)}
	case !queueName.MatchString(name):
		return &refusal{http.StatusBadRequest, "InvalidQueueName",
			"The queue name you provided is invalid. It should contain letters, digits and hyphens only."}
	}
	action, resource := "", "/queues/"+name
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
		resource = messagesOf(name)
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
	if refused := s.authorize(action, resource); refused != nil {
		return refused
	}
	return serve(w, name, query, body)
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
