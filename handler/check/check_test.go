package check_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/check"
	"increment-backup-download/handler/cloud"
)

const (
	planA = "dbsqdss5tmh0001"
	planB = "dbsqdss5tmh0002"

	create = "CreateIncrementBackupSetDownload"
	sets   = "DescribeIncrementBackupList"
	tasks  = "DescribeBackupSetDownloadTaskList"
)

// fakeDBS refuses requests that lack a parameter, after their permission.
type fakeDBS struct {
	refuse map[string]error // by operation
	hang   map[string]bool  // operations that do not answer
}

func (f *fakeDBS) Try(ctx context.Context, operation, plan string) error {
	if f.hang[operation] {
		<-ctx.Done()
		return ctx.Err()
	}
	if err, ok := f.refuse[operation]; ok {
		return err
	}
	if operation == create || plan == "" {
		return failure(cloud.Permanent, "DBS", "MissingParameter", 400)
	}
	return nil
}

// fakeQueue refuses a message for its parameter.
type fakeQueue struct {
	try   error
	depth func(ctx context.Context) error

	mu    sync.Mutex
	tries int
}

func (f *fakeQueue) Depth(ctx context.Context) (int, error) {
	if f.depth != nil {
		return 0, f.depth(ctx)
	}
	return 0, nil
}

func (f *fakeQueue) TrySend(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	return f.try
}

func failure(kind cloud.Kind, service, code string, status int) error {
	return &cloud.Error{Kind: kind, Service: service, Code: code, HTTPStatusCode: status}
}

// deployment is one in which everything works.
type deployment struct {
	dbs                          *fakeDBS
	results, deadLetters, source *fakeQueue
	plans                        []string
	log                          *bytes.Buffer
}

func deploy() *deployment {
	queue := func() *fakeQueue { return &fakeQueue{try: failure(cloud.Permanent, "MNS", "InvalidArgument", 400)} }
	return &deployment{
		dbs:     &fakeDBS{refuse: map[string]error{}, hang: map[string]bool{}},
		results: queue(), deadLetters: queue(), source: queue(), plans: []string{planA}, log: &bytes.Buffer{},
	}
}

func (d *deployment) run(ctx context.Context) check.Report {
	config := check.Config{BackupPlanIDs: d.plans, Results: d.results, DeadLetters: d.deadLetters}
	if d.source != nil {
		config.Source = d.source
	}
	log := slog.New(slog.NewJSONHandler(d.log, nil))
	return check.New(config, d.dbs, attempt.NewLimits(1, 0), log).Run(ctx, "request-1")
}

// byName returns the results of a check by name.
func byName(report check.Report) map[string]check.Result {
	results := map[string]check.Result{}
	for _, result := range report.Checks {
		results[result.Name] = result
	}
	return results
}

func TestCheck_ADeploymentThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy()
		d.plans = []string{planA, planB}
		report := d.run(t.Context())
		assert.True(t, report.OK)
		got := map[string]check.Outcome{}
		for name, result := range byName(report) {
			got[name] = result.Outcome
			assert.NotEmpty(t, result.Detail, name)
			assert.Empty(t, result.Fix, name)
		}
		assert.Equal(t, map[string]check.Outcome{
			"dbs:" + create:                               check.OK,
			"dbs:" + sets + " of " + planA:                check.OK,
			"dbs:" + sets + " of " + planB:                check.OK,
			"dbs:" + tasks + " of " + planA:               check.OK,
			"dbs:" + tasks + " of " + planB:               check.OK,
			"mns:GetQueueAttributes of RESULT_QUEUE":      check.OK,
			"mns:GetQueueAttributes of DEAD_LETTER_QUEUE": check.OK,
			"mns:GetQueueAttributes of SOURCE_QUEUE":      check.OK,
			"mns:SendMessage to RESULT_QUEUE":             check.Unproven,
			"mns:SendMessage to DEAD_LETTER_QUEUE":        check.Unproven,
			"mns:SendMessage to SOURCE_QUEUE":             check.Unproven,
			"creation of a download task":                 check.Untried,
			"log:PostLogStoreLogs":                        check.Untried,
			"triggers":                                    check.Untried,
		}, got)
		assert.Contains(t, byName(report)["mns:SendMessage to RESULT_QUEUE"].Detail, "only a real message proves")
		assert.Contains(t, d.log.String(), "check done")
	})
}

