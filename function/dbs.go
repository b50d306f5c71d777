package function

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

// userAgent names the function to the services, behind the SDK's own words.
const userAgent = "increment-backup-download"

// dbsWriteBuffer holds any usual call: it has no body.
const dbsWriteBuffer = 4 << 10

// dbsClient calls DBS through the generic OpenAPI client. It is safe for
// concurrent use.
type dbsClient struct {
	endpoint *url.URL
	http     *http.Client
	fallback *accessKey
}

var _ handler.TaskCreator = (*dbsClient)(nil)

// CreateTask makes one call of CreateIncrementBackupSetDownload.
func (c *dbsClient) CreateTask(ctx context.Context, request events.Request) (task handler.Task, err error) {
	key, err := accessKeyOf(ctx, c.fallback)
	if err != nil {
		return handler.Task{}, err
	}
	wire := &dbsExchange{http: c.http}
	defer func() {
		if cause := recover(); cause != nil {
			// The OpenAPI client panics on input that it does not expect.
			task, err = handler.Task{}, fmt.Errorf("the OpenAPI client panicked (%T)", cause)
		}
		if err != nil {
			err = classifyDBS(err, wire.answer.header, key)
		}
	}()

	// A client of its own for each call costs under a microsecond, and shares no
	// state that goroutines could race for.
	client, err := openapi.NewClient(&openapiutil.Config{
		Credential: key.credential(),
		Endpoint:   &c.endpoint.Host,
		Protocol:   &c.endpoint.Scheme,
		UserAgent:  dara.String(userAgent),
		HttpClient: wire,
	})
	if err != nil {
		return handler.Task{}, err
	}
	client.DisableSDKError = dara.Bool(true)
	query := map[string]*string{
		"BackupSetId":   &request.BackupSetID,
		"BackupSetName": &request.BackupSetName,
		"ClientToken":   &request.ClientToken,
	}
	if request.BackupSetDataFormat != "" {
		query["BackupSetDataFormat"] = &request.BackupSetDataFormat
	}
	_, err = client.CallApiWithCtx(ctx, &openapiutil.Params{
		Action:      dara.String("CreateIncrementBackupSetDownload"),
		Version:     dara.String("2019-03-06"),
		Protocol:    dara.String("HTTPS"), // Config.Protocol goes before
		Pathname:    dara.String("/"),
		Method:      dara.String("POST"),
		AuthType:    dara.String("AK"),
		Style:       dara.String(""), // "RPC" signs the same, and races for the client's headers
		ReqBodyType: dara.String("formData"),
		BodyType:    dara.String("binary"), // wire has the body already
	}, &openapiutil.OpenApiRequest{Query: query}, &dara.RuntimeOptions{})
	if err != nil {
		return handler.Task{}, err
	}
	return readDBSAnswer(wire.answer)
}

// dbsExchange carries one call of the OpenAPI client over our HTTP client, and
// keeps the answer, of which the OpenAPI client loses parts.
type dbsExchange struct {
	http   *http.Client
	answer answer
}

// Call implements the HTTP client of the OpenAPI client. The transport offered is
// built anew for each call, and not used.
func (x *dbsExchange) Call(request *http.Request, _ *http.Transport) (*http.Response, error) {
	got, err := exchange(x.http, request)
	if err != nil {
		return nil, err
	}
	x.answer = got
	if got.status < 200 || got.status >= 300 && got.status < 400 || got.status >= 400 && !isJSONObject(got.body) {
		return nil, &statusError{status: got.status}
	}
	return &http.Response{
		StatusCode: got.status,
		Header:     http.Header{},
		Body:       io.NopCloser(bytes.NewReader(got.body)),
	}, nil
}

func isJSONObject(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) && json.Valid(body)
}

// looseText is a string that may come as a number: a field of another type must
// not hide that a task was created.
type looseText string

func (t *looseText) UnmarshalJSON(value []byte) error {
	var text string
	switch {
	case value[0] == '"':
		if err := json.Unmarshal(value, &text); err != nil {
			return err
		}
	case value[0] >= '0' && value[0] <= '9':
		text = string(value)
	}
	*t = looseText(text)
	return nil
}

