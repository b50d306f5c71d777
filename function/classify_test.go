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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"increment-backup-download/events"
	"increment-backup-download/function"
	"increment-backup-download/handler/cloud"
)

const (
	transient = cloud.Transient
	permanent = cloud.Permanent
	fault     = cloud.OperatorFault
)

func bare(err error) error { return err }

// verdict is what a failure means.
type verdict struct {
	kind      cloud.Kind
	throttled bool
	unknown   bool // Unrecognized
	code      string
}

func verdictOf(t *testing.T, err error) verdict {
	t.Helper()
	got := classified(t, err)
	return verdict{got.Kind, got.Throttled, got.Unrecognized, got.Code}
}

// failures are classified alike for both services.
func failures() map[string]struct {
	failure function.Failure
	want    verdict
} {
	type row = struct {
		failure function.Failure
		want    verdict
	}
	refused := func(status int, code string) function.Failure { return function.Failure{Status: status, Code: code} }
	foreign := func(status int) function.Failure { return function.Failure{Status: status, Foreign: true} }
	failed := func(err error) function.Failure { return function.Failure{Err: err} }
	return map[string]row{
		"429, unknown code": {refused(429, "New"), verdict{transient, true, false, "New"}},
		"403, unknown code": {refused(403, "New"), verdict{fault, false, false, "New"}},
		"401, unknown code": {refused(401, "New"), verdict{fault, false, false, "New"}},
		"400, unknown code": {refused(400, "New"), verdict{transient, false, true, "New"}},
		"404, unknown code": {refused(404, "New"), verdict{transient, false, true, "New"}},
		"500, unknown code": {refused(500, "New"), verdict{transient, false, false, "New"}},
		"200, unknown code": {refused(200, "New"), verdict{transient, false, true, "New"}},
		"408, unknown code": {refused(408, "New"), verdict{transient, false, false, "New"}},
		"400, no code":      {refused(400, ""), verdict{transient, false, true, "NoCode"}},
		"a page with 200":   {foreign(200), verdict{transient, false, false, "NotAnAnswer"}},
		"a redirect":        {foreign(302), verdict{transient, false, false, "NotAnAnswer"}},
		"a page with 404":   {foreign(404), verdict{transient, false, false, "NotAnAnswer"}},
		"a page with 403":   {foreign(403), verdict{fault, false, false, "NotAnAnswer"}},
		"a page with 429":   {foreign(429), verdict{transient, true, false, "NotAnAnswer"}},
		"a page with 502":   {foreign(502), verdict{transient, false, false, "NotAnAnswer"}},

		"a deadline":         {failed(context.DeadlineExceeded), verdict{code: "Timeout"}},
		"a cancellation":     {failed(context.Canceled), verdict{code: "Timeout"}},
		"connection refused": {failed(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), verdict{code: "NoAnswer"}},
		"connection reset":   {failed(&url.Error{Op: "Post", URL: "http://x", Err: syscall.ECONNRESET}), verdict{code: "NoAnswer"}},
		"no such host":       {failed(&net.DNSError{Err: "no such host"}), verdict{code: "NoAnswer"}},
		"EOF":                {failed(io.EOF), verdict{code: "NoAnswer"}},
		"cut off":            {failed(io.ErrUnexpectedEOF), verdict{code: "NoAnswer"}},
		"a syntax error":     {failed(&json.SyntaxError{}), verdict{code: "NoAnswer"}},
		"an unknown error":   {failed(errors.New("unknown")), verdict{code: "NoAnswer"}},
		"already classified": {failed(&cloud.Error{Kind: permanent, Code: "X"}), verdict{permanent, false, false, "X"}},
	}
}

// wraps are the ways in which a failure may come.
func wraps() []func(error) error {
	return []func(error) error{
		bare,
		func(err error) error { return fmt.Errorf("wrapped: %w", err) },
		func(err error) error { return errors.Join(errors.New("beside"), err) },
	}
}

