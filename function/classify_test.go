package function_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/handler"
)

var noKey = function.NewAccessKey("", "", "")

func clientError(status int, code string) error {
	return &openapi.ClientError{StatusCode: dara.Int(status), Code: dara.String(code), RequestId: dara.String("R-1"),
		Data: map[string]any{"Message": "what DBS says", "Code": code}}
}

func serverError(status int, code string) error {
	return &openapi.ServerError{StatusCode: dara.Int(status), Code: dara.String(code), Data: map[string]any{"Message": "what DBS says"}}
}

func throttlingError(code string) error {
	return &openapi.ThrottlingError{StatusCode: dara.Int(400), Code: dara.String(code), Data: map[string]any{"Message": "slow down"}}
}

func TestClassifyDBS(t *testing.T) {
	const transient, permanent, fault = handler.Transient, handler.Permanent, handler.OperatorFault
	envelope := &openapi.ClientError{StatusCode: dara.Int(400), Code: dara.String("<nil>"),
		Data: map[string]any{"ErrCode": "Param.NotFound", "ErrMessage": "in DBS's own envelope"}}
	for name, c := range map[string]struct {
		err       error
		kind      handler.Kind
		throttled bool
		code      string
	}{
		"Throttling":            {throttlingError("Throttling"), transient, true, "Throttling"},
		"Throttling.User":       {throttlingError("Throttling.User"), transient, true, "Throttling.User"},
		"Throttling.Api":        {throttlingError("Throttling.Api"), transient, true, "Throttling.Api"},
		"other Throttling":      {clientError(400, "Throttling.Other"), transient, true, "Throttling.Other"},
		"Rejected.Throttling":   {clientError(429, "Rejected.Throttling"), transient, true, "Rejected.Throttling"},
		"429, code not known":   {clientError(429, "Nobody"), transient, true, "Nobody"},
		"ServiceUnavailable":    {serverError(503, "ServiceUnavailable"), transient, false, "ServiceUnavailable"},
		"InternalError":         {serverError(500, "InternalError"), transient, false, "InternalError"},
		"500, code not known":   {serverError(500, "Nobody"), transient, false, "Nobody"},
		"SignatureNonceUsed":    {clientError(400, "SignatureNonceUsed"), transient, false, "SignatureNonceUsed"},
		"400, code not known":   {clientError(400, "Nobody"), transient, false, "Nobody"},
		"404, code not known":   {clientError(404, "Nobody"), transient, false, "Nobody"},
		"no code":               {clientError(400, ""), transient, false, "NoCode"},
		"code <nil>":            {clientError(400, "<nil>"), transient, false, "NoCode"},
		"DBS envelope on a 4xx": {envelope, permanent, false, "Param.NotFound"},

		"InvalidTimeStamp.Expired":       {clientError(400, "InvalidTimeStamp.Expired"), fault, false, "InvalidTimeStamp.Expired"},
		"InvalidAccessKeyId.NotFound":    {clientError(404, "InvalidAccessKeyId.NotFound"), fault, false, "InvalidAccessKeyId.NotFound"},
		"SignatureDoesNotMatch":          {clientError(400, "SignatureDoesNotMatch"), fault, false, "SignatureDoesNotMatch"},
		"IncompleteSignature":            {clientError(400, "IncompleteSignature"), fault, false, "IncompleteSignature"},
		"InvalidSecurityToken.Expired":   {clientError(400, "InvalidSecurityToken.Expired"), fault, false, "InvalidSecurityToken.Expired"},
		"InvalidSecurityToken.Malformed": {clientError(400, "InvalidSecurityToken.Malformed"), fault, false, "InvalidSecurityToken.Malformed"},
		"MissingSecurityToken":           {clientError(400, "MissingSecurityToken"), fault, false, "MissingSecurityToken"},
		"Forbidden":                      {clientError(403, "Forbidden"), fault, false, "Forbidden"},
		"Forbidden.RAM":                  {clientError(403, "Forbidden.RAM"), fault, false, "Forbidden.RAM"},
		"Forbidden.RiskControl":          {clientError(403, "Forbidden.RiskControl"), fault, false, "Forbidden.RiskControl"},
		"NoPermission":                   {clientError(403, "NoPermission"), fault, false, "NoPermission"},
		"Request.Forbidden":              {clientError(403, "Request.Forbidden"), fault, false, "Request.Forbidden"},
		"403, code not known":            {clientError(403, "Nobody"), fault, false, "Nobody"},
		"401, code not known":            {clientError(401, "Nobody"), fault, false, "Nobody"},
		"InvalidApi.NotFound":            {clientError(404, "InvalidApi.NotFound"), fault, false, "InvalidApi.NotFound"},
		"InvalidProduct.NotFound":        {clientError(404, "InvalidProduct.NotFound"), fault, false, "InvalidProduct.NotFound"},
		"InvalidProtocol.NeedSsl":        {clientError(404, "InvalidProtocol.NeedSsl"), fault, false, "InvalidProtocol.NeedSsl"},

		"MissingParameter":                   {clientError(400, "MissingParameter"), permanent, false, "MissingParameter"},
		"MissingBackupSetId":                 {clientError(400, "MissingBackupSetId"), permanent, false, "MissingBackupSetId"},
		"InvalidParameter":                   {clientError(400, "InvalidParameter"), permanent, false, "InvalidParameter"},
		"InvalidParameterValid":              {clientError(400, "InvalidParameterValid"), permanent, false, "InvalidParameterValid"},
		"InvalidParameter of a 500":          {serverError(500, "InvalidParameter"), permanent, false, "InvalidParameter"},
		"Param.NotFound":                     {clientError(404, "Param.NotFound"), permanent, false, "Param.NotFound"},
		"InvalidJobId":                       {clientError(400, "InvalidJobId"), permanent, false, "InvalidJobId"},
		"IdempotentParameterMismatch":        {clientError(400, "IdempotentParameterMismatch"), permanent, false, "IdempotentParameterMismatch"},
		"a page of a gateway":                {function.NewStatusError(502), transient, false, "NotAnAnswer"},
		"a page with 200":                    {function.NewStatusError(200), transient, false, "NotAnAnswer"},
		"a redirect":                         {function.NewStatusError(302), transient, false, "NotAnAnswer"},
		"a page with 403":                    {function.NewStatusError(403), fault, false, "NotAnAnswer"},
		"a deadline":                         {context.DeadlineExceeded, transient, false, "Timeout"},
		"a cancellation":                     {context.Canceled, transient, false, "Timeout"},
		"connection refused":                 {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, transient, false, "NoAnswer"},
		"connection reset":                   {&url.Error{Op: "Post", URL: "http://x", Err: syscall.ECONNRESET}, transient, false, "NoAnswer"},
		"no such host":                       {&net.DNSError{Err: "no such host"}, transient, false, "NoAnswer"},
		"EOF":                                {io.EOF, transient, false, "NoAnswer"},
		"cut off":                            {io.ErrUnexpectedEOF, transient, false, "NoAnswer"},
		"a syntax error":                     {&json.SyntaxError{}, transient, false, "NoAnswer"},
		"what nobody knows":                  {errors.New("nobody knows"), transient, false, "NoAnswer"},
		"what is classified, stays as it is": {&handler.ServiceError{Kind: permanent, Code: "X"}, permanent, false, "X"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), errors.Join(errors.New("beside"), c.err)} {
				var got *handler.ServiceError
				require.ErrorAs(t, function.ClassifyDBS(err, nil, noKey), &got)
				assert.Equal(t, c.kind, got.Kind)
				assert.Equal(t, c.throttled, got.Throttled)
				assert.Equal(t, c.code, got.Code)
				if got.Kind != permanent {
					assert.NotContains(t, got.Error(), "<nil>")
				}
			}
		})
	}
}

