// Package check tries what a deployment needs, in ways that create and publish
// nothing.
package check

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
)

// Report is the answer of a check.
type Report struct {
	OK     bool     `json:"ok"` // nothing has failed
	Checks []Result `json:"checks"`
}

// Result says whether one thing that the deployment needs works.
type Result struct {
	Name    string  `json:"name"` // the permission, and what it is for
	Outcome Outcome `json:"result"`
	Detail  string  `json:"detail"`
	Fix     string  `json:"fix,omitempty"` // what to do, if it failed
}

// Outcome is how one check ended.
type Outcome string

// The outcomes of a check.
const (
	OK       Outcome = "ok"
	Failed   Outcome = "failed"
	Unproven Outcome = "unproven" // inconclusive
	Untried  Outcome = "untried"  // it cannot be tried without an effect
)

// DBS is what a check calls.
type DBS interface {
	// Try makes a request of an operation, with BackupPlanId as its only parameter, or
	// with none if plan is empty, and returns nil if DBS answers with success. One
	// attempt, safe for concurrent use, returns soon after ctx ends, failures as
	// *cloud.Error.
	Try(ctx context.Context, operation, plan string) error
}

// Queue is a queue of MNS that a check looks at without changing it.
type Queue interface {
	// Depth returns how many messages the queue holds (GetQueueAttributes). One attempt,
	// safe for concurrent use, failures as *cloud.Error.
	Depth(ctx context.Context) (int, error)
	// TrySend makes a request to send that MNS must refuse for a parameter
	// (Priority 0), so that nothing is sent, and returns the refusal: Permanent if
	// the request got as far as its parameters. It never returns nil.
	TrySend(ctx context.Context) error
}

// Config says what the deployment has.
type Config struct {
	BackupPlanIDs                []string
	Results, DeadLetters, Source Queue // Source is an untyped nil if there is none
}

// Checker checks a deployment. It is immutable and safe for concurrent use.
type Checker struct {
	config Config
	dbs    DBS
	limits *attempt.Limits
	log    *slog.Logger
}

// New returns a checker.
func New(config Config, dbs DBS, limits *attempt.Limits, log *slog.Logger) *Checker {
	return &Checker{config: config, dbs: dbs, limits: limits, log: log}
}

// timeLimit bounds a check, so that a person gets the answer while waiting for it.
const timeLimit = 25 * time.Second

// maxDetail bounds the detail of a result, in bytes.
const maxDetail = 350

// try is one thing to try.
type try struct {
	name  string
	call  func(ctx context.Context) error
	judge func(err error) Result // nil is success
	once  bool                   // never repeated: if MNS took the message, it would take another
}

// Run tries each permission, queue and endpoint that the deployment needs, all at
// once, and creates and publishes nothing: DBS and MNS must refuse the requests that
// would have an effect, for a parameter. It returns within timeLimit and before the
// deadline of ctx.
func (c *Checker) Run(ctx context.Context, requestID string) Report {
	started := time.Now()
	log := c.log.With("requestId", requestID)
	invocation, cancel := attempt.NewInvocation(ctx, 0, log)
	defer cancel()
	calls, cancelCalls := context.WithTimeoutCause(invocation.Calls, timeLimit, attempt.ErrTimeUsedUp)
	defer cancelCalls()
	ofDBS := c.dbsTries()
	tries := slices.Concat(ofDBS, c.queueTries())
	dbs, mns := invocation.CallDBS(c.limits.NewPacer(len(ofDBS))).Within(calls), invocation.CallMNS().Within(calls)

	results := make([]Result, len(tries))
	var running sync.WaitGroup
	for i, t := range tries {
		running.Go(func() {
			caller := mns
			if i < len(ofDBS) {
				caller = dbs
			}
			if t.once {
				results[i] = t.judge(caller.Once(&attempt.State{}, t.call))
			} else {
				results[i] = t.judge(caller.Do(t.call, slog.String("check", t.name)))
			}
			results[i].Name = t.name
			results[i].Detail = events.Truncate(results[i].Detail, maxDetail)
		})
	}
	running.Wait()

	report := Report{OK: true, Checks: append(results, c.untried()...)}
	failed := 0
	for _, result := range report.Checks {
		if result.Outcome == Failed {
			report.OK = false
			failed++
			log.LogAttrs(ctx, slog.LevelWarn, "check failed",
				slog.String("check", result.Name), slog.String("error", result.Detail))
		}
	}
	log.LogAttrs(ctx, slog.LevelInfo, "check done", slog.Bool("ok", report.OK), slog.Int("checks", len(report.Checks)),
		slog.Int("checksFailed", failed), slog.Int64("durationMs", time.Since(started).Milliseconds()))
	return report
}