func TestClassify_FailuresOfBothServices(t *testing.T) {
	for name, c := range failures() {
		t.Run(name, func(t *testing.T) {
			for _, wrap := range wraps() {
				assert.Equal(t, c.want, verdictOf(t, function.ClassifyDBS(c.failure, "Operation", someKey, wrap)))
				assert.Equal(t, c.want, verdictOf(t, function.ClassifyMNS(c.failure, "mns:SendMessage", someKey, wrap)))
			}
		})
	}
}

// kinds are the codes of a table, and what each means.
type kinds map[string]struct {
	status    int
	kind      cloud.Kind
	throttled bool
}

func (k kinds) check(t *testing.T, rules []string, classify func(function.Failure) error) {
	t.Helper()
	unseen := map[string]bool{}
	for _, rule := range rules {
		assert.False(t, unseen[rule], "%s has two rows", rule)
		unseen[rule] = true
	}
	for code, want := range k {
		t.Run(code, func(t *testing.T) {
			// The code goes before the status, unless a request would be given up.
			statuses := []int{want.status, 200, 500}
			if want.kind == permanent {
				statuses = []int{want.status, 200, 400, 404, 422}
			}
			for _, status := range statuses {
				got := verdictOf(t, classify(function.Failure{Status: status, Code: code}))
				assert.Equal(t, verdict{want.kind, want.throttled, false, code}, got, status)
			}
		})
		for rule := range unseen {
			if strings.HasPrefix(code, rule) {
				delete(unseen, rule)
			}
		}
	}
	assert.Empty(t, unseen, "rows without a test")
}

func TestClassifyDBS_Codes(t *testing.T) {
	kinds{
		"Throttling":          {400, transient, true},
		"Throttling.User":     {400, transient, true},
		"Throttling.Api":      {400, transient, true},
		"Throttling.Other":    {429, transient, true},
		"Rejected.Throttling": {429, transient, true},
		"ServiceUnavailable":  {503, transient, false},
		"InternalError":       {500, transient, false},
		"SignatureNonceUsed":  {400, transient, false},

		"InvalidTimeStamp.Expired":       {400, fault, false},
		"InvalidAccessKeyId.NotFound":    {404, fault, false},
		"MissingAccessKeyId":             {400, fault, false},
		"SignatureDoesNotMatch":          {400, fault, false},
		"IncompleteSignature":            {400, fault, false},
		"InvalidSecurityToken.Expired":   {400, fault, false},
		"InvalidSecurityToken.Malformed": {400, fault, false},
		"MissingSecurityToken":           {400, fault, false},
		"InvalidCredentials":             {400, fault, false},
		"Forbidden":                      {403, fault, false},
		"Forbidden.RAM":                  {403, fault, false},
		"Forbidden.RiskControl":          {403, fault, false},
		"NoPermission":                   {403, fault, false},
		"Request.Forbidden":              {403, fault, false},
		"InvalidApi.NotFound":            {404, fault, false},
		"InvalidAction.NotFound":         {404, fault, false},
		"InvalidProduct.NotFound":        {404, fault, false},
		"InvalidProtocol.NeedSsl":        {404, fault, false},
		"InvalidVersion":                 {400, fault, false},
		"Forbidden.AccountArrears":       {403, fault, false},
		"AccessDenied":                   {403, fault, false},

		"MissingAuthorizationHeader": {400, fault, false},
		"MissingSignature":           {400, fault, false},
		"MissingSignatureNonce":      {400, fault, false},
		"MissingTimestamp":           {400, fault, false},
		"MissingTimeStamp":           {400, fault, false},
		"MissingVersion":             {400, fault, false},
		"MissingAction":              {400, fault, false},
		"MissingNonce":               {400, fault, false},
		"MissingContentSha256":       {400, fault, false},
		"MissingHeader":              {400, fault, false},
		"MissingDate":                {400, fault, false},
		"MissingHost":                {400, fault, false},

		"MissingParameter":            {400, permanent, false},
		"MissingBackupSetId":          {400, permanent, false},
		"InvalidParameter":            {400, permanent, false},
		"InvalidParameterValid":       {400, permanent, false},
		"Param.NotFound":              {404, permanent, false},
		"InvalidJobId":                {400, permanent, false},
		"IdempotentParameterMismatch": {400, permanent, false},
	}.check(t, function.DBSCodes(), func(f function.Failure) error {
		return function.ClassifyDBS(f, "Operation", someKey, bare)
	})
}