func TestClassifyDBS_ReadsTheWaitHint(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		want   time.Duration
	}{
		"none":             {nil, 0},
		"user and API":     {http.Header{"X-Ratelimit-User-Api": {"Limit:10,Remaining:0,TimeLeft:1500"}}, 1500 * time.Millisecond},
		"user":             {http.Header{"X-Ratelimit-User": {"TimeLeft:20"}}, 20 * time.Millisecond},
		"the longer one":   {http.Header{"X-Ratelimit-User": {"TimeLeft:20"}, "X-Ratelimit-User-Api": {"TimeLeft:30"}}, 30 * time.Millisecond},
		"Retry-After":      {http.Header{"Retry-After": {"2"}}, 2 * time.Second},
		"rubbish":          {http.Header{"X-Ratelimit-User": {"TimeLeft:soon"}, "Retry-After": {"-1"}}, 0},
		"a number too big": {http.Header{"X-Ratelimit-User": {"TimeLeft:99999999999999999999"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var got *handler.ServiceError
			require.ErrorAs(t, function.ClassifyDBS(clientError(400, "Throttling.Other"), c.header, noKey), &got)
			assert.Equal(t, c.want, got.RetryAfter)
		})
	}
}

func TestClassifyMNS(t *testing.T) {
	const transient, permanent, fault = handler.Transient, handler.Permanent, handler.OperatorFault
	for name, c := range map[string]struct {
		err       error
		kind      handler.Kind
		throttled bool
	}{
		"AccessDenied":               {function.NewMNSRefusal(403, "AccessDenied", ""), fault, false},
		"InvalidAccessKeyId":         {function.NewMNSRefusal(403, "InvalidAccessKeyId", ""), fault, false},
		"SignatureDoesNotMatch":      {function.NewMNSRefusal(403, "SignatureDoesNotMatch", ""), fault, false},
		"TimeExpired":                {function.NewMNSRefusal(408, "TimeExpired", ""), fault, false},
		"QueueNotExist":              {function.NewMNSRefusal(404, "QueueNotExist", ""), fault, false},
		"InvalidQueueName":           {function.NewMNSRefusal(400, "InvalidQueueName", ""), fault, false},
		"QueueNameLengthError":       {function.NewMNSRefusal(400, "QueueNameLengthError", ""), fault, false},
		"InvalidRequestURL":          {function.NewMNSRefusal(400, "InvalidRequestURL", ""), fault, false},
		"InvalidAuthorizationHeader": {function.NewMNSRefusal(400, "InvalidAuthorizationHeader", ""), fault, false},
		"MissingAuthorizationHeader": {function.NewMNSRefusal(400, "MissingAuthorizationHeader", ""), fault, false},
		"InvalidDateHeader":          {function.NewMNSRefusal(400, "InvalidDateHeader", ""), fault, false},
		"MissingDateHeader":          {function.NewMNSRefusal(400, "MissingDateHeader", ""), fault, false},
		"403, code not known":        {function.NewMNSRefusal(403, "Nobody", ""), fault, false},
		"InvalidArgument":            {function.NewMNSRefusal(400, "InvalidArgument", ""), permanent, false},
		"MalformedXML":               {function.NewMNSRefusal(400, "MalformedXML", ""), permanent, false},
		"InvalidQueryString":         {function.NewMNSRefusal(400, "InvalidQueryString", ""), permanent, false},
		"QpsLimitExceeded":           {function.NewMNSRefusal(400, "QpsLimitExceeded", ""), transient, true},
		"InternalError":              {function.NewMNSRefusal(500, "InternalError", ""), transient, false},
		"InternalServerError":        {function.NewMNSRefusal(500, "InternalServerError", ""), transient, false},
		"InvalidDegist":              {function.NewMNSRefusal(400, "InvalidDegist", ""), transient, false},
		"code not known":             {function.NewMNSRefusal(400, "Nobody", ""), transient, false},
		"MessageNotExist":            {function.NewMNSRefusal(404, "MessageNotExist", ""), transient, false},
		"QueueAlreadyExist":          {function.NewMNSRefusal(409, "QueueAlreadyExist", ""), transient, false},
		"ReceiptHandleError":         {function.NewMNSRefusal(400, "ReceiptHandleError", ""), transient, false},
		"a page of a gateway":        {function.NewStatusError(502), transient, false},
		"a page with 403":            {function.NewStatusError(403), fault, false},
		"too many requests":          {function.NewStatusError(429), transient, true},
		"a deadline":                 {context.DeadlineExceeded, transient, false},
		"a cancellation":             {context.Canceled, transient, false},
		"connection refused":         {syscall.ECONNREFUSED, transient, false},
		"EOF":                        {io.EOF, transient, false},
		"what nobody knows":          {errors.New("nobody knows"), transient, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{c.err, fmt.Errorf("wrapped: %w", c.err), errors.Join(errors.New("beside"), c.err)} {
				var got *handler.ServiceError
				require.ErrorAs(t, function.ClassifyMNS(err, noKey), &got)
				assert.Equal(t, c.kind, got.Kind)
				assert.Equal(t, c.throttled, got.Throttled)
				assert.NotEmpty(t, got.Message+got.Code)
			}
		})
	}
}