func TestCheck_WithoutDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy()
		d.plans, d.source = nil, nil
		report := d.run(t.Context())
		assert.True(t, report.OK)
		got := byName(report)
		assert.Equal(t, check.OK, got["dbs:"+sets].Outcome, "DBS refuses a request without a plan after the permission")
		assert.Equal(t, check.OK, got["dbs:"+tasks].Outcome)
		assert.Equal(t, check.Untried, got["SOURCE_QUEUE"].Outcome)
		assert.Equal(t, check.Untried, got["BACKUP_PLAN_IDS"].Outcome)
	})
}

func TestCheck_OfAllPlansTriesTheirList(t *testing.T) {
	for name, c := range map[string]struct {
		refusal error
		want    check.Outcome
	}{
		"allowed":   {nil, check.OK},
		"forbidden": {failure(cloud.OperatorFault, "DBS", "NoPermission", 403), check.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy()
				d.plans = []string{events.AllPlans}
				d.dbs.refuse["DescribeBackupPlanList"] = c.refusal
				got := byName(d.run(t.Context()))
				assert.Equal(t, c.want, got["dbs:DescribeBackupPlanList"].Outcome)
				assert.Equal(t, check.OK, got["dbs:"+sets].Outcome)
				assert.Equal(t, check.OK, got["dbs:"+tasks].Outcome)
				assert.NotContains(t, got, "BACKUP_PLAN_IDS")
			})
		})
	}
}

func TestCheck_SaysWhatToDo(t *testing.T) {
	forbidden := func(action string) error {
		return &cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "Forbidden.RAM", HTTPStatusCode: 403,
			Fix: "grant " + action + " to the function's role"}
	}
	refuse := func(operation string, err error) func(*deployment) {
		return func(d *deployment) { d.dbs.refuse[operation] = err }
	}
	for name, c := range map[string]struct {
		arrange func(*deployment)
		check   string
		result  check.Outcome
		detail  string
		fix     string
	}{
		"creation forbidden": {refuse(create, forbidden("dbs:"+create)), "dbs:" + create, check.Failed, "Forbidden.RAM", "grant dbs:" + create},
		"wrong credentials": {refuse(create, failure(cloud.OperatorFault, "DBS", "InvalidAccessKeyId.NotFound", 404)),
			"dbs:" + create, check.Failed, "InvalidAccessKeyId", "credentials"},
		"an account in arrears": {refuse(create, failure(cloud.OperatorFault, "DBS", "Account.Arrearage", 403)),
			"dbs:" + create, check.Failed, "Account.Arrearage", "fix what DBS says: the account"},
		"DBS out of reach": {refuse(create, failure(cloud.Transient, "DBS", "NoAnswer", 0)),
			"dbs:" + create, check.Failed, "NoAnswer", "DBS_ENDPOINT"},
		"a task was created": {refuse(create, nil), "dbs:" + create, check.Failed, "created a task", "report"},
		"a code that is unknown": {refuse(create, &cloud.Error{Service: "DBS", Code: "New", HTTPStatusCode: 400, Unrecognized: true}),
			"dbs:" + create, check.Unproven, "New", ""},
		"sets forbidden": {refuse(sets, forbidden("dbs:"+sets)),
			"dbs:" + sets + " of " + planA, check.Failed, "Forbidden.RAM", "grant dbs:" + sets},
		"tasks forbidden": {refuse(tasks, forbidden("dbs:"+tasks)),
			"dbs:" + tasks + " of " + planA, check.Failed, "Forbidden.RAM", "grant dbs:" + tasks},
		"an unknown plan": {refuse(sets, failure(cloud.Permanent, "DBS", "InvalidParameterValid", 400)),
			"dbs:" + sets + " of " + planA, check.Failed, "InvalidParameterValid", planA + " in BACKUP_PLAN_IDS"},
		"sending forbidden": {func(d *deployment) { d.results.try = forbidden("mns:SendMessage") },
			"mns:SendMessage to RESULT_QUEUE", check.Failed, "Forbidden.RAM", "grant mns:SendMessage"},
		"no such queue": {func(d *deployment) {
			d.deadLetters.try = failure(cloud.OperatorFault, "MNS", "QueueNotExist", 404)
		}, "mns:SendMessage to DEAD_LETTER_QUEUE", check.Failed, "QueueNotExist", "create the queue that DEAD_LETTER_QUEUE names"},
		"a message that is taken": {func(d *deployment) { d.results.try = nil },
			"mns:SendMessage to RESULT_QUEUE", check.Failed, "must refuse", "MNS_ENDPOINT"},
		"MNS out of reach": {func(d *deployment) { d.source.try = failure(cloud.Transient, "MNS", "NoAnswer", 0) },
			"mns:SendMessage to SOURCE_QUEUE", check.Failed, "NoAnswer", "MNS_ENDPOINT"},
		"depth forbidden": {func(d *deployment) {
			d.source.depth = func(context.Context) error { return forbidden("mns:GetQueueAttributes") }
		}, "mns:GetQueueAttributes of SOURCE_QUEUE", check.Failed, "Forbidden.RAM", "grant mns:GetQueueAttributes"},
		"depth forbidden where it is not needed": {func(d *deployment) {
			d.results.depth = func(context.Context) error { return forbidden("mns:GetQueueAttributes") }
		}, "mns:GetQueueAttributes of RESULT_QUEUE", check.Unproven, "only this check needs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy()
				c.arrange(d)
				started := time.Now()
				report := d.run(t.Context())
				assert.LessOrEqual(t, time.Since(started), 25*time.Second, "though the context has no deadline")
				got := byName(report)[c.check]
				assert.Equal(t, c.result, got.Outcome)
				assert.Contains(t, got.Detail, c.detail)
				assert.NotContains(t, got.Detail, "Fix:", "it stands beside")
				assert.Contains(t, got.Fix, c.fix)
				assert.Equal(t, c.result != check.Failed, report.OK)
				assert.Equal(t, 3, d.results.tries+d.deadLetters.tries+d.source.tries,
					"a message that MNS takes by mistake is not followed by more")
				for name, result := range byName(report) {
					assert.True(t, name == c.check || result.Outcome != check.Failed, "%s goes on", name)
				}
			})
		})
	}
}

func TestCheck_TriesAllAtOnceWithinTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy()
		d.dbs.hang[sets], d.dbs.hang[tasks] = true, true
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		d.source.depth, d.results.depth = hang, hang
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		report := d.run(ctx)
		require.NoError(t, ctx.Err())
		assert.False(t, report.OK)
		assert.Equal(t, check.OK, byName(report)["dbs:"+create].Outcome)
	})
}

func TestCheck_Answer(t *testing.T) {
	text, err := json.Marshal(check.Report{Checks: []check.Result{{Name: "n", Outcome: check.Failed, Detail: "d", Fix: "f"}}})
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":false,"checks":[{"name":"n","result":"failed","detail":"d","fix":"f"}]}`, string(text))
}

func TestCheck_AnOperationThatHangsHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy()
		d.dbs.hang[create] = true
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got := byName(d.run(ctx))
		assert.Equal(t, check.Failed, got["dbs:"+create].Outcome)
		assert.Equal(t, check.OK, got["dbs:"+sets+" of "+planA].Outcome)
		assert.Equal(t, check.OK, got["dbs:"+tasks+" of "+planA].Outcome)
	})
}

func TestCheck_LogsEachFailureAndBoundsItsDetail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy()
		long := &cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission", HTTPStatusCode: 403,
			Message: strings.Repeat("m", 300), RequestID: strings.Repeat("r", 64)}
		d.dbs.refuse[create] = long
		got := byName(d.run(t.Context()))["dbs:"+create]
		assert.Len(t, got.Detail, 350)
		assert.Contains(t, d.log.String(), `"level":"WARN","msg":"check failed"`)
		assert.Contains(t, d.log.String(), `"checksFailed":1`)
	})
}
