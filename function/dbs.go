package function

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/events/rawjson"
	"increment-backup-download/handler"
	"increment-backup-download/handler/check"
	"increment-backup-download/handler/cloud"
)

// dbsVersion is the API version of DBS with backup plans and incremental sets.
// See https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-createincrementbackupsetdownload
const dbsVersion = "2019-03-06"

// dbsWriteBuffer holds any usual call: it has no body.
const dbsWriteBuffer = 4 << 10

// dbsClient calls DBS, every operation in the same way. It is safe for
// concurrent use.
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
	var task handler.Task
	err := c.call(ctx, "CreateIncrementBackupSetDownload", func(got dbsAnswer) (err error) {
		task, err = got.task()
		return err
	}, map[string]string{
		"BackupSetDataFormat": request.BackupSetDataFormat,
		"BackupSetId":         request.BackupSetID,
		"BackupSetName":       request.BackupSetName,
		"ClientToken":         request.ClientToken,
	})
	return task, err
}

// Try makes one call of an operation that has no effect.
func (c *dbsClient) Try(ctx context.Context, operation, plan string) error {
	return c.call(ctx, operation, func(got dbsAnswer) error {
		if !got.success {
			return &got.refused
		}
		return nil
	}, map[string]string{"BackupPlanId": plan})
}

// call makes one attempt at an operation, and hands the answer to read, if it is
// one of DBS. Its error is classified, and so is that of read.
func (c *dbsClient) call(
	ctx context.Context, operation string, read func(dbsAnswer) error, parameters map[string]string,
) error {
	own, err := credentialOf(ctx, c.fallback)
	if err != nil {
		return err
	}
	attempt := call{
		service: "DBS", setting: "DBS_ENDPOINT", host: c.endpoint.Host, action: "dbs:" + operation,
		rules: dbsRules, denied: dbsDenied, credential: own, started: time.Now(),
	}
	key, err := own()
	if err != nil {
		return attempt.classify(err)
	}
	query := canonicalQuery(parameters)
	target := &url.URL{Scheme: c.endpoint.Scheme, Host: c.endpoint.Host, Path: "/", RawQuery: query}
	header := signACS3(target.Host, operation, dbsVersion, query, key, newMoment())
	got, err := exchange(c.http, newRequest(ctx, http.MethodPost, target, header))
	if err == nil {
		var envelope dbsAnswer
		if envelope, err = readDBSAnswer(got); err == nil {
			err = read(envelope)
		}
	}
	if err != nil {
		return attempt.classify(err)
	}
	return nil
}

// dbsAnswer is the envelope of DBS, and of the API gateway in front of it.
type dbsAnswer struct {
	answer
	success     bool
	refused     refusal
	taskID      string
	pages, rows int // TotalPages, TotalElements; -1: not given, or no number
	items       []byte
}

// readDBSAnswer reads an answer: its error is a *refusal unless the status is 2xx
// and the body an object.
func readDBSAnswer(got answer) (dbsAnswer, error) {
	body := bytes.TrimSpace(got.body)
	if len(body) == 0 || body[0] != '{' || !rawjson.Valid(body) || !got.ok() && got.status < 400 {
		return dbsAnswer{}, foreign(got, "")
	}
	read := dbsAnswer{answer: got, pages: -1, rows: -1}
	refused := refusal{status: got.status, header: got.header}
	var code, message string // the gateway's, beside DBS's ErrCode and ErrMessage
	for name, value := range rawjson.Members(body) {
		switch string(name) {
		case "Success":
			read.success = truth(value)
		case "BackupSetDownloadTaskId":
			read.taskID = text(value)
		case "RequestId":
			refused.requestID = text(value)
		case "HttpStatusCode":
			if status, ok := count(value); ok && got.ok() && status >= 300 && status <= 599 {
				refused.status = status
			}
		case "ErrCode":
			refused.code = text(value)
		case "ErrMessage":
			refused.message = text(value)
		case "Code":
			code = text(value)
		case "Message":
			message = text(value)
		case "TotalPages":
			read.pages = countOr(value, -1)
		case "TotalElements":
			read.rows = countOr(value, -1)
		case "Items":
			read.items = value
		}
	}
	refused.code, refused.message = cmp.Or(refused.code, code), cmp.Or(refused.message, message)
	read.refused = refused
	if !got.ok() {
		return dbsAnswer{}, &refused
	}
	return read, nil
}