// dbsAnswer is the envelope of DBS, and of the API gateway before it.
type dbsAnswer struct {
	Success                 bool
	BackupSetDownloadTaskID looseText `json:"BackupSetDownloadTaskId"`
	RequestID               looseText `json:"RequestId"`
	HTTPStatusCode          looseText `json:"HttpStatusCode"`
	ErrCode                 looseText
	ErrMessage              looseText
	Code                    looseText
	Message                 looseText
}

// readDBSAnswer reads an answer with a status of 200 to 299. The task exists where
// Success is true and there is a task ID; an ErrCode beside them means nothing, as
// the official sample shows. Everything else is an error.
func readDBSAnswer(got answer) (handler.Task, error) {
	if !isJSONObject(got.body) {
		return handler.Task{}, &statusError{status: got.status}
	}
	var read dbsAnswer
	if err := json.Unmarshal(got.body, &read); err != nil {
		return handler.Task{}, &statusError{status: got.status}
	}
	if len(read.BackupSetDownloadTaskID) > events.MaxAnswerID {
		return handler.Task{}, &statusError{status: got.status}
	}
	if read.Success && read.BackupSetDownloadTaskID != "" {
		return handler.Task{ID: string(read.BackupSetDownloadTaskID), RequestID: string(read.RequestID)}, nil
	}
	return handler.Task{}, read.refusal(got.status)
}

// dbsError is an answer in the service's form that is no success.
type dbsError struct {
	status                   int
	code, message, requestID string
}

func (e *dbsError) Error() string {
	return fmt.Sprintf("DBS refused: %s (HTTP %d)", e.code, e.status)
}

func (a dbsAnswer) refusal(status int) *dbsError {
	if inner, err := strconv.Atoi(string(a.HTTPStatusCode)); err == nil && inner >= 300 && inner <= 599 {
		status = inner
	}
	refusal := &dbsError{status: status, code: string(a.ErrCode), message: string(a.ErrMessage), requestID: string(a.RequestID)}
	if refusal.code == "" {
		refusal.code = string(a.Code)
	}
	if refusal.message == "" {
		refusal.message = string(a.Message)
	}
	if refusal.code == "" && a.Success {
		refusal.code, refusal.message = "NoTaskID", "DBS answered with success and without a BackupSetDownloadTaskId"
	}
	return refusal
}

// classifyDBS is the one place that says what a failed call to DBS means. header
// is that of the answer, where there was one.
func classifyDBS(err error, header http.Header, key *accessKey) error {
	var known *handler.ServiceError
	if errors.As(err, &known) {
		return err
	}
	failure := &handler.ServiceError{Service: "DBS", Err: err}
	var (
		throttled *openapi.ThrottlingError
		client    *openapi.ClientError
		server    *openapi.ServerError
		refusal   *dbsError
		status    *statusError
	)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		failure.Code, failure.Message = "Timeout", "no answer in time"
		return failure
	case errors.As(err, &throttled):
		sdkError(failure, throttled.StatusCode, throttled.Code, throttled.RequestId, throttled.Data)
	case errors.As(err, &client):
		sdkError(failure, client.StatusCode, client.Code, client.RequestId, client.Data)
	case errors.As(err, &server):
		sdkError(failure, server.StatusCode, server.Code, server.RequestId, server.Data)
	case errors.As(err, &refusal):
		failure.HTTPStatusCode, failure.Code, failure.Message, failure.RequestID = refusal.status, refusal.code, refusal.message, refusal.requestID
	case errors.As(err, &status):
		failure.HTTPStatusCode, failure.Code, failure.Message = status.status, notAnAnswer, "the answer is not one of DBS: check DBS_ENDPOINT, and what stands between"
	default:
		failure.Code, failure.Message = "NoAnswer", key.redact(err.Error())
		return failure
	}
	if failure.Code == "" {
		failure.Code = "NoCode"
	}

	failure.Kind, failure.Throttled = dbsKind(failure.Code, failure.HTTPStatusCode)
	if failure.Kind == handler.Transient {
		failure.RetryAfter = timeLeft(header)
	}
	failure.Message = key.redact(failure.Message)
	if hint := dbsHint(failure.Code, failure.HTTPStatusCode); failure.Kind == handler.OperatorFault && hint != "" {
		// The service's own words may quote the signed request.
		failure.Message = hint
	}
	return failure
}