func TestClassifyMNS_Codes(t *testing.T) {
	kinds{
		"TooManyRequests":     {429, transient, true},
		"QpsLimitExceeded":    {400, transient, true},
		"Throttling":          {400, transient, true},
		"InternalError":       {500, transient, false},
		"InternalServerError": {500, transient, false},
		"ServiceUnavailable":  {503, transient, false},
		"InvalidDegist":       {400, transient, false},

		"AccessDenied":               {403, fault, false},
		"InvalidAccessKeyId":         {403, fault, false},
		"SignatureDoesNotMatch":      {403, fault, false},
		"TimeExpired":                {408, fault, false},
		"QueueNotExist":              {404, fault, false},
		"InvalidQueueName":           {400, fault, false},
		"QueueNameLengthError":       {400, fault, false},
		"InvalidRequestURL":          {400, fault, false},
		"InvalidAuthorizationHeader": {400, fault, false},
		"MissingAuthorizationHeader": {400, fault, false},
		"InvalidDateHeader":          {400, fault, false},
		"MissingDateHeader":          {400, fault, false},

		"InvalidArgument":    {400, permanent, false},
		"MalformedXML":       {400, permanent, false},
		"InvalidQueryString": {400, permanent, false},
	}.check(t, function.MNSCodes(), func(f function.Failure) error {
		return function.ClassifyMNS(f, "mns:SendMessage", someKey, bare)
	})

	// Codes of operations that the function does not call have no row.
	for _, code := range []string{"MessageNotExist", "QueueAlreadyExist", "ReceiptHandleError"} {
		err := function.ClassifyMNS(function.Failure{Status: 400, Code: code}, "mns:SendMessage", someKey, bare)
		assert.Equal(t, verdict{transient, false, true, code}, verdictOf(t, err))
	}
}

// Nothing is given up for a code that comes with a status of another meaning.
func TestClassify_TheStatusGoesWithTheCode(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		want   verdict
	}{
		"401": {401, verdict{kind: fault}},
		"403": {403, verdict{kind: fault}},
		"408": {408, verdict{}},
		"429": {429, verdict{throttled: true}},
		"500": {500, verdict{}},
		"503": {503, verdict{}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, code := range []string{"InvalidParameter", "MissingParameter", "Param.NotFound", "IdempotentParameterMismatch"} {
				c.want.code = code
				failure := function.Failure{Status: c.status, Code: code}
				for _, wrap := range wraps() {
					assert.Equal(t, c.want, verdictOf(t, function.ClassifyDBS(failure, "Operation", someKey, wrap)))
				}
			}
			c.want.code = "InvalidArgument"
			failure := function.Failure{Status: c.status, Code: "InvalidArgument"}
			assert.Equal(t, c.want, verdictOf(t, function.ClassifyMNS(failure, "mns:SendMessage", someKey, bare)))
		})
	}
	for _, code := range []string{"Forbidden", "Forbidden.InstanceNotFound", "Forbidden.RAM", "Request.Forbidden"} {
		err := function.ClassifyDBS(function.Failure{Status: 404, Code: code}, "Operation", someKey, bare)
		assert.Equal(t, verdict{unknown: true, code: code}, verdictOf(t, err), "one thing that does not exist")
		assert.Empty(t, classified(t, err).Fix)
	}
}