// dbsTries tries the operations of DBS.
func (c *Checker) dbsTries() []try {
	dbs := func(operation, plan string) try {
		name := "dbs:" + operation
		if plan != "" {
			name += " of " + plan
		}
		return try{
			name:  name,
			call:  func(ctx context.Context) error { return c.dbs.Try(ctx, operation, plan) },
			judge: func(err error) Result { return judgeDBS(plan, err) },
		}
	}
	create := dbs("CreateIncrementBackupSetDownload", "")
	create.judge = func(err error) Result {
		if err == nil {
			return failed(errors.New("DBS created a task for a request without parameters"), "report this to DBS")
		}
		return judgeDBS("", err)
	}
	tries := []try{create}
	plans := c.config.BackupPlanIDs
	if slices.Equal(plans, []string{events.AllPlans}) {
		plans = nil
		tries = append(tries, dbs("DescribeBackupPlanList", ""))
	}
	if len(plans) == 0 {
		plans = []string{""} // DBS refuses it, after the permission
	}
	for _, plan := range plans {
		tries = append(tries, dbs("DescribeIncrementBackupList", plan), dbs("DescribeBackupSetDownloadTaskList", plan))
	}
	return tries
}

// judgeDBS judges a call to DBS. A refusal for a parameter proves the permission,
// unless DBS should know the plan.
func judgeDBS(plan string, err error) Result {
	service := cloud.ErrorOf(err)
	switch {
	case err == nil:
		return Result{Outcome: OK, Detail: "DBS answered with a page of the list"}
	case service.Kind == cloud.Permanent && plan == "":
		return Result{Outcome: OK, Detail: "DBS refused a request without parameters, as it must, " +
			"so the permission is there: " + err.Error()}
	case service.Kind == cloud.Permanent:
		return failed(err, "correct "+plan+" in BACKUP_PLAN_IDS: this account has no such backup plan in this region")
	case service.Kind == cloud.OperatorFault:
		return failed(err, "fix what DBS says: the account, the credentials, the clock or DBS_ENDPOINT")
	case service.Unrecognized:
		return Result{Outcome: Unproven, Detail: "DBS refused the request with an unknown code: " + err.Error()}
	}
	return failed(err,
		"check DBS_ENDPOINT, and whether the function's network reaches it; if DBS throttles, try again later")
}

// queueTries tries each queue: its attributes, and a message that MNS must refuse.
func (c *Checker) queueTries() []try {
	var tries []try
	for _, q := range []struct {
		setting    string
		queue      Queue
		attributes bool // the deployment needs to read them
	}{
		{"RESULT_QUEUE", c.config.Results, false},
		{"DEAD_LETTER_QUEUE", c.config.DeadLetters, false},
		{"SOURCE_QUEUE", c.config.Source, true},
	} {
		if q.queue == nil {
			continue
		}
		tries = append(tries, try{
			name: "mns:GetQueueAttributes of " + q.setting,
			call: func(ctx context.Context) error {
				_, err := q.queue.Depth(ctx)
				return err
			},
			judge: func(err error) Result {
				switch {
				case err == nil:
					return Result{Outcome: OK, Detail: "the queue exists"}
				case !q.attributes && cloud.ErrorOf(err).HTTPStatusCode == 403:
					return Result{Outcome: Unproven, Detail: "the role may not read the attributes of this queue, " +
						"which only this check needs: " + cloud.ErrorOf(err).Cause()}
				}
				return judgeQueue(q.setting, err)
			},
		}, try{
			name: "mns:SendMessage to " + q.setting,
			once: true,
			call: q.queue.TrySend,
			judge: func(err error) Result {
				if cloud.KindOf(err) == cloud.Permanent {
					return Result{Outcome: Unproven, Detail: "MNS refused an invalid message, as it must. It may do so before " +
						"it looks at the permission, so only a real message proves the permission: " + err.Error()}
				}
				return judgeQueue(q.setting, err)
			},
		})
	}
	return tries
}

// judgeQueue judges a call to MNS that failed.
func judgeQueue(setting string, err error) Result {
	if err == nil {
		err = errors.New("the queue took a message that it must refuse")
	}
	if cloud.KindOf(err) != cloud.Transient {
		return failed(err, "fix what MNS says: create the queue that "+setting+" names, or correct "+setting+
			", MNS_ENDPOINT or the credentials")
	}
	return failed(err, "check MNS_ENDPOINT, and whether the function's network reaches it: "+
		"its public access may be switched off or limited to addresses")
}

// failed returns the result of a failed check. The fix that the error knows is better
// than the usual one.
func failed(err error, fix string) Result {
	detail := err.Error()
	service := cloud.ErrorOf(err)
	if service.Fix != "" {
		detail, fix = service.Cause(), service.Fix
	}
	return Result{Outcome: Failed, Detail: detail, Fix: fix}
}

// untried names what cannot be tried without an effect, or is not set.
func (c *Checker) untried() []Result {
	untried := func(name, detail string) Result { return Result{Name: name, Outcome: Untried, Detail: detail} }
	results := []Result{
		untried("creation of a download task", "only a backup event makes one"),
		untried("log:PostLogStoreLogs", "Function Compute writes the log: if it has the line \"check done\", this works"),
		untried("triggers", "send a message to the source queue, and wait for the timer: the log has a line for each"),
	}
	if c.config.Source == nil {
		results = append(results, untried("SOURCE_QUEUE", "not set: discovery works with DryRun only"))
	}
	if len(c.config.BackupPlanIDs) == 0 {
		results = append(results, untried("BACKUP_PLAN_IDS", "not set: the timer discovers nothing"))
	}
	return results
}
