package function

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// A refusal is an answer that says no, in the service's own form or in another.
type refusal struct {
	status                   int
	code, message, requestID string
	header                   http.Header
	foreign                  bool // not in the service's own form
}

func (r *refusal) Error() string { return fmt.Sprintf("refused: %s (HTTP %d)", r.code, r.status) }

// foreign returns the refusal for an answer that is not in the service's form: from a
// gateway, a proxy or a redirect.
func foreign(got answer, message string) *refusal {
	return &refusal{status: got.status, code: "NotAnAnswer", message: message, header: got.header, foreign: true}
}

// A rule gives the meaning of the error codes that begin with one of its words. If the
// words of several rules match, the longest counts.
type rule struct {
	codes     string // the words, with space between them
	kind      cloud.Kind
	throttled bool
	fix       string // what the operator can do; empty if that is unknown
	not       int    // a status with which the code means something else
}

// Fixes for failures of both services.
const (
	fixClock       = "the clock of the instance is more than 15 minutes off: report this to Function Compute"
	fixCredentials = "check the function's role (s.yaml: role) and {service}_ENDPOINT"
	fixProxy       = "check any proxy between the function and {host}: it removes or changes a part of the request"
)

// fits reports whether a code means what its rule says if it comes with the given
// status (0: none): a gateway in trouble may use any code, and nothing may be lost for
// that. A request is refused for its parameters with a 2xx or with a 4xx that has no
// meaning of its own.
func (r rule) fits(status int) bool {
	if r.kind != cloud.Permanent {
		return status == 0 || status != r.not
	}
	own := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, http.StatusTooManyRequests}
	return status < 300 || status >= 400 && status < 500 && !slices.Contains(own, status)
}

func find(rules []rule, code string) (best rule, found bool) {
	longest := 0
	for _, r := range rules {
		for word := range strings.FieldsSeq(r.codes) {
			if strings.HasPrefix(code, word) && len(word) > longest {
				best, longest = r, len(word)
			}
		}
	}
	return best, longest > 0
}

// A call is one attempt at one operation, as far as its failure is concerned.
type call struct {
	service    string // DBS or MNS
	host       string
	action     string // the RAM action that the role needs
	queue      string // of MNS
	rules      func() []rule
	started    time.Time
	credential credential
}

// classify is the one place that says what a failed call means. It returns nil for nil.
func (c *call) classify(err error) error {
	var known *cloud.Error
	if err == nil || errors.As(err, &known) {
		return err
	}
	failure := &cloud.Error{Service: c.service, Err: err}
	var refused *refusal
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		failure.Code = "Timeout"
		failure.Message = c.fill("no answer from {host} within ") + time.Since(c.started).Round(time.Millisecond).String()
		return failure
	case !errors.As(err, &refused):
		failure.Code, failure.Message = "NoAnswer", c.credential.redact(err.Error())
		return failure
	}

	failure.HTTPStatusCode, failure.RequestID = refused.status, events.Truncate(refused.requestID, events.MaxAnswerID)
	failure.Code = events.Truncate(cmp.Or(refused.code, "NoCode"), events.MaxAnswerID)
	failure.Message = c.credential.redact(refused.message)
	verdict, found := find(c.rules(), failure.Code)
	// By this header the gateway marks an answer as throttled, whatever its code; 0 is none.
	// See https://github.com/aliyun/darabonba-openapi/pull/283
	wait := duration(refused.header.Get("X-Acs-Retry-After"), time.Millisecond)
	if !found || refused.foreign || !verdict.fits(refused.status) {
		switch verdict = (rule{}); {
		case wait > 0, refused.status == http.StatusTooManyRequests:
			verdict.throttled = true
		case refused.status == http.StatusUnauthorized, refused.status == http.StatusForbidden:
			verdict.kind = cloud.OperatorFault
		default:
			// The service itself says no: with a 4xx or, as the envelope of DBS allows, a 2xx.
			failure.Unrecognized = !refused.foreign && refused.status != http.StatusRequestTimeout &&
				(refused.status < 300 || refused.status >= 400 && refused.status < 500)
		}
	}
	failure.Kind, failure.Throttled = verdict.kind, verdict.throttled || wait > 0
	if failure.Throttled {
		failure.RetryAfter = min(max(wait, timeLeft(refused.header)), time.Minute) // a hint comes from outside
	}
	failure.Fix = c.fill(verdict.fix)
	if refused.foreign {
		failure.Message = cmp.Or(failure.Message, c.fill("the answer is not one of {service}"))
		failure.Fix = c.fill("check {service}_ENDPOINT, and any proxy on the way")
	}
	return failure
}

// fill puts the names of this call into a text.
func (c *call) fill(text string) string {
	return strings.NewReplacer("{service}", c.service, "{host}", c.host, "{action}", c.action, "{queue}", c.queue).Replace(text)
}

// timeLeft returns the wait that a throttled answer asks for: TimeLeft, in
// milliseconds, of the gateway's rate limit headers (utils/client.go of
// darabonba-openapi v2.1.13), or Retry-After in seconds. The former come on answers
// that are not throttled as well, and mean nothing there.
func timeLeft(header http.Header) time.Duration {
	longest := duration(header.Get("Retry-After"), time.Second)
	for _, name := range []string{"X-Ratelimit-User-Api", "X-Ratelimit-User"} {
		for pair := range strings.SplitSeq(header.Get(name), ",") {
			value, found := strings.CutPrefix(strings.TrimSpace(pair), "TimeLeft:")
			if found {
				longest = max(longest, duration(value, time.Millisecond))
			}
		}
	}
	return longest
}

// duration reads a number of units: 0 if it is not a number, and years if it is too large.
func duration(number string, unit time.Duration) time.Duration {
	n, _ := strconv.ParseUint(strings.TrimSpace(number), 10, 31)
	return time.Duration(n) * unit
}
