// Package dbs is a stand-in for four operations of DBS (Database Backup),
// version 2019-03-06, behind the OpenAPI gateway:
// CreateIncrementBackupSetDownload, DescribeIncrementBackupList,
// DescribeBackupSetDownloadTaskList and DescribeBackupPlanList.
//
// It accepts both RPC signatures: ACS3-HMAC-SHA256 in headers, and the older
// HMAC-SHA1 in the parameters (SignatureVersion 1.0), as @alicloud/pop-core
// signs. It answers in JSON only, whatever Format a client asks for. It knows no
// other operation and no ROA style.
//
// What is not documented about the lists is an option of the [Service]: whether
// pages are counted from 0 or 1, the order of the rows, which time the time range
// filters, and how an empty list looks.
package dbs

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"increment-backup-download/tests/standin"
)

// Version is the version of the API.
const Version = "2019-03-06"

// The operations.
const (
	Action          = "CreateIncrementBackupSetDownload"
	ActionListSets  = "DescribeIncrementBackupList"
	ActionListTasks = "DescribeBackupSetDownloadTaskList"
	ActionListPlans = "DescribeBackupPlanList"
)

// Service is the stand-in. It honours ClientToken for ever, and is safe for concurrent
// use. Its exported fields must not change while it serves.
type Service struct {
	// Keys are the credentials that are accepted.
	Keys *standin.Keys
	// Policy is the RAM policy of all of them; nil allows everything.
	Policy *standin.Policy
	// Region and AccountID are those of the plans in the policy, and the region that
	// a plan is in if it names none.
	Region, AccountID string
	// Delay is how long an answer takes, from the arrival of the call.
	Delay time.Duration

	// FirstPage is the number of the first page of a list: 0, or 1. If it is 1,
	// page 0 has the same rows as page 1.
	FirstPage int
	// Order is the order of the rows of a list.
	Order Order
	// FilterEndTime lets StartTimestamp and EndTimestamp filter the EndTime of
	// backup sets, not their StartTime.
	FilterEndTime bool
	// UnknownPlanCode is the error code for a plan that does not exist; empty means
	// InvalidJobId. InvalidParameterValid is the other one that DBS is known to use
	// (terraform-provider-alicloud, alicloud/service_alicloud_dbs.go).
	UnknownPlanCode string
	// UnknownPlanInEnvelope lets that error come with HTTP 200 and Success false.
	UnknownPlanInEnvelope bool
	// Empty is how an empty list looks.
	Empty Empty
	// TaskTime is how long a task that a call creates takes: it is checking for a tenth
	// of it, then running, and ends. 0: it is running until SetTaskStatus.
	TaskTime time.Duration
	// TaskEnd, if set, says how such a task ends: with finish, stop, or init, which is a
	// failed precheck and comes after a tenth of the time; and its ErrMessage.
	TaskEnd func(ListedTask) (status, message string)
	// LinkLifetime is how long a download link is good; an hour if New made the service.
	LinkLifetime time.Duration
	// OnList, if set, runs before a page is read, and may change the lists.
	OnList func(action string, page int)

	emptyLists atomic.Int64 // given so far, for EmptyByTurn

	mu        sync.Mutex
	plans     map[string]*plan
	otherPlan *plan                 // of the tasks whose set no plan lists; itself in no list
	planIDs   []string              // of plans, in the order of their arrival
	jobs      map[string]bool       // the BackupSetJobIds that a plan has ever listed
	sets      map[setKey]*listedSet // of all plans
	listed    map[string]*ListedTask
	tasks     []Task         // that were created by calls
	tokens    map[string]int // index into tasks
	byToken   map[string]int // calls that arrived
	byAction  map[string]int // calls that arrived
	total     int
	files     int    // requests for files
	linkKey   uint64 // signs download links
	nonces    map[string]bool
}

// New returns a service that accepts the given credentials and has no plans.
func New(keys *standin.Keys, policy *standin.Policy) *Service {
	return &Service{
		Keys: keys, Policy: policy, Region: "cn-hangzhou", AccountID: "1234567890123456",
		LinkLifetime: time.Hour,
		otherPlan:    &plan{Plan: Plan{ID: "dbsother0001"}},
		plans:        make(map[string]*plan), jobs: make(map[string]bool), sets: make(map[setKey]*listedSet),
		listed: make(map[string]*ListedTask), tokens: make(map[string]int), byToken: make(map[string]int),
		byAction: make(map[string]int), nonces: make(map[string]bool),
	}
}

