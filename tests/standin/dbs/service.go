// Package dbs is a stand-in for the DBS operation CreateIncrementBackupSetDownload
// behind the OpenAPI gateway: version 2019-03-06, signature ACS3-HMAC-SHA256.
package dbs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"increment-backup-download/tests/standin"
)

// The one operation.
const (
	Action  = "CreateIncrementBackupSetDownload"
	Version = "2019-03-06"
)

// NotFoundName is how the name of a backup set starts that DBS does not know.
const NotFoundName = "not-found"

// Task is a download task that was created.
type Task struct {
	ID                  string
	ClientToken         string
	BackupSetID         string
	BackupSetName       string
	BackupSetDataFormat string

	AccessKeyID string // of the first call that asked for it
}

// Service is the stand-in. It honours ClientToken for ever, and is safe for
// concurrent use.
type Service struct {
	// Keys are the credentials that are accepted.
	Keys *standin.Keys
	// Policy is the RAM policy of all of them; nil allows everything.
	Policy *standin.Policy
	// Delay is how long an answer takes, from the arrival of the call.
	Delay time.Duration

	mu     sync.Mutex
	tasks  []Task
	tokens map[string]int // index into tasks
	calls  map[string]int // by ClientToken
	total  int
	nonces map[string]bool
}

// New returns a service that accepts the given credentials.
func New(keys *standin.Keys, policy *standin.Policy) *Service {
	return &Service{Keys: keys, Policy: policy, tokens: make(map[string]int), calls: make(map[string]int), nonces: make(map[string]bool)}
}

// Tasks returns the tasks that were created, in order.
func (s *Service) Tasks() []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tasks)
}

// Arrived counts a call, whatever becomes of it. A server with faults in front of
// the service tells it of each.
func (s *Service) Arrived(r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total++
	s.calls[r.URL.Query().Get("ClientToken")]++
}

// Calls counts the calls that arrived, in all, and those for one ClientToken.
func (s *Service) Calls(token string) (total, forToken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.calls[token]
}

// refusal is an error answer of the gateway or of DBS.
type refusal struct {
	status        int
	code, message string
}

// WriteError answers with an error of the OpenAPI gateway.
func (s *Service) WriteError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{
		"RequestId": requestID(), "HostId": "dbs-api.cn-hangzhou.aliyuncs.com", "Code": code, "Message": message,
		"Recommend": "https://api.aliyun.com/troubleshoot?q=" + url.QueryEscape(code) + "&product=Dbs",
	})
}

// WriteThrottle answers as the gateway does when a user calls too often.
func (s *Service) WriteThrottle(w http.ResponseWriter, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("X-Ratelimit-User-Api", fmt.Sprintf("Limit:10,Remaining:0,TimeLeft:%d", wait.Milliseconds()))
	}
	s.WriteError(w, http.StatusBadRequest, "Throttling.User", "Request was denied due to user flow control.")
}

// ServeHTTP answers one call.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	due := time.Now().Add(s.Delay)
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	if refused := s.authenticate(r, body); refused != nil {
		s.WriteError(w, refused.status, refused.code, refused.message)
		return
	}
	if s.Delay > 0 {
		time.Sleep(time.Until(due))
	}
	parameters := r.URL.Query()
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if form, err := url.ParseQuery(string(body)); err == nil {
			for name, values := range form {
				parameters[name] = append(parameters[name], values...)
			}
		}
	}
	// authenticate has read it.
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	accessKeyID, _, _ := strings.Cut(credential, ",")
	task := Task{
		AccessKeyID:         accessKeyID,
		ClientToken:         parameters.Get("ClientToken"),
		BackupSetID:         parameters.Get("BackupSetId"),
		BackupSetName:       parameters.Get("BackupSetName"),
		BackupSetDataFormat: parameters.Get("BackupSetDataFormat"),
	}
	created, refused := s.create(task)
	if refused != nil {
		if refused.status == http.StatusOK {
			// DBS's own refusals come in its envelope.
			writeJSON(w, http.StatusOK, map[string]any{"HttpStatusCode": 400, "RequestId": requestID(), "ErrCode": refused.code,
				"Success": false, "ErrMessage": refused.message})
			return
		}
		s.WriteError(w, refused.status, refused.code, refused.message)
		return
	}
	// As in the official sample, ErrCode and ErrMessage stand beside Success: true.
	writeJSON(w, http.StatusOK, map[string]any{"HttpStatusCode": 200, "RequestId": requestID(), "ErrCode": "Param.NotFound",
		"Success": true, "ErrMessage": "The specified parameter %s value is not valid. ", "BackupSetDownloadTaskId": created.ID})
}