func TestClassify_TheServicesOwnWordsAndTheFix(t *testing.T) {
	type failure = function.Failure
	const words = "The service's own words."
	dbs := func(operation string, f failure) error { return function.ClassifyDBS(f, operation, someKey, bare) }
	mns := func(action string, f failure) error { return function.ClassifyMNS(f, action, someKey, bare) }
	refused := func(status int, code string) failure { return failure{Status: status, Code: code, Message: words} }
	for name, c := range map[string]struct {
		err          error
		message, fix string
	}{
		"a list that is forbidden": {dbs("DescribeIncrementBackupList", refused(403, "Request.Forbidden")), words,
			"grant dbs:DescribeIncrementBackupList to the function's role (the role's policy in s.yaml)"},
		"no permission": {dbs("DescribeBackupPlanList", refused(403, "NoPermission")), words,
			"grant dbs:DescribeBackupPlanList to the function's role (the role's policy in s.yaml)"},
		"a role without rights":      {dbs("A", refused(403, "Forbidden.RAM")), words, "grant dbs:A to the function's role (the role's policy in s.yaml)"},
		"forbidden":                  {dbs("A", refused(403, "Forbidden")), words, "grant dbs:A to the function's role (the role's policy in s.yaml)"},
		"access denied":              {dbs("A", refused(403, "AccessDenied.Role")), words, "grant dbs:A to the function's role (the role's policy in s.yaml)"},
		"risk control":               {dbs("A", refused(403, "Forbidden.RiskControl")), words, ""},
		"an account not verified":    {dbs("A", refused(403, "Forbidden.UserVerification")), words, ""},
		"arrears":                    {dbs("A", refused(403, "Account.Arrearage")), words, ""},
		"a 403 with an unknown code": {dbs("A", refused(403, "New")), words, ""},
		"a 403 without a code":       {dbs("A", refused(403, "")), words, ""},
		"an endpoint without the operation": {dbs("A", refused(404, "InvalidApi.NotFound")), words,
			"correct DBS_ENDPOINT: this endpoint does not serve dbs:A"},
		"another clock": {dbs("A", refused(400, "InvalidTimeStamp.Expired")), words,
			"the clock of the instance is more than 15 minutes off: report this to Function Compute"},
		"a wrong key": {dbs("A", refused(403, "SignatureDoesNotMatch")), words,
			"check the function's role (s.yaml: role) and DBS_ENDPOINT"},
		"a proxy that removes headers": {dbs("A", refused(400, "MissingTimestamp")), words,
			"check any proxy between the function and dbs.example.com: it removes or changes a part of the request"},
		"a wrong request":       {dbs("A", refused(400, "InvalidParameter")), words, ""},
		"an unknown code":       {dbs("A", refused(400, "New")), words, ""},
		"throttled":             {dbs("A", refused(400, "Throttling.User")), words, ""},
		"a page":                {dbs("A", failure{Status: 502, Foreign: true}), "the answer is not one of DBS", "check DBS_ENDPOINT, and any proxy on the way"},
		"a page, forbidden":     {mns("m", failure{Status: 403, Foreign: true}), "the answer is not one of MNS", "check MNS_ENDPOINT, and any proxy on the way"},
		"no answer":             {dbs("A", failure{Err: errors.New("reset")}), "reset", ""},
		"a queue, denied":       {mns("mns:GetQueueAttributes", refused(403, "AccessDenied")), words, "grant mns:GetQueueAttributes on queue results to the function's role (the role's policy in s.yaml)"},
		"a queue, missing":      {mns("m", refused(404, "QueueNotExist")), words, "create queue results, or correct the setting that names it"},
		"a queue, misnamed":     {mns("m", refused(400, "InvalidQueueName")), words, "correct the setting that names queue results, or MNS_ENDPOINT"},
		"the clock, by MNS":     {mns("m", refused(408, "TimeExpired")), words, "the clock of the instance is more than 15 minutes off: report this to Function Compute"},
		"a proxy, by MNS":       {mns("m", refused(400, "MissingDateHeader")), words, "check any proxy between the function and mns.example.com: it removes or changes a part of the request"},
		"a key, refused by MNS": {mns("m", refused(403, "InvalidAccessKeyId")), words, "check the function's role (s.yaml: role) and MNS_ENDPOINT"},
	} {
		t.Run(name, func(t *testing.T) {
			got := classified(t, c.err)
			assert.Equal(t, c.message, got.Message)
			assert.Equal(t, c.fix, got.Fix)
		})
	}
}