// task reads the answer of CreateIncrementBackupSetDownload. The task exists if
// Success is true and there is a task ID. An ErrCode beside them means nothing: the
// official sample has one.
func (a dbsAnswer) task() (handler.Task, error) {
	switch {
	case len(a.taskID) > events.MaxAnswerID:
		return handler.Task{}, foreign(a.answer, "")
	case a.success && a.taskID != "":
		return handler.Task{ID: a.taskID, RequestID: a.refused.requestID}, nil
	case a.success:
		a.refused.code, a.refused.message = codeNoTaskID, "DBS answered with success and without a BackupSetDownloadTaskId"
	}
	return handler.Task{}, &a.refused
}

// dbsDenied is what a refused permission needs.
const dbsDenied = "allow {action} to the function's role (the role's policy in s.yaml)"

// dbsRules are the error codes of DBS and of the API gateway. The status of one code
// varies, so the code goes first. See https://help.aliyun.com/document_detail/48054.html for the
// gateway's, and for those of DBS the pages of its operations.
func dbsRules() []rule {
	const (
		clock       = "the clock of the instance is off"
		credentials = "the credentials or the signature were refused: check the function's role, and {setting}"
		endpoint    = "the endpoint does not serve {action}: check {setting}"
	)
	return []rule{
		{code: "Throttling*", throttled: true},
		{code: "Rejected.Throttling*", throttled: true},
		{code: "ServiceUnavailable*"},
		{code: "InternalError*"},
		{code: "SignatureNonceUsed*"}, // the next attempt has another

		{code: "InvalidTimeStamp*", kind: cloud.OperatorFault, hint: clock},
		{code: "InvalidAccessKeyId*", kind: cloud.OperatorFault, hint: credentials},
		{code: "MissingAccessKeyId*", kind: cloud.OperatorFault, hint: credentials},
		{code: "SignatureDoesNotMatch*", kind: cloud.OperatorFault, hint: credentials},
		{code: "IncompleteSignature*", kind: cloud.OperatorFault, hint: credentials},
		{code: "InvalidSecurityToken*", kind: cloud.OperatorFault, hint: credentials},
		{code: "MissingSecurityToken*", kind: cloud.OperatorFault, hint: credentials},
		{code: "MissingAuthorization*", kind: cloud.OperatorFault, hint: credentials},
		{code: "InvalidCredentials*", kind: cloud.OperatorFault, hint: credentials},
		{code: "Forbidden*", kind: cloud.OperatorFault, hint: dbsDenied},
		{code: "NoPermission*", kind: cloud.OperatorFault, hint: dbsDenied},
		{code: "Request.Forbidden*", kind: cloud.OperatorFault, hint: dbsDenied},
		{code: "InvalidApi.NotFound*", kind: cloud.OperatorFault, hint: endpoint},
		{code: "InvalidAction*", kind: cloud.OperatorFault, hint: endpoint},
		{code: "InvalidProduct.NotFound*", kind: cloud.OperatorFault, hint: endpoint},
		{code: "InvalidProtocol.NeedSsl*", kind: cloud.OperatorFault, hint: endpoint},
		{code: "InvalidVersion*", kind: cloud.OperatorFault, hint: endpoint},

		{code: "Param.NotFound*", kind: cloud.Permanent},
		{code: "InvalidParameter*", kind: cloud.Permanent},
		{code: "Missing*", kind: cloud.Permanent},
		{code: "IdempotentParameterMismatch*", kind: cloud.Permanent},
		{code: "InvalidJobId*", kind: cloud.Permanent},
	}
}

func countOr(value []byte, otherwise int) int {
	if n, ok := count(value); ok {
		return n
	}
	return otherwise
}

func ms(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }
