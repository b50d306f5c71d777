package function

import (
	"cmp"
	"context"
	"crypto/rand"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/check"
	"increment-backup-download/handler/cloud"
)

// dbsVersion is the API version of DBS with backup plans and incremental sets.
// See https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-createincrementbackupsetdownload
const dbsVersion = "2019-03-06"

// dbsClient calls DBS, every operation in the same way. It is safe for concurrent use.
type dbsClient struct {
	endpoint *url.URL
	http     *http.Transport
	fallback credential
}

var (
	_ handler.TaskCreator = (*dbsClient)(nil)
	_ check.DBS           = (*dbsClient)(nil)
)

// CreateTask makes one call of CreateIncrementBackupSetDownload.
func (c *dbsClient) CreateTask(ctx context.Context, request events.Request) (handler.Task, error) {
	return callDBS(ctx, c, "CreateIncrementBackupSetDownload", map[string]string{
		"BackupSetDataFormat": request.BackupSetDataFormat,
		"BackupSetId":         request.BackupSetID,
		"BackupSetName":       request.BackupSetName,
		"ClientToken":         request.ClientToken,
	}, readTask)
}

// Try makes one call of an operation that has no effect.
func (c *dbsClient) Try(ctx context.Context, operation, plan string) error {
	_, err := callDBS(ctx, c, operation, map[string]string{"BackupPlanId": plan}, func(got answer) (none struct{}, err error) {
		var reply envelope
		return none, readDBS(got, &reply, &reply)
	})
	return err
}

// callDBS makes one attempt at an operation, and returns what read makes of the answer.
// It classifies its errors, and those of read.
func callDBS[T any](
	ctx context.Context, c *dbsClient, operation string, parameters map[string]string, read func(answer) (T, error),
) (value T, err error) {
	own, err := credentialOf(ctx, c.fallback)
	if err != nil {
		return value, err
	}
	attempt := call{
		service: "DBS", host: c.endpoint.Host, action: "dbs:" + operation,
		rules: dbsRules, credential: own, started: time.Now(),
	}
	query := canonicalQuery(parameters)
	header := signACS3(c.endpoint.Host, operation, query, own(), time.Now(), rand.Text())
	got, err := exchange(ctx, c.http, http.MethodPost, c.endpoint.String()+"/?"+query, header, nil, maxDBSAnswer)
	if err == nil {
		value, err = read(got)
	}
	return value, attempt.classify(err)
}

// envelope is what every answer of DBS has, and of the API gateway in front of it.
type envelope struct {
	Success             text
	RequestID           text `json:"RequestId"`
	HTTPStatusCode      text `json:"HttpStatusCode"`
	ErrCode, ErrMessage text
	Code, Message       text // the gateway's, in place of ErrCode and ErrMessage

	refused refusal // what the answer says if it is a refusal
}

// readDBS reads an answer into a reply that embeds, or is, the given envelope. Its
// error is a *refusal unless the status is 2xx and Success is true. A member of an
// unexpected form does not hide the rest of the envelope.
func readDBS(got answer, reply any, head *envelope) error {
	err := readJSON(got.body, reply)
	if jsontext.Value(got.body).Kind() != '{' || !got.ok() && got.status < 400 || err != nil && readJSON(got.body, head) != nil ||
		cmp.Or(head.Success, head.ErrCode, head.Code) == "" {
		return foreign(got, "")
	}
	head.refused = refusal{
		status: got.status, header: got.header, requestID: events.Truncate(string(head.RequestID), events.MaxAnswerID),
		code:    string(cmp.Or(head.ErrCode, head.Code)),
		message: string(cmp.Or(head.ErrMessage, head.Message, "the answer gives no reason")),
	}
	// A 2xx or a 400 may be the gateway's way to pass on any refusal.
	if status := head.HTTPStatusCode.number(); (got.ok() || got.status == 400) && status > max(int64(got.status), 299) && status <= 599 {
		head.refused.status = int(status)
	}
	if !got.ok() || !strings.EqualFold(string(head.Success), "true") {
		return &head.refused
	}
	if err != nil {
		return foreign(got, "a part of the answer of DBS has an undocumented form")
	}
	return nil
}

