package handler

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// CheckReport is what a check of the deployment answers.
type CheckReport struct {
	OK     bool          `json:"ok"` // nothing has failed
	Checks []CheckResult `json:"checks"`
}

// CheckResult says whether one thing that the deployment needs works.
type CheckResult struct {
	Name   string       `json:"name"`   // the permission, and what it is for
	Result CheckOutcome `json:"result"` // ok, failed, unproven or untried
	Detail string       `json:"detail"`
	Fix    string       `json:"fix,omitempty"` // what to do, if it failed
}

// CheckOutcome is the result of one check.
type CheckOutcome string

// The outcomes of a check.
const (
	CheckOK       CheckOutcome = "ok"
	CheckFailed   CheckOutcome = "failed"
	CheckUnproven CheckOutcome = "unproven" // nothing speaks against it, and that proves nothing
	CheckUntried  CheckOutcome = "untried"  // it cannot be tried without an effect
)

// checkTime bounds a check, so that a person gets the answer while waiting for it.
const checkTime = 25 * time.Second

// check is one thing to try. try makes the call; judge says what its error means,
// nil for success.
type check struct {
	name  string
	try   func(ctx context.Context) error
	judge func(err error) CheckResult
	queue bool // a call to MNS, not DBS
	once  bool // never repeated: if MNS took the message, it would take another
}

// run makes the call, and repeats it if it fails for now.
func (c check) run(ctx context.Context, caller *caller) error {
	switch {
	case c.once:
		only := attempts{timeout: publishTimeout}
		return only.run(ctx, c.try)
	case c.queue:
		made := 0
		return retry(ctx, publishTimeout, func(ctx context.Context) error {
			made++
			return c.try(ctx)
		}, func(err error, wait time.Duration) {
			caller.log.repeat("calling MNS again", made, wait, err, slog.String("check", c.name))
		})
	}
	return caller.do(c.try, slog.String("check", c.name))
}

// Check tries each permission, queue and endpoint that the deployment needs, all at
// once, and creates and publishes nothing: DBS and MNS must refuse the requests that
// would have an effect, for a parameter. It returns within checkTime and before
// the deadline of ctx.
func (h *Handler) Check(ctx context.Context, requestID string) CheckReport {
	started := time.Now()
	log := h.log.With("requestId", requestID)
	calls, _, cancel := withBudget(ctx, 0)
	defer cancel()
	calls, cancelChecks := context.WithTimeoutCause(calls, checkTime, errTimeUsedUp)
	defer cancelChecks()

	checks := append(h.dbsChecks(), h.queueChecks()...)
	caller := &caller{starting: calls, running: calls, pacer: &pacer{limiter: h.limiter}, log: &callLog{log: log},
		places: make(chan struct{}, len(checks))}
	results := make([]CheckResult, len(checks))
	var running sync.WaitGroup
	for i, c := range checks {
		running.Go(func() {
			results[i] = c.judge(c.run(calls, caller))
			results[i].Name = c.name
			results[i].Detail = events.Truncate(results[i].Detail, maxReason)
		})
	}
	running.Wait()

	report := CheckReport{OK: true, Checks: append(results, h.untried()...)}
	failed := 0
	for _, result := range report.Checks {
		if result.Result == CheckFailed {
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

// dbsChecks tries the three operations of DBS.
func (h *Handler) dbsChecks() []check {
	checks := []check{{
		name: "dbs:CreateIncrementBackupSetDownload",
		try: func(ctx context.Context) error {
			task, err := h.ports.Tasks.CreateTask(ctx, events.Request{})
			if err == nil {
				err = &cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "Accepted",
					Message: "DBS created task " + task.ID + " for a request without parameters"}
			}
			return err
		},
		judge: judgeDBS("dbs:CreateIncrementBackupSetDownload", ""),
	}}
	plans := h.config.BackupPlanIDs
	if len(plans) == 0 {
		plans = []string{""} // that DBS refuses, after the permission
	}
	now := time.Now()
	for _, plan := range plans {
		suffix := ""
		if plan != "" {
			suffix = " of " + plan
		}
		checks = append(checks, check{
			name: "dbs:" + operationSets + suffix,
			try: func(ctx context.Context) error {
				query := BackupSetQuery{BackupPlanID: plan, Start: now.Add(-time.Hour), End: now}
				_, err := h.ports.Lists.BackupSets(ctx, query)
				return err
			},
			judge: judgeDBS("dbs:"+operationSets, plan),
		}, check{
			name: "dbs:" + operationTasks + suffix,
			try: func(ctx context.Context) error {
				_, err := h.ports.Lists.DownloadTasks(ctx, plan, 0)
				return err
			},
			judge: judgeDBS("dbs:"+operationTasks, plan),
		})
	}
	return checks
}

// judgeDBS judges a call to DBS. A refusal for a parameter proves the permission,
// but for a plan that DBS should know.
func judgeDBS(action, plan string) func(error) CheckResult {
	return func(err error) CheckResult {
		service := cloud.ErrorOf(err)
		switch {
		case err == nil:
			return CheckResult{Result: CheckOK, Detail: "DBS answered with a page of the list"}
		case cloud.KindOf(err) == cloud.Permanent && plan == "":
			return CheckResult{Result: CheckOK, Detail: "DBS refused a request for its missing parameters, as it must, " +
				"and not for a missing permission: " + err.Error()}
		case cloud.KindOf(err) == cloud.Permanent:
			return failedCheck(err, "correct "+plan+" in BACKUP_PLAN_IDS: this account has no such backup plan in this region")
		case cloud.KindOf(err) == cloud.OperatorFault && service.HTTPStatusCode == forbidden:
			return failedCheck(err, "allow "+action+" in the policy of the function's role")
		case cloud.KindOf(err) == cloud.OperatorFault:
			return failedCheck(err, "fix what DBS says: the credentials, the clock or DBS_ENDPOINT")
		case service.Unrecognized:
			return CheckResult{Result: CheckUnproven, Detail: "DBS refused the request with an unknown code: " + err.Error()}
		}
		return failedCheck(err,
			"check DBS_ENDPOINT, and whether the function's network reaches it; if DBS throttles, try again later")
	}
}

// queueChecks tries each queue: its attributes, and a message that MNS must refuse.
func (h *Handler) queueChecks() []check {
	var checks []check
	for _, q := range []struct {
		setting    string
		queue      Queue
		attributes bool // the deployment needs to read them
	}{
		{"RESULT_QUEUE", h.ports.Results, false},
		{"DEAD_LETTER_QUEUE", h.ports.DeadLetters, false},
		{"SOURCE_QUEUE", h.ports.Source, true},
	} {
		queue, ok := q.queue.(InspectedQueue)
		if !ok {
			continue
		}
		checks = append(checks, check{
			name:  "mns:GetQueueAttributes of " + q.setting,
			queue: true,
			try: func(ctx context.Context) error {
				_, err := queue.Depth(ctx)
				return err
			},
			judge: func(err error) CheckResult {
				switch {
				case err == nil:
					return CheckResult{Result: CheckOK, Detail: "the queue exists"}
				case !q.attributes && cloud.KindOf(err) == cloud.OperatorFault && cloud.ErrorOf(err).HTTPStatusCode == forbidden:
					return CheckResult{Result: CheckUnproven, Detail: "the role may not read the attributes of this queue, " +
						"which only this check needs: " + err.Error()}
				}
				return judgeQueue("mns:GetQueueAttributes", q.setting, err)
			},
		}, check{
			name: "mns:SendMessage to " + q.setting,
			once: true,
			try:  queue.TrySend,
			judge: func(err error) CheckResult {
				if cloud.KindOf(err) == cloud.Permanent {
					return CheckResult{Result: CheckUnproven, Detail: "MNS refused a message for its parameter, as it must. " +
						"Whether it looks at the permission first is not documented, so only a real message proves it: " + err.Error()}
				}
				return judgeQueue("mns:SendMessage and mns:BatchSendMessage", q.setting, err)
			},
		})
	}
	return checks
}

// judgeQueue judges a call to MNS that failed.
func judgeQueue(action, setting string, err error) CheckResult {
	if err == nil {
		err = errors.New("the queue took a message that it must refuse")
	}
	switch {
	case cloud.KindOf(err) == cloud.OperatorFault && cloud.ErrorOf(err).HTTPStatusCode == forbidden:
		return failedCheck(err, "allow "+action+" on the queue that "+setting+" names, in the policy of the function's role")
	case cloud.KindOf(err) != cloud.Transient:
		return failedCheck(err, "fix what MNS says: create the queue that "+setting+" names, or correct "+setting+
			", MNS_ENDPOINT or the credentials")
	}
	return failedCheck(err, "check MNS_ENDPOINT, and whether the function's network reaches it: "+
		"its public access may be switched off or limited to addresses")
}

func failedCheck(err error, fix string) CheckResult {
	return CheckResult{Result: CheckFailed, Detail: err.Error(), Fix: fix}
}

// untried names what cannot be tried without an effect, or is not set.
func (h *Handler) untried() []CheckResult {
	untried := func(name, detail string) CheckResult {
		return CheckResult{Name: name, Result: CheckUntried, Detail: detail}
	}
	results := []CheckResult{
		untried("creation of a download task", "only a backup event makes one"),
		untried("log:PostLogStoreLogs", "Function Compute writes the log: if it has the line \"check done\", this works"),
		untried("triggers", "send a message to the source queue, and wait for the timer: the log has a line for each"),
	}
	if h.ports.Source == nil {
		results = append(results, untried("SOURCE_QUEUE", "not set: discovery can be tried with DryRun only"))
	}
	if len(h.config.BackupPlanIDs) == 0 {
		results = append(results, untried("BACKUP_PLAN_IDS", "not set: the timer discovers nothing"))
	}
	return results
}