func TestClassify_BoundsTheCode(t *testing.T) {
	failure := function.Failure{Status: 400, Code: strings.Repeat("x", 5000)}
	assert.Len(t, classified(t, function.ClassifyDBS(failure, "Operation", someKey, bare)).Code, events.MaxAnswerID)
}

// The gateway marks an answer as throttled by a header, whatever the code.
func TestClassify_AnyAnswerMayAskForAWait(t *testing.T) {
	asks := func(ms string) http.Header { return http.Header{"X-Acs-Retry-After": {ms}} }
	for name, c := range map[string]struct {
		failure function.Failure
		want    verdict
		wait    time.Duration
	}{
		"a known code keeps its kind": {function.Failure{Status: 400, Code: "InvalidParameter", Header: asks("1500")},
			verdict{permanent, true, false, "InvalidParameter"}, 1500 * time.Millisecond},
		"an operator fault too": {function.Failure{Status: 403, Code: "Forbidden.RAM", Header: asks("1")},
			verdict{fault, true, false, "Forbidden.RAM"}, time.Millisecond},
		"an unknown code is transient": {function.Failure{Status: 400, Code: "Degrade.Api", Header: asks(" 300 ")},
			verdict{transient, true, false, "Degrade.Api"}, 300 * time.Millisecond},
		"with a 403 too": {function.Failure{Status: 403, Code: "New", Header: asks("300")},
			verdict{transient, true, false, "New"}, 300 * time.Millisecond},
		"a known code with a 503": {function.Failure{Status: 503, Code: "InvalidParameter", Header: asks("300")},
			verdict{transient, true, false, "InvalidParameter"}, 300 * time.Millisecond},
		"a page": {function.Failure{Status: 503, Foreign: true, Header: asks("300")},
			verdict{transient, true, false, "NotAnAnswer"}, 300 * time.Millisecond},
		"at most a minute": {function.Failure{Status: 400, Code: "New", Header: asks("600000")},
			verdict{transient, true, false, "New"}, time.Minute},
		"more than a number holds, as a time since 1970 is": {function.Failure{Status: 400, Code: "New", Header: asks("1795600000000")},
			verdict{transient, true, false, "New"}, time.Minute},
		"0 is none":       {function.Failure{Status: 400, Code: "New", Header: asks("0")}, verdict{transient, false, true, "New"}, 0},
		"rubbish is none": {function.Failure{Status: 400, Code: "New", Header: asks("soon")}, verdict{transient, false, true, "New"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			err := function.ClassifyDBS(c.failure, "Operation", someKey, bare)
			assert.Equal(t, c.want, verdictOf(t, err))
			assert.Equal(t, c.wait, classified(t, err).RetryAfter)
		})
	}
}

func TestClassify_ReadsTheWaitHintOfAThrottledAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		code   string
		header http.Header
		want   time.Duration
	}{
		"none": {"Throttling.User", nil, 0},
		"user and API": {"Throttling.User",
			http.Header{"X-Ratelimit-User-Api": {"Limit:10,Remaining:0,TimeLeft:1500"}}, 1500 * time.Millisecond},
		"user": {"Throttling.User", http.Header{"X-Ratelimit-User": {"TimeLeft:20"}}, 20 * time.Millisecond},
		"the longer one": {"Throttling.User",
			http.Header{"X-Ratelimit-User": {"TimeLeft:20"}, "X-Ratelimit-User-Api": {"TimeLeft:30"}}, 30 * time.Millisecond},
		"the longer one of both kinds": {"Throttling.User",
			http.Header{"X-Ratelimit-User": {"TimeLeft:5000"}, "Retry-After": {"2"}}, 5 * time.Second},
		"at most a minute":             {"Throttling.User", http.Header{"X-Ratelimit-User-Api": {"TimeLeft:600000"}}, time.Minute},
		"at most a minute, in seconds": {"Throttling.User", http.Header{"Retry-After": {"600"}}, time.Minute},
		"Retry-After":                  {"Throttling.User", http.Header{"Retry-After": {"2"}}, 2 * time.Second},
		"rubbish": {"Throttling.User",
			http.Header{"X-Ratelimit-User": {"TimeLeft:soon"}, "Retry-After": {"-1"}}, 0},
		"a number too big": {"Throttling.User", http.Header{"X-Ratelimit-User": {"TimeLeft:99999999999999999999"}}, time.Minute},
		"not throttled": {"ServiceUnavailable",
			http.Header{"X-Ratelimit-User-Api": {"TimeLeft:58000"}, "Retry-After": {"2"}}, 0},
		"forbidden": {"Forbidden.RAM", http.Header{"X-Ratelimit-User-Api": {"TimeLeft:58000"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			failure := function.Failure{Status: 400, Code: c.code, Header: c.header}
			assert.Equal(t, c.want, classified(t, function.ClassifyDBS(failure, "Operation", someKey, bare)).RetryAfter)
		})
	}
	failure := function.Failure{Status: 429, Code: "TooManyRequests", Header: http.Header{"Retry-After": {"3"}}}
	got := classified(t, function.ClassifyMNS(failure, "mns:SendMessage", someKey, bare))
	assert.Equal(t, 3*time.Second, got.RetryAfter)
}