// readTask reads the answer of CreateIncrementBackupSetDownload. The task exists if
// Success is true and there is a task ID. An ErrCode beside them means nothing: the
// official sample has one.
func readTask(got answer) (handler.Task, error) {
	var reply struct {
		envelope
		BackupSetDownloadTaskID text `json:"BackupSetDownloadTaskId"`
	}
	if err := readDBS(got, &reply, &reply.envelope); err != nil {
		return handler.Task{}, err
	}
	id := string(reply.BackupSetDownloadTaskID)
	switch {
	case len(id) > events.MaxAnswerID:
		return handler.Task{}, foreign(got, "")
	case strings.TrimSpace(id) == "":
		return handler.Task{}, &cloud.Error{Service: "DBS", Code: "NoTaskID", HTTPStatusCode: got.status,
			RequestID: reply.refused.requestID, Message: "DBS answered with success but without a BackupSetDownloadTaskId"}
	}
	return handler.Task{ID: id, RequestID: reply.refused.requestID}, nil
}

// readJSON reads an answer of DBS. It accepts repeated names, of which the last counts,
// and broken characters, so that no task is overlooked.
func readJSON(document []byte, into any) error {
	return json.Unmarshal(document, into, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// text is a string, or a number or boolean as it is written: a field of another type
// than the documented one must not hide that a task was created. Anything else is empty.
type text string

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (t *text) UnmarshalJSONFrom(from *jsontext.Decoder) error {
	*t = ""
	switch from.PeekKind() {
	case '"', '0', 't', 'f':
		token, err := from.ReadToken()
		if err == nil {
			*t = text(token.String())
		}
		return err
	}
	return from.SkipValue()
}

// number reads a whole number, which may be written as a fraction; -1 if it is not one, or
// too large for one.
func (t text) number() int64 {
	n, err := strconv.ParseFloat(strings.TrimSpace(string(t)), 64)
	if err != nil || !(math.Abs(n) < 1<<53) { // nor is NaN
		return -1
	}
	return int64(n)
}

// time reads a time in milliseconds since 1970. 0 or less, as some write "never", is the
// zero time.
func (t text) time() time.Time {
	if ms := t.number(); ms > 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}

// dbsRules are the error codes of DBS and of the API gateway. The status of one code
// varies, so the code goes first. See https://help.aliyun.com/document_detail/48054.html for the
// gateway's, and for those of DBS the pages of its operations.
func dbsRules() []rule {
	const (
		denied   = "grant {action} to the function's role (the role's policy in s.yaml)"
		endpoint = "correct DBS_ENDPOINT: this endpoint does not serve {action}"
	)
	return []rule{
		{codes: "Throttling Rejected.Throttling", throttled: true},
		{codes: "ServiceUnavailable InternalError"},
		{codes: "SignatureNonceUsed"}, // the next attempt has another
		{codes: "InvalidTimeStamp", kind: cloud.OperatorFault, fix: fixClock},
		{codes: "InvalidAccessKeyId MissingAccessKeyId SignatureDoesNotMatch IncompleteSignature " +
			"InvalidSecurityToken MissingSecurityToken InvalidCredentials", kind: cloud.OperatorFault, fix: fixCredentials},

		// Risk control and an account that is not verified are Forbidden.Something too.
		// With a 404 the code is about one thing that does not exist.
		{codes: "Forbidden.", kind: cloud.OperatorFault, not: http.StatusNotFound},
		{codes: "Forbidden Forbidden.RAM Request.Forbidden", kind: cloud.OperatorFault, not: http.StatusNotFound, fix: denied},
		{codes: "NoPermission AccessDenied", kind: cloud.OperatorFault, fix: denied},

		{codes: "InvalidApi.NotFound InvalidAction InvalidProduct.NotFound InvalidProtocol.NeedSsl InvalidVersion",
			kind: cloud.OperatorFault, fix: endpoint},
		// Every request has these.
		{codes: "MissingAuthorization MissingSignature MissingTimestamp MissingTimeStamp MissingVersion MissingAction " +
			"MissingNonce MissingContent MissingHeader MissingDate MissingHost", kind: cloud.OperatorFault, fix: fixProxy},
		{codes: "Param.NotFound InvalidParameter Missing IdempotentParameterMismatch InvalidJobId", kind: cloud.Permanent},
	}
}
