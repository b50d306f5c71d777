package handler_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
)

// refusing is a deployment in which everything works: DBS and MNS refuse what a
// check sends them, for its parameters.
func refusing(change func(*handler.Config)) *discovery {
	d := deployDiscovery(change)
	d.dbs.creating = func(request events.Request) error {
		if request.BackupSetID == "" {
			return permanent("MissingBackupSetId")
		}
		return nil
	}
	d.dbs.before = func(_ context.Context, call listCall) error {
		if call.plan == "" {
			return permanent("MissingBackupPlanId")
		}
		return nil
	}
	for _, queue := range []*fakeSource{d.source, d.results, d.deadLetters} {
		queue.try = mnsError(cloud.Permanent, "InvalidArgument", 400)
	}
	return d
}

func mnsError(kind cloud.Kind, code string, status int) error {
	return &cloud.Error{Kind: kind, Service: "MNS", Code: code, HTTPStatusCode: status}
}

// outcomes returns the results of a check by name.
func outcomes(report handler.CheckReport) map[string]handler.CheckResult {
	byName := map[string]handler.CheckResult{}
	for _, result := range report.Checks {
		byName[result.Name] = result
	}
	return byName
}

func TestCheck_ADeploymentThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := refusing(func(config *handler.Config) { config.BackupPlanIDs = []string{planA, planB} })
		d.plan(planB)
		report := d.Check(t.Context(), "request-1")
		assert.True(t, report.OK)
		got := map[string]handler.CheckOutcome{}
		for name, result := range outcomes(report) {
			got[name] = result.Result
			assert.NotEmpty(t, result.Detail, name)
			assert.Empty(t, result.Fix, name)
		}
		assert.Equal(t, map[string]handler.CheckOutcome{
			"dbs:CreateIncrementBackupSetDownload":                     handler.CheckOK,
			"dbs:DescribeIncrementBackupList of dbsqdss5tmh0001":       handler.CheckOK,
			"dbs:DescribeIncrementBackupList of dbsqdss5tmh0002":       handler.CheckOK,
			"dbs:DescribeBackupSetDownloadTaskList of dbsqdss5tmh0001": handler.CheckOK,
			"dbs:DescribeBackupSetDownloadTaskList of dbsqdss5tmh0002": handler.CheckOK,
			"mns:GetQueueAttributes of RESULT_QUEUE":                   handler.CheckOK,
			"mns:GetQueueAttributes of DEAD_LETTER_QUEUE":              handler.CheckOK,
			"mns:GetQueueAttributes of SOURCE_QUEUE":                   handler.CheckOK,
			"mns:SendMessage to RESULT_QUEUE":                          handler.CheckUnproven,
			"mns:SendMessage to DEAD_LETTER_QUEUE":                     handler.CheckUnproven,
			"mns:SendMessage to SOURCE_QUEUE":                          handler.CheckUnproven,
			"creation of a download task":                              handler.CheckUntried,
			"log:PostLogStoreLogs":                                     handler.CheckUntried,
			"triggers":                                                 handler.CheckUntried,
		}, got)
		assert.Empty(t, d.dbs.tokens, "no task")
		for _, queue := range []*fakeSource{d.source, d.results, d.deadLetters} {
			assert.Empty(t, queue.sent, "no message")
		}
		assert.Contains(t, outcomes(report)["mns:SendMessage to RESULT_QUEUE"].Detail, "not documented")
		assert.Contains(t, d.log.String(), "check done")
	})
}

func TestCheck_WithoutDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := refusing(nil)
		ports := handler.Ports{Tasks: d.dbs, Lists: d.dbs, Results: d.results, DeadLetters: d.deadLetters}
		report := handler.New(handler.Config{Concurrency: 1}, ports, discard).Check(t.Context(), "")
		assert.True(t, report.OK)
		got := outcomes(report)
		assert.Equal(t, handler.CheckOK, got["dbs:DescribeIncrementBackupList"].Result,
			"DBS refuses a request without a plan after the permission")
		assert.Equal(t, handler.CheckOK, got["dbs:DescribeBackupSetDownloadTaskList"].Result)
		assert.Equal(t, handler.CheckUntried, got["SOURCE_QUEUE"].Result)
		assert.Equal(t, handler.CheckUntried, got["BACKUP_PLAN_IDS"].Result)
	})
}