func TestClassify_HidesSecrets(t *testing.T) {
	key := function.NewCredential("id", "hush-secret", "hush+token/=")
	for name, quoting := range map[string]string{
		"the string to sign":  "server string to sign is: POST\nx-acs-security-token:hush+token/=\nhush-secret",
		"the secret":          "hush-secret",
		"the token":           "hush+token/=",
		"the token, escaped":  "hush%2Btoken%2F%3D",
		"a link to a backup":  "see https://b.oss-cn-hangzhou.aliyuncs.com/hush?OSSAccessKeyId=hush&Expires=1&Signature=hush",
		"a link, version 4":   "https://b.oss-cn-hangzhou.aliyuncs.com/hush?x-oss-signature=hush",
		"a token in a query":  "x-acs-security-token=CAIS%2Bhush is malformed",
		"a link, escaped":     "https%3A%2F%2Fb.oss-cn-hangzhou.aliyuncs.com%2Fhush%3FSignature%3Dhush",
		"an official refusal": "SignatureDoesNotMatch Authorization: hush",
	} {
		t.Run(name, func(t *testing.T) {
			for _, failure := range []function.Failure{
				{Status: 400, Code: "SignatureDoesNotMatch", Message: quoting},
				{Status: 400, Code: "New", Message: quoting},
				{Status: 400, Code: "InvalidArgument", Message: quoting},
				{Status: 400, Code: "InvalidParameter", Message: quoting},
				{Status: 200, Foreign: true, Message: quoting},
				{Err: errors.New(quoting)},
			} {
				assert.NotContains(t, function.ClassifyDBS(failure, "Operation", key, bare).Error(), "hush")
				assert.NotContains(t, function.ClassifyMNS(failure, "mns:SendMessage", key, bare).Error(), "hush")
			}
		})
	}
}

// Each mark of a signed request or link by itself is enough.
func TestClassify_WithholdsWhatQuotesASignature(t *testing.T) {
	for _, quote := range []string{
		"Signature=abc", "signature%3Dabc", "server string to sign is: POST", "Authorization: acs", "x?OSSAccessKeyId=LTAI",
		"x-oss-credential=LTAI", "x?security-token=abc", "security-token%3Dabc", "&SecurityToken=abc", "Security-Token%3Dabc", "the secret", "the token",
	} {
		f := function.Failure{Status: 400, Code: "New", Message: "words " + quote + " words"}
		key := function.NewCredential("id", "the secret", "the token")
		for _, err := range []error{function.ClassifyDBS(f, "A", key, bare), function.ClassifyMNS(f, "m", key, bare)} {
			assert.Equal(t, "(the message quotes a signed request or link and is withheld)", classified(t, err).Message, quote)
		}
	}
}

// A redirect says nothing about the request, whatever its code.
func TestClassify_ARedirectGivesNothingUp(t *testing.T) {
	f := function.Failure{Status: 307, Code: "InvalidArgument"}
	assert.Equal(t, verdict{code: "InvalidArgument"}, verdictOf(t, function.ClassifyMNS(f, "m", someKey, bare)))
}