// sdkError takes over what an error of the OpenAPI client tells. A missing Code
// comes as the text "<nil>"; DBS's own envelope has ErrCode in its place.
func sdkError(failure *handler.ServiceError, status *int, code, requestID *string, data map[string]any) {
	field := func(name string) string {
		text, _ := data[name].(string)
		return text
	}
	failure.HTTPStatusCode = dara.IntValue(status)
	failure.Code = dara.StringValue(code)
	if failure.Code == "" || failure.Code == "<nil>" {
		failure.Code = field("ErrCode")
	}
	if failure.Message = field("Message"); failure.Message == "" {
		failure.Message = field("ErrMessage")
	}
	if id := dara.StringValue(requestID); id != "<nil>" {
		failure.RequestID = id
	}
}

// dbsKind classifies by code first, since the status of one code varies, and by
// status where the code is not known.
func dbsKind(code string, status int) (kind handler.Kind, throttled bool) {
	starts := func(prefixes ...string) bool {
		for _, prefix := range prefixes {
			if strings.HasPrefix(code, prefix) {
				return true
			}
		}
		return false
	}
	switch {
	case starts("Throttling", "Rejected.Throttling"):
		return handler.Transient, true
	case starts("ServiceUnavailable", "InternalError", "SignatureNonceUsed"):
		return handler.Transient, false
	case credentialCode(code), starts("Forbidden", "NoPermission", "Request.Forbidden",
		"InvalidApi.NotFound", "InvalidAction", "InvalidProduct.NotFound", "InvalidProtocol.NeedSsl", "InvalidVersion"):
		return handler.OperatorFault, false
	case starts("Param.NotFound", "InvalidParameter", "Missing", "IdempotentParameterMismatch", "InvalidJobId"):
		return handler.Permanent, false
	}
	return statusKind(status)
}

// credentialCode reports whether a code of the API gateway is about the
// credentials, the signature or the clock.
func credentialCode(code string) bool {
	for _, prefix := range []string{"InvalidAccessKeyId", "MissingAccessKeyId", "SignatureDoesNotMatch", "IncompleteSignature",
		"InvalidSecurityToken", "MissingSecurityToken", "MissingAuthorization", "InvalidTimeStamp", "InvalidCredentials"} {
		if strings.HasPrefix(code, prefix) {
			return true
		}
	}
	return false
}

// dbsHint says what the operator can do about an operator fault.
func dbsHint(code string, status int) string {
	switch {
	case code == notAnAnswer:
		return ""
	case strings.HasPrefix(code, "InvalidTimeStamp"):
		return "the clock of the instance is off"
	case credentialCode(code):
		return "the credentials or the signature were refused: check the function's role, and DBS_ENDPOINT"
	case strings.HasPrefix(code, "InvalidApi"), strings.HasPrefix(code, "InvalidAction"), strings.HasPrefix(code, "InvalidProduct"),
		strings.HasPrefix(code, "InvalidProtocol"), strings.HasPrefix(code, "InvalidVersion"):
		return "the endpoint does not serve CreateIncrementBackupSetDownload: check DBS_ENDPOINT"
	case status == http.StatusForbidden, status == http.StatusUnauthorized, strings.Contains(code, "Forbidden"), code == "NoPermission":
		return "allow dbs:CreateIncrementBackupSetDownload to the function's role (function/ram-policy.json)"
	}
	return ""
}

// timeLeft returns the wait that a throttled answer asks for: TimeLeft, in
// milliseconds, of the gateway's rate limit headers, or Retry-After in seconds.
func timeLeft(header http.Header) time.Duration {
	var longest time.Duration
	for _, name := range []string{"X-Ratelimit-User-Api", "X-Ratelimit-User"} {
		for pair := range strings.SplitSeq(header.Get(name), ",") {
			value, found := strings.CutPrefix(strings.TrimSpace(pair), "TimeLeft:")
			if ms, err := strconv.ParseUint(value, 10, 31); found && err == nil {
				longest = max(longest, time.Duration(ms)*time.Millisecond)
			}
		}
	}
	if seconds, err := strconv.ParseUint(header.Get("Retry-After"), 10, 20); err == nil {
		longest = max(longest, time.Duration(seconds)*time.Second)
	}
	return longest
}