func TestCheck_SaysWhatToDo(t *testing.T) {
	forbidden := operatorFault("Forbidden.RAM")
	list := func(operation string, err error) func(*discovery) {
		return func(d *discovery) { d.dbs.before = refuse(operation, err) }
	}
	create := func(err error) func(*discovery) {
		return func(d *discovery) { d.dbs.creating = func(events.Request) error { return err } }
	}
	const creation = "dbs:CreateIncrementBackupSetDownload"
	for name, c := range map[string]struct {
		arrange func(*discovery)
		check   string
		result  handler.CheckOutcome
		detail  string
		fix     string
	}{
		"creation forbidden": {create(forbidden), creation, handler.CheckFailed, "Forbidden.RAM", "allow dbs:CreateIncrementBackupSetDownload"},
		"wrong credentials": {create(&cloud.Error{
			Kind: cloud.OperatorFault, Service: "DBS", Code: "InvalidAccessKeyId.NotFound", HTTPStatusCode: 404}),
			creation, handler.CheckFailed, "InvalidAccessKeyId", "credentials"},
		"DBS out of reach":   {create(transient("NoAnswer")), creation, handler.CheckFailed, "NoAnswer", "DBS_ENDPOINT"},
		"a task was created": {create(nil), creation, handler.CheckFailed, "task-1", "fix"},
		"a code that is unknown": {create(&cloud.Error{Service: "DBS", Code: "New", HTTPStatusCode: 400, Unrecognized: true}),
			creation, handler.CheckUnproven, "New", ""},
		"sets forbidden": {list(listSets, forbidden),
			"dbs:DescribeIncrementBackupList of " + planA, handler.CheckFailed, "Forbidden.RAM", "allow dbs:DescribeIncrementBackupList"},
		"tasks forbidden": {list(listTasks, forbidden),
			"dbs:DescribeBackupSetDownloadTaskList of " + planA, handler.CheckFailed, "Forbidden.RAM", "allow dbs:DescribeBackupSetDownloadTaskList"},
		"an unknown plan": {list(listSets, permanent("InvalidParameterValid")),
			"dbs:DescribeIncrementBackupList of " + planA, handler.CheckFailed, "InvalidParameterValid", planA + " in BACKUP_PLAN_IDS"},
		"sending forbidden": {func(d *discovery) { d.results.try = mnsError(cloud.OperatorFault, "AccessDenied", 403) },
			"mns:SendMessage to RESULT_QUEUE", handler.CheckFailed, "AccessDenied",
			"allow mns:SendMessage and mns:BatchSendMessage on the queue that RESULT_QUEUE names"},
		"no such queue": {func(d *discovery) { d.deadLetters.try = mnsError(cloud.OperatorFault, "QueueNotExist", 404) },
			"mns:SendMessage to DEAD_LETTER_QUEUE", handler.CheckFailed, "QueueNotExist",
			"create the queue that DEAD_LETTER_QUEUE names"},
		"MNS out of reach": {func(d *discovery) { d.source.try = transient("NoAnswer") },
			"mns:SendMessage to SOURCE_QUEUE", handler.CheckFailed, "NoAnswer", "MNS_ENDPOINT"},
		"depth forbidden": {func(d *discovery) {
			d.source.depth = func(context.Context) error { return mnsError(cloud.OperatorFault, "AccessDenied", 403) }
		}, "mns:GetQueueAttributes of SOURCE_QUEUE", handler.CheckFailed, "AccessDenied", "allow mns:GetQueueAttributes"},
		"depth forbidden where it is not needed": {func(d *discovery) {
			d.results.depth = func(context.Context) error { return mnsError(cloud.OperatorFault, "AccessDenied", 403) }
		}, "mns:GetQueueAttributes of RESULT_QUEUE", handler.CheckUnproven, "only this check needs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := refusing(nil)
				c.arrange(d)
				started := time.Now()
				report := d.Check(t.Context(), "")
				assert.LessOrEqual(t, time.Since(started), 25*time.Second, "though the context has no deadline")
				got := outcomes(report)[c.check]
				assert.Equal(t, c.result, got.Result)
				assert.Contains(t, got.Detail, c.detail)
				assert.Contains(t, got.Fix, c.fix)
				assert.Equal(t, c.result != handler.CheckFailed, report.OK)
				assert.Equal(t, 3, d.results.tries+d.deadLetters.tries+d.source.tries,
					"a message that MNS takes by mistake is not followed by more")
				for name, result := range outcomes(report) {
					assert.True(t, name == c.check || result.Result != handler.CheckFailed, "%s goes on", name)
				}
			})
		})
	}
}

func TestCheck_TriesAllAtOnceWithinTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := refusing(func(config *handler.Config) { config.Concurrency = 1 })
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		d.dbs.before = func(ctx context.Context, _ listCall) error { return hang(ctx) }
		d.source.depth, d.results.depth = hang, hang
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		report := d.Check(ctx, "")
		require.NoError(t, ctx.Err())
		assert.False(t, report.OK)
		assert.Equal(t, handler.CheckOK, outcomes(report)["dbs:CreateIncrementBackupSetDownload"].Result)
	})
}

func TestCheck_Answer(t *testing.T) {
	text, err := json.Marshal(handler.CheckReport{Checks: []handler.CheckResult{
		{Name: "n", Result: handler.CheckFailed, Detail: "d", Fix: "f"}}})
	require.NoError(t, err)
	assert.JSONEq(t, `{"ok":false,"checks":[{"name":"n","result":"failed","detail":"d","fix":"f"}]}`, string(text))
}
