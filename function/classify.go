package function

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/handler/cloud"
)

// A refusal is an answer that says no, in the service's form or in none.
type refusal struct {
	status                   int
	code, message, requestID string
	header                   http.Header
	foreign                  bool // not in the service's own form
}

// The adapters' own codes, used if an answer has none.
const (
	codeTimeout     = "Timeout"     // no answer within the time of the attempt
	codeNoAnswer    = "NoAnswer"    // the connection failed, or the answer could not be read
	codeNotAnAnswer = "NotAnAnswer" // an answer that is not in the service's form: of a gateway, a proxy, a redirect
	codeNone        = "NoCode"      // the service's form without a code
	codeNoTaskID    = "NoTaskID"    // a success of DBS without a task ID
)

// isRefusal reports whether the service itself says no: with a 4xx, or, as the
// envelope of DBS allows, with a 2xx and a code.
func (r *refusal) isRefusal() bool {
	return !r.foreign && (r.status >= 400 && r.status < 500 || r.status < 300 && r.code != "" && r.code != codeNoTaskID)
}

func (r *refusal) Error() string { return fmt.Sprintf("refused: %s (HTTP %d)", r.code, r.status) }

// foreign returns the refusal that an answer is if it is not in the service's form.
func foreign(got answer, message string) *refusal {
	return &refusal{status: got.status, code: codeNotAnAnswer, message: message, header: got.header, foreign: true}
}

// A rule says what an error code of a service means. A code that ends with * is a
// prefix. The most specific rule counts: the whole code, else the longest prefix.
type rule struct {
	code      string
	kind      cloud.Kind
	throttled bool
	// hint says what the operator can do about an operator fault, in place of the
	// service's own words, which may quote the signed request.
	hint string
}

func find(rules []rule, code string) (best rule, found bool) {
	longest := -1
	for _, r := range rules {
		length := len(r.code)
		if prefix, isPrefix := strings.CutSuffix(r.code, "*"); isPrefix {
			length--
			if !strings.HasPrefix(code, prefix) {
				continue
			}
		} else if r.code != code {
			continue
		}
		if length > longest {
			best, longest = r, length
		}
	}
	return best, longest >= 0
}

// A call is one attempt at one operation, as far as its failure is concerned.
type call struct {
	service string // DBS or MNS
	setting string // names the service's endpoint
	host    string
	action  string // the RAM action that the role needs
	queue   string // of MNS
	rules   func() []rule
	denied  string // the hint of a 401 or 403 whose code no rule has
	started time.Time

	credential credential
}

// classify is the one place that says what a failed call means.
func (c *call) classify(err error) error {
	var known *cloud.Error
	if errors.As(err, &known) {
		return err
	}
	failure := &cloud.Error{Service: c.service, Err: err}
	var refused *refusal
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		failure.Code = codeTimeout
		failure.Message = c.fill("no answer from {host} within " + waited(time.Since(c.started)))
		return failure
	case !errors.As(err, &refused):
		failure.Code, failure.Message = codeNoAnswer, c.credential.redact(err.Error())
		return failure
	}

	failure.HTTPStatusCode, failure.RequestID = refused.status, refused.requestID
	failure.Code, failure.Message = refused.code, c.credential.redact(refused.message)
	if failure.Code == "" {
		failure.Code = codeNone
	}
	verdict, found := find(c.rules(), failure.Code)
	if !found || refused.foreign {
		verdict = c.byStatus(refused.status)
		failure.Unrecognized = verdict == rule{} && refused.isRefusal()
	}
	failure.Kind, failure.Throttled = verdict.kind, verdict.throttled
	if failure.Throttled {
		failure.RetryAfter = timeLeft(refused.header)
	}
	switch {
	case refused.foreign && failure.Message == "":
		failure.Message = c.fill("the answer is not one of {service}: check {setting}, and any proxy on the way")
	case !refused.foreign && verdict.hint != "":
		failure.Message = c.fill(verdict.hint)
	}
	return failure
}

// byStatus is the rule for a code that no rule has.
func (c *call) byStatus(status int) rule {
	switch status {
	case http.StatusTooManyRequests:
		return rule{throttled: true}
	case http.StatusUnauthorized, http.StatusForbidden:
		return rule{kind: cloud.OperatorFault, hint: c.denied}
	}
	return rule{}
}

// fill puts the names of this call into a hint.
func (c *call) fill(hint string) string {
	return strings.NewReplacer("{service}", c.service, "{setting}", c.setting, "{host}", c.host,
		"{action}", c.action, "{queue}", c.queue).Replace(hint)
}

// waited rounds a time for a person.
func waited(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// timeLeft returns the wait that a throttled answer asks for: TimeLeft, in
// milliseconds, of the gateway's rate limit headers (utils/client.go of
// darabonba-openapi v2.1.13), or Retry-After in seconds. The former come on answers
// that are not throttled as well, and mean nothing there.
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