func TestClassify_TellsNoSecret(t *testing.T) {
	key := function.NewAccessKey("id", "hush-secret", "hush-token")
	quoting := "server string to sign is: POST\nx-acs-security-token:hush-token\nhush-secret"
	for _, err := range []error{
		function.ClassifyDBS(&openapi.ClientError{StatusCode: dara.Int(400), Code: dara.String("SignatureDoesNotMatch"), Data: map[string]any{"Message": quoting}}, nil, key),
		function.ClassifyDBS(&openapi.ClientError{StatusCode: dara.Int(400), Code: dara.String("Nobody"), Data: map[string]any{"Message": quoting}}, nil, key),
		function.ClassifyDBS(errors.New(quoting), nil, key),
		function.ClassifyMNS(function.NewMNSRefusal(403, "SignatureDoesNotMatch", quoting), key),
		function.ClassifyMNS(function.NewMNSRefusal(400, "Nobody", quoting), key),
		function.ClassifyMNS(errors.New(quoting), key),
	} {
		assert.NotContains(t, err.Error(), "hush")
	}
}

func TestReadDBSAnswer(t *testing.T) {
	official, err := os.ReadFile(filepath.Join("testdata", "dbs", "official-success.json"))
	require.NoError(t, err)
	task, err := function.ReadDBSAnswer(200, official)
	require.NoError(t, err, "ErrCode beside Success: true means nothing")
	assert.Equal(t, handler.Task{ID: "1jydacm******", RequestID: "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"}, task)

	for name, body := range map[string]string{
		"Success false":                `{"Success":false,"ErrCode":"Param.NotFound","BackupSetDownloadTaskId":"1jydacm"}`,
		"Success absent":               `{"BackupSetDownloadTaskId":"1jydacm"}`,
		"Success as text":              `{"Success":"true","BackupSetDownloadTaskId":"1jydacm"}`,
		"no task ID":                   `{"Success":true}`,
		"empty task ID":                `{"Success":true,"BackupSetDownloadTaskId":""}`,
		"null task ID":                 `{"Success":true,"BackupSetDownloadTaskId":null}`,
		"empty":                        ``,
		"null":                         `null`,
		"an array":                     `[{"Success":true,"BackupSetDownloadTaskId":"1jydacm"}]`,
		"cut off":                      `{"Success":true,"BackupSetDownloadTaskId":"1jyd`,
		"HTML":                         `<html></html>`,
		"an endless task ID":           `{"Success":true,"BackupSetDownloadTaskId":"` + strings.Repeat("x", 129) + `"}`,
		"an object where there is one": `{"Success":true,"BackupSetDownloadTaskId":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := function.ReadDBSAnswer(200, []byte(body))
			require.Error(t, err)
		})
	}
	t.Run("a RequestId of another type does not hide the task", func(t *testing.T) {
		task, err := function.ReadDBSAnswer(200, []byte(`{"Success":true,"BackupSetDownloadTaskId":17,"RequestId":{},"HttpStatusCode":"200"}`))
		require.NoError(t, err)
		assert.Equal(t, "17", task.ID)
	})
	t.Run("a refusal in the envelope", func(t *testing.T) {
		_, err := function.ReadDBSAnswer(200, []byte(`{"HttpStatusCode":400,"Success":false,"ErrCode":"InvalidParameter","ErrMessage":"m","RequestId":"r"}`))
		var got *handler.ServiceError
		require.ErrorAs(t, function.ClassifyDBS(err, nil, noKey), &got)
		assert.Equal(t, handler.ServiceError{Kind: handler.Permanent, Service: "DBS", Code: "InvalidParameter", Message: "m", HTTPStatusCode: 400, RequestID: "r", Err: err}, *got)
	})
}

func FuzzReadDBSAnswer(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "dbs", "*.json"))
	require.NoError(f, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(200, content)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		task, err := function.ReadDBSAnswer(status, body)
		if err == nil {
			require.NotEmpty(t, task.ID)
			return
		}
		var got *handler.ServiceError
		require.ErrorAs(t, function.ClassifyDBS(err, nil, noKey), &got)
		require.NotEmpty(t, got.Code)
		require.Less(t, len(got.Error()), 20_000+len(got.Code))
	})
}