func (s *Service) create(task Task) (Task, *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case task.BackupSetID == "":
		return Task{}, &refusal{http.StatusBadRequest, "MissingBackupSetId", "BackupSetId is mandatory for this action."}
	case task.BackupSetName == "":
		return Task{}, &refusal{http.StatusBadRequest, "MissingBackupSetName", "BackupSetName is mandatory for this action."}
	case task.BackupSetDataFormat != "" && !slices.Contains([]string{"Native", "SQL", "CSV", "JSON"}, task.BackupSetDataFormat):
		return Task{}, &refusal{http.StatusBadRequest, "InvalidParameter", "The specified parameter BackupSetDataFormat is not valid."}
	case len(task.ClientToken) > 64 || strings.ContainsFunc(task.ClientToken, func(c rune) bool { return c < ' ' || c > '~' }):
		return Task{}, &refusal{http.StatusBadRequest, "InvalidParameter", "The specified parameter ClientToken is not valid."}
	case strings.HasPrefix(task.BackupSetName, NotFoundName):
		return Task{}, &refusal{http.StatusOK, "Param.NotFound", "The specified parameter BackupSetName value is not valid."}
	}
	if i, ok := s.tokens[task.ClientToken]; ok && task.ClientToken != "" {
		earlier := s.tasks[i]
		task.ID, task.AccessKeyID = earlier.ID, earlier.AccessKeyID
		if task != earlier {
			return Task{}, &refusal{http.StatusBadRequest, "IdempotentParameterMismatch", "The request uses the same client token as a previous, but non-identical request."}
		}
		return earlier, nil
	}
	task.ID = fmt.Sprintf("1jydacm%06d", len(s.tasks)+1)
	s.tokens[task.ClientToken] = len(s.tasks)
	s.tasks = append(s.tasks, task)
	return task, nil
}

// authenticate checks what the gateway checks before it passes a call on.
func (s *Service) authenticate(r *http.Request, body []byte) *refusal {
	algorithm, fields, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := make(map[string]string)
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		given[name] = value
	}
	if algorithm != "ACS3-HMAC-SHA256" || given["Signature"] == "" || given["SignedHeaders"] == "" {
		return &refusal{http.StatusBadRequest, "IncompleteSignature", "The request signature does not conform to Aliyun standards."}
	}
	key, ok := s.Keys.Find(given["Credential"])
	if !ok {
		return &refusal{http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found."}
	}
	if r.Header.Get("X-Acs-Security-Token") != key.Token {
		return &refusal{http.StatusBadRequest, "InvalidSecurityToken.Malformed", "The security token you provided is malformed."}
	}
	signed := strings.Split(given["SignedHeaders"], ";")
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-acs-") && !slices.Contains(signed, name) {
			return &refusal{http.StatusBadRequest, "IncompleteSignature", "The header " + name + " is not signed."}
		}
	}
	if !slices.Contains(signed, "host") || !slices.IsSorted(signed) {
		return &refusal{http.StatusBadRequest, "IncompleteSignature", "The signed headers are not complete."}
	}
	sum := sha256.Sum256(body)
	if r.Header.Get("X-Acs-Content-Sha256") != hex.EncodeToString(sum[:]) {
		return &refusal{http.StatusBadRequest, "SignatureDoesNotMatch", "The digest of the body is another one."}
	}
	if toSign := stringToSign(r, signed); sign(key.Secret, toSign) != given["Signature"] {
		// The gateway quotes what it signed, credentials and all.
		return &refusal{http.StatusBadRequest, "SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:" +
			canonicalRequest(r, signed) + toSign}
	}
	at, err := time.Parse("2006-01-02T15:04:05Z", r.Header.Get("X-Acs-Date"))
	if err != nil || time.Since(at).Abs() > 15*time.Minute {
		return &refusal{http.StatusBadRequest, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."}
	}
	nonce := r.Header.Get("X-Acs-Signature-Nonce")
	s.mu.Lock()
	used := s.nonces[nonce]
	s.nonces[nonce] = true
	s.mu.Unlock()
	if nonce == "" || used {
		return &refusal{http.StatusBadRequest, "SignatureNonceUsed", "Specified signature nonce was used already."}
	}
	if r.Header.Get("X-Acs-Version") != Version {
		return &refusal{http.StatusBadRequest, "InvalidVersion", "Specified parameter Version is not valid."}
	}
	if r.Header.Get("X-Acs-Action") != Action || r.URL.Path != "/" {
		return &refusal{http.StatusNotFound, "InvalidApi.NotFound", "Specified api is not found, please check your url and method."}
	}
	if !s.Policy.Allows("dbs:"+Action, "*") {
		return &refusal{http.StatusForbidden, "Request.Forbidden", "Have no Permissions"}
	}
	return nil
}

func canonicalRequest(r *http.Request, signed []string) string {
	var query []string
	for name, values := range r.URL.Query() {
		for _, value := range values {
			query = append(query, escape(name)+"="+escape(value))
		}
	}
	slices.Sort(query)
	var headers strings.Builder
	for _, name := range signed {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		headers.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	return strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.Join(query, "&"), headers.String(),
		strings.Join(signed, ";"), r.Header.Get("X-Acs-Content-Sha256")}, "\n")
}

func stringToSign(r *http.Request, signed []string) string {
	sum := sha256.Sum256([]byte(canonicalRequest(r, signed)))
	return "ACS3-HMAC-SHA256\n" + hex.EncodeToString(sum[:])
}

func sign(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, text)
	return hex.EncodeToString(mac.Sum(nil))
}

// escape is the percent-encoding of RFC 3986.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

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