// Arrived counts a call of an operation, whatever becomes of it. Faults in front of the service
// report each call; without any, the service counts for itself.
func (s *Service) Arrived(r *http.Request) {
	if IsFile(r) {
		return
	}
	action, token := ActionOf(r), parameters(r).Get("ClientToken")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total++
	s.byToken[token]++
	s.byAction[action]++
}

// Calls counts the calls that arrived, in all, and those for one ClientToken.
func (s *Service) Calls(token string) (total, forToken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.byToken[token]
}

// CallsOf counts the calls of one operation that arrived.
func (s *Service) CallsOf(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byAction[action]
}

// refusal is an error answer of the gateway, or of DBS if its status is 200.
type refusal struct {
	status        int
	code, message string
}

func invalid(parameter string) *refusal {
	return &refusal{http.StatusBadRequest, "InvalidParameter", "The specified parameter " + parameter + " is not valid."}
}

func missing(parameter string) *refusal {
	return &refusal{http.StatusBadRequest, "Missing" + parameter, parameter + " is mandatory for this action."}
}

// WriteError answers with an error of the OpenAPI gateway.
func (s *Service) WriteError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{
		"RequestId": requestID(), "HostId": "dbs-api.cn-hangzhou.aliyuncs.com", "Code": code, "Message": message,
		"Recommend": "https://api.aliyun.com/troubleshoot?q=" + url.QueryEscape(code) + "&product=Dbs",
	})
}

// WriteThrottle answers as the gateway does if a user calls too often.
func (s *Service) WriteThrottle(w http.ResponseWriter, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("X-Ratelimit-User-Api", fmt.Sprintf("Limit:10,Remaining:0,TimeLeft:%d", wait.Milliseconds()))
	}
	s.WriteError(w, http.StatusBadRequest, "Throttling.User", "Request was denied due to user flow control.")
}

// ServeHTTP answers one call, or serves the file of a download link.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if IsFile(r) {
		s.serveFile(w, r)
		return
	}
	due := time.Now().Add(s.Delay)
	if !standin.IsCounted(r.Context()) {
		s.Arrived(r)
	}
	body, err := readBody(r)
	if err != nil {
		return
	}
	accessKeyID, refused := s.authenticate(r, body)
	if refused == nil && s.Delay > 0 {
		time.Sleep(time.Until(due))
	}
	var answer any
	if refused == nil {
		answer, refused = s.call(r, accessKeyID)
	}
	switch {
	case refused == nil:
		writeJSON(w, http.StatusOK, answer)
	case refused.status == http.StatusOK:
		// DBS's own refusals come in its envelope.
		e := newEnvelope()
		e.HTTPStatusCode, e.ErrCode, e.Success, e.ErrMessage = http.StatusBadRequest, refused.code, false, refused.message
		writeJSON(w, http.StatusOK, e)
	default:
		s.WriteError(w, refused.status, refused.code, refused.message)
	}
}

// call passes an authenticated call to its operation.
func (s *Service) call(r *http.Request, accessKeyID string) (any, *refusal) {
	given := parameters(r)
	switch ActionOf(r) {
	case Action:
		return s.create(given, accessKeyID)
	case ActionListSets:
		return s.listSets(r.Context(), given)
	case ActionListPlans:
		return s.listPlans(r.Context(), given)
	default:
		return s.listTasks(r.Context(), r.Host, given)
	}
}

// envelope is what every answer of DBS begins with.
type envelope struct {
	HTTPStatusCode int    `json:"HttpStatusCode"`
	RequestID      string `json:"RequestId"`
	ErrCode        string
	Success        bool
	ErrMessage     string
}

// newEnvelope is that of a success. As in the official samples, ErrCode and
// ErrMessage stand beside Success: true, and mean nothing.
func newEnvelope() envelope {
	return envelope{HTTPStatusCode: http.StatusOK, RequestID: requestID(), ErrCode: "Param.NotFound", Success: true,
		ErrMessage: "The specified parameter %s value is not valid. "}
}

func requestID() string {
	id := standin.Random(32)
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// readBody reads the body of a request, and leaves it to be read again.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	return body, err
}
