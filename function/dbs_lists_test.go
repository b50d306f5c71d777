package function_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/function"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/discovery"
	"increment-backup-download/handler/follow"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "dbs", name))
	require.NoError(t, err)
	return content
}

// The parameters of both operations, sent as the documentation has them.
func TestLists_AskForAPage(t *testing.T) {
	type asked struct {
		action string
		query  map[string]string
	}
	start, end := time.UnixMilli(1570701361528), time.UnixMilli(1570701361600)
	for name, c := range map[string]struct {
		answer string
		ask    func(function.DBS) error
		want   asked
	}{
		"backup sets": {"backup-sets.json", func(lister function.DBS) error {
			query := discovery.BackupSetQuery{BackupPlanID: "dbsqdss5tmh****", PageNum: 7, Start: start, End: end}
			_, err := lister.BackupSets(t.Context(), query)
			return err
		}, asked{"DescribeIncrementBackupList", map[string]string{"BackupPlanId": "dbsqdss5tmh****", "PageNum": "7",
			"PageSize": "100", "StartTimestamp": "1570701361528", "EndTimestamp": "1570701361600"}}},
		"download tasks": {"download-tasks.json", func(lister function.DBS) error {
			_, err := lister.DownloadTasks(t.Context(), "dbsqdss5tmh****", 0)
			return err
		}, asked{"DescribeBackupSetDownloadTaskList", map[string]string{"BackupPlanId": "dbsqdss5tmh****", "PageNum": "0",
			"PageSize": "100"}}},
		"backup plans": {"backup-plans.json", func(lister function.DBS) error {
			_, err := lister.BackupPlans(t.Context(), "cn-shanghai", 2)
			return err
		}, asked{"DescribeBackupPlanList", map[string]string{"Region": "cn-shanghai", "PageNum": "2", "PageSize": "100"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var got asked
			server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got.action = r.Header.Get("X-Acs-Action")
				got.query = map[string]string{}
				for name, values := range maps.All(r.URL.Query()) {
					got.query[name] = strings.Join(values, " and ")
				}
				_, _ = w.Write(testdata(t, c.answer))
			}))
			require.NoError(t, err)
			defer server.Close()
			require.NoError(t, c.ask(function.NewDBS(server.URL, 1, function.NewCredential("id", "secret", ""))))
			assert.Equal(t, c.want, got)
		})
	}
}

func TestLists_OfTheStandIn(t *testing.T) {
	s := start(t)
	const plan = "dbsqdss5tmh0001"
	end := time.UnixMilli(1648434713000).UTC()
	s.dbs.AddPlan(plan)
	for i := range 103 {
		name := fmt.Sprintf("mysql-bin.%06d", i)
		s.dbs.AddSet(plan, dbs.Set{JobID: "j", Name: name, Start: end.Add(-time.Hour), End: end, Expires: end.Add(time.Hour)})
		s.dbs.AddTask(plan, dbs.ListedTask{JobID: "j", SetName: name, Status: "finish", Created: end, Finished: end})
	}
	ctx := invocation(t, s.key)
	query := discovery.BackupSetQuery{BackupPlanID: plan, Start: end.Add(-24 * time.Hour), End: end.Add(time.Hour)}
	sets, tasks := map[string]bool{}, map[string]bool{}
	for page, rows := range []int{100, 3, 0} {
		query.PageNum = page
		gotSets, err := s.tasks.BackupSets(ctx, query)
		require.NoError(t, err)
		assert.Equal(t, [2]int{2, 103}, [2]int{gotSets.Pages, gotSets.Elements})
		assert.Len(t, gotSets.Rows, rows)
		gotTasks, err := s.tasks.DownloadTasks(ctx, plan, page)
		require.NoError(t, err)
		assert.Equal(t, [2]int{2, 103}, [2]int{gotTasks.Pages, gotTasks.Elements})
		assert.Len(t, gotTasks.Rows, rows)
		for _, set := range gotSets.Rows {
			sets[set.BackupSetJobID+"/"+set.BackupSetID] = true
			assert.Equal(t, "COMPLETED", set.BackupStatus)
			assert.Equal(t, end, set.EndTime)
			assert.Equal(t, end.Add(time.Hour), set.ExpiredTime)
		}
		for _, task := range gotTasks.Rows {
			tasks[task.BackupSetID+"/"+task.BackupSetCode] = true
			assert.Equal(t, "cbs_backup_sub_cont", task.JobType)
			assert.Equal(t, "finish", task.Status)
			assert.Equal(t, end, task.CreateTime)
		}
		assert.NotContains(t, fmt.Sprintf("%+v", gotTasks), dbs.URLSecret)
	}
	assert.Len(t, sets, 103)
	assert.Equal(t, sets, tasks, "the keys of sets and tasks are the same")

	_, err := s.tasks.DownloadTasks(ctx, "unknown", 0)
	assert.Equal(t, verdict{kind: permanent, code: "InvalidJobId"}, verdictOf(t, err))
}

func TestLists_ARefusedPermissionNamesTheAction(t *testing.T) {
	for name, list := range map[string]func(context.Context, function.DBS) error{
		dbs.ActionListSets: func(ctx context.Context, lister function.DBS) error {
			_, err := lister.BackupSets(ctx, discovery.BackupSetQuery{BackupPlanID: "plan"})
			return err
		},
		dbs.ActionListTasks: func(ctx context.Context, lister function.DBS) error {
			_, err := lister.DownloadTasks(ctx, "plan", 0)
			return err
		},
		dbs.ActionListPlans: func(ctx context.Context, lister function.DBS) error {
			_, err := lister.BackupPlans(ctx, "cn-hangzhou", 0)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.dbs.AddPlan("plan")
			policy, err := standin.ParsePolicy([]byte(`{"Version":"1","Statement":[
				{"Effect":"Allow","Action":["dbs:*"],"Resource":["*"]}]}`))
			require.NoError(t, err)
			s.dbs.Policy = policy
			require.NoError(t, list(invocation(t, s.key), s.tasks))
			policy.Revoke("dbs:" + name)
			got := classified(t, list(invocation(t, s.key), s.tasks))
			assert.Equal(t, cloud.OperatorFault, got.Kind)
			assert.Contains(t, got.Fix, "grant dbs:"+name+" to the function's role")
		})
	}
}

func TestLists_OfficialSamples(t *testing.T) {
	sets, err := function.ReadBackupSets(200, testdata(t, "backup-sets.json"))
	require.NoError(t, err)
	require.Len(t, sets.Rows, 1)
	assert.Equal(t, discovery.Page[discovery.BackupSet]{Pages: 1, Elements: 1, Rows: []discovery.BackupSet{{
		BackupSetJobID: "1hv5g9wk4****", BackupSetID: "mysql-bin.00****", BackupStatus: "FILLING",
		StartTime: time.UnixMilli(1648433764000).UTC(), EndTime: time.UnixMilli(1648434713000).UTC(),
		ExpiredTime: time.UnixMilli(1711506719000).UTC(), Size: 18535, StorageMethod: "Standard",
	}}}, sets)

	tasks, err := function.ReadDownloadTasks(200, testdata(t, "download-tasks.json"))
	require.NoError(t, err)
	assert.Equal(t, discovery.Page[discovery.DownloadTask]{Pages: 1, Elements: 1, Rows: []discovery.DownloadTask{{
		ID: "urxgrxt7****", BackupSetID: "1h7za2yws****", BackupSetCode: "mysql-bin.00XXXX", JobType: "cbs_backup_sub_cont",
		Status: "finish", CreateTime: time.UnixMilli(1642044001000).UTC(),
	}}}, tasks)
}

// The state of one task is that of the row with its ID, without its links.
func TestTaskState(t *testing.T) {
	const others = `{"BackupSetDownloadTaskId":"other","BackupSetDownloadStatus":"finish"}`
	finished := time.UnixMilli(1642044061000).UTC()
	for name, c := range map[string]struct {
		rows string
		want follow.TaskState
	}{
		"finished": {`{"BackupSetDownloadTaskId":"task","BackupSetDownloadStatus":"finish","BackupPlanId":"qhnuhyw3",
			"BackupSetDataSize":237837,"BackupSetDownloadFinishTime":1642044061000,"ErrMessage":"java.lang.IndexOutOfBoundsException.",
			"BackupSetDownloadInternetUrl":"\"//dbs-hush.oss-cn-hangzhou.aliyuncs.com/x?OSSAccessKeyId=hush&Signature=hush\""}`,
			follow.TaskState{Status: "finish", ErrMessage: "java.lang.IndexOutOfBoundsException.", BackupPlanID: "qhnuhyw3",
				DataSize: 237837, FinishTime: finished}},
		"numbers as text": {`{"BackupSetDownloadTaskId":"task","BackupSetDataSize":"5","BackupSetDownloadFinishTime":"1642044061000"}`,
			follow.TaskState{DataSize: 5, FinishTime: finished}},
		"with a message that quotes a link": {`{"BackupSetDownloadTaskId":"task","BackupSetDownloadStatus":"stop",
			"ErrMessage":"cannot read https://hush.oss-cn-hangzhou.aliyuncs.com/x?Expires=1&Signature=hush"}`,
			follow.TaskState{Status: "stop", ErrMessage: "(the message quotes a signed request or link and is withheld)"}},
		"among others":  {others + `,{"BackupSetDownloadTaskId":"task","BackupSetDownloadStatus":"running"},` + others, follow.TaskState{Status: "running"}},
		"not listed":    {"", follow.TaskState{}},
		"only another":  {others, follow.TaskState{}},
		"without an ID": {`{"BackupSetDownloadStatus":"finish"}`, follow.TaskState{}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := url.Values{}
			server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = r.URL.Query()
				asked.Set("action", r.Header.Get("X-Acs-Action"))
				_, _ = io.WriteString(w, `{"Success":true,"TotalPages":1,"TotalElements":1,"Items":{"BackupSetDownloadTaskDetail":[`+c.rows+`]}}`)
			}))
			require.NoError(t, err)
			defer server.Close()
			state, err := function.NewDBS(server.URL, 1, someKey).TaskState(t.Context(), "task")
			require.NoError(t, err)
			assert.Equal(t, c.want, state)
			assert.Equal(t, url.Values{"action": {"DescribeBackupSetDownloadTaskList"}, "BackupSetDownloadTaskId": {"task"},
				"PageNum": {"0"}, "PageSize": {"30"}}, asked)
		})
	}

	s := start(t)
	task, err := s.tasks.CreateTask(invocation(t, s.key), example)
	require.NoError(t, err)
	state, err := s.tasks.TaskState(invocation(t, s.key), task.ID)
	require.NoError(t, err)
	assert.NotEmpty(t, state.Status)
	s.dbsFaults.SetPlan(standin.Always(standin.Fault{Kind: standin.Refuse, Status: 403, Code: "Forbidden.RAM"}))
	state, err = s.tasks.TaskState(invocation(t, s.key), task.ID)
	assert.Equal(t, "grant dbs:DescribeBackupSetDownloadTaskList to the function's role (the role's policy in s.yaml)",
		classified(t, err).Fix)
	assert.Zero(t, state)
	_, err = function.NewDBS("http://127.0.0.1:1", 1, noKey).TaskState(t.Context(), "task")
	assert.Equal(t, "NoCredentials", classified(t, err).Code)
}

func TestLists_BackupPlans(t *testing.T) {
	page, err := function.ReadBackupPlans(200, testdata(t, "backup-plans.json"))
	require.NoError(t, err)
	assert.Equal(t, discovery.Page[discovery.BackupPlan]{Pages: 1, Elements: 4, Rows: []discovery.BackupPlan{
		{ID: "dbsqdss5tmh****", Status: "running", Incremental: true},
		{ID: "a", Status: "wait"},
		{ID: "b", Status: "pause"},
		{ID: "c", Status: "running", Incremental: true}, // EnableBackupLog is not said
	}}, page)
}

// A page of tasks that failed with long messages has megabytes.
func TestLists_ReadALargePage(t *testing.T) {
	rows := strings.Repeat(`{"BackupSetDownloadTaskId":"x","ErrMessage":"`+strings.Repeat("e", 80_000)+`"},`, 100)
	body := `{"Success":true,"TotalPages":1,"TotalElements":100,"Items":[` + strings.TrimSuffix(rows, ",") + `]}`
	for name, length := range map[string]string{"of known length": strconv.Itoa(len(body)), "in chunks": ""} {
		t.Run(name, func(t *testing.T) {
			server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				w.Header().Set("Date", "Mon, 23 Nov 2026 09:00:00 GMT")
				_, _ = io.WriteString(w, body)
			}))
			require.NoError(t, err)
			defer server.Close()
			page, err := function.NewDBS(server.URL, 1, someKey).DownloadTasks(t.Context(), "plan", 0)
			require.NoError(t, err)
			assert.Len(t, page.Rows, 100)
			assert.Equal(t, time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), page.Date)
		})
	}
}

func TestLists_WhatIsAList(t *testing.T) {
	const row = `{"BackupSetJobId":"j","BackupSetId":"s"}`
	type want struct{ rows, pages, elements int }
	list := func(more string) string { return `{"Success":true,"TotalPages":3,"TotalElements":250` + more + `}` }
	for name, c := range map[string]struct {
		body string
		want want
	}{
		"one row":                {list(`,"Items":{"IncrementBackupFile":[` + row + `]}`), want{1, 3, 250}},
		"an array itself":        {list(`,"Items":[` + row + `, ` + row + ` ]`), want{2, 3, 250}},
		"no Items":               {list(``), want{0, 3, 250}},
		"Items null":             {list(`,"Items":null`), want{0, 3, 250}},
		"Items empty":            {list(`,"Items":{ }`), want{0, 3, 250}},
		"the array is null":      {list(`,"Items":{"IncrementBackupFile":null}`), want{0, 3, 250}},
		"the array empty":        {list(`,"Items":{"IncrementBackupFile":[]}`), want{0, 3, 250}},
		"beside other members":   {list(`,"Items":{"Page":1,"Tags":["x"],"IncrementBackupFile":[` + row + `]}`), want{1, 3, 250}},
		"the last of two counts": {list(`,"Items":{"IncrementBackupFile":[` + row + `,` + row + `],"IncrementBackupFile":[{}]}`), want{1, 3, 250}},
		"the last Items counts":  {list(`,"Items":[{},{}],"Items":[{}]`), want{1, 3, 250}},
		"also if it has none":    {list(`,"Items":[{},{}],"Items":{}`), want{0, 3, 250}},
		"all as text": {`{"Success":"true","TotalPages":"0","TotalElements":" 12 ","Items":[]}`,
			want{0, 0, 12}},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := function.ReadBackupSets(200, []byte(c.body))
			require.NoError(t, err)
			assert.Equal(t, c.want, want{len(page.Rows), page.Pages, page.Elements})
		})
	}

	for name, c := range map[string]struct {
		status int
		body   string
		want   verdict
	}{
		"no totals":        {200, `{"Success":true,"Items":[]}`, verdict{code: "NotAnAnswer"}},
		"no TotalElements": {200, `{"Success":true,"TotalPages":1,"Items":[]}`, verdict{code: "NotAnAnswer"}},
		"totals in words":  {200, `{"Success":true,"TotalPages":"one","TotalElements":1,"Items":[]}`, verdict{code: "NotAnAnswer"}},
		"totals below 0":   {200, `{"Success":true,"TotalPages":-1,"TotalElements":1,"Items":[]}`, verdict{code: "NotAnAnswer"}},
		"totals null":      {200, `{"Success":true,"TotalPages":null,"TotalElements":1,"Items":[]}`, verdict{code: "NotAnAnswer"}},
		"another array":    {200, list(`,"Items":{"FullBackupFile":[` + row + `]}`), verdict{code: "NotAnAnswer"}},
		"Items is text":    {200, list(`,"Items":"[]"`), verdict{code: "NotAnAnswer"}},
		"a row for rows":   {200, list(`,"Items":{"IncrementBackupFile":` + row + `}`), verdict{code: "NotAnAnswer"}},
		"a row is no row":  {200, list(`,"Items":[` + row + `,"x"]`), verdict{code: "NotAnAnswer"}},
		"a row is null":    {200, list(`,"Items":[null]`), verdict{code: "NotAnAnswer"}},
		"Success absent":   {200, `{"TotalPages":1,"TotalElements":1,"Items":[]}`, verdict{code: "NotAnAnswer"}},
		"Success false":    {200, `{"Success":false,"TotalPages":1,"TotalElements":1,"Items":[]}`, verdict{unknown: true, code: "NoCode"}},
		"an unknown plan": {200, `{"Success":false,"ErrCode":"InvalidParameterValid"}`,
			verdict{kind: permanent, code: "InvalidParameterValid"}},
		"an unknown plan, with odd Items": {200, `{"Success":false,"Items":"","ErrCode":"InvalidParameterValid"}`,
			verdict{kind: permanent, code: "InvalidParameterValid"}},
		"cut off":           {200, strings.TrimSuffix(list(`,"Items":[]`), "}"), verdict{code: "NotAnAnswer"}},
		"empty":             {200, ``, verdict{code: "NotAnAnswer"}},
		"a list with a 403": {403, list(`,"Items":[]`), verdict{kind: fault, code: "NoCode"}},
		"a list with a 302": {302, list(`,"Items":[]`), verdict{code: "NotAnAnswer"}},
		"a page":            {200, `<html></html>`, verdict{code: "NotAnAnswer"}},
		"forbidden":         {403, `{"Code":"Request.Forbidden"}`, verdict{kind: fault, code: "Request.Forbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := function.ReadBackupSets(c.status, []byte(c.body))
			assert.Equal(t, c.want, verdictOf(t, err))
			assert.Empty(t, page)
			_, err = function.ReadDownloadTasks(c.status, []byte(c.body))
			assert.Equal(t, c.want.code, classified(t, err).Code)
		})
	}
}

func TestLists_FieldsOfOtherTypesAreReadLoosely(t *testing.T) {
	page, err := function.ReadBackupSets(200, []byte(`{"Success":true,"TotalPages":1,"TotalElements":3,"Items":[
		{"BackupSetJobId":17,"BackupSetId":"x","BackupSize":"18535","StartTime":"1648433764000","EndTime":1.648434713e12,"BackupSetExpiredTime":0},
		{"BackupSetJobId":null,"BackupSetId":{},"BackupStatus":[],"StartTime":"soon","EndTime":null,"BackupSetExpiredTime":true},
		{"StartTime":-1,"EndTime":"-1","BackupSetExpiredTime":-1.5e3}]}`))
	require.NoError(t, err)
	assert.Equal(t, []discovery.BackupSet{
		{BackupSetJobID: "17", BackupSetID: "x", Size: 18535,
			StartTime: time.UnixMilli(1648433764000).UTC(), EndTime: time.UnixMilli(1648434713000).UTC()},
		{}, {},
	}, page.Rows)
}

// Links to backups are signed, and never leave the adapter.
func TestLists_NoDownloadURLIsKept(t *testing.T) {
	tasks, err := function.ReadDownloadTasks(200, testdata(t, "download-tasks.json"))
	require.NoError(t, err)
	assert.NotContains(t, fmt.Sprintf("%+v", tasks), "hush")

	// Nor if the answer is refused.
	for _, body := range []string{
		strings.Replace(string(testdata(t, "download-tasks.json")), `"Success":true`, `"Success":false`, 1),
		strings.Replace(string(testdata(t, "download-tasks.json")), `"TotalPages":1`, `"TotalPages":"//hush"`, 1),
		strings.TrimSuffix(strings.TrimSpace(string(testdata(t, "download-tasks.json"))), "}"),
	} {
		_, err := function.ReadDownloadTasks(200, []byte(body))
		require.Error(t, err)
		assert.NotContains(t, fmt.Sprintf("%v %+v", err, err), "hush")
	}
}

// A partial list never passes for a complete one.
func FuzzReadBackupSets(f *testing.F) {
	f.Add(testdata(f, "backup-sets.json"))
	f.Add([]byte(`{"Success":true,"TotalPages":1,"TotalElements":1,"Items":[{"a":[{}," ] "],"b\u0075rl":1,"c":-1e3},{}]}`))
	f.Add([]byte(`{"Success":true,"TotalPages":1,"TotalElements":1,"Items":{"IncrementBackupFile":[{},null]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		page, err := function.ReadBackupSets(200, body)
		if err != nil {
			require.NotEmpty(t, classified(t, err).Code)
			return
		}
		var envelope map[string]any
		require.NoError(t, json.Unmarshal(body, &envelope))
		rows, _ := envelope["Items"].([]any)
		if object, ok := envelope["Items"].(map[string]any); ok {
			rows, _ = object["IncrementBackupFile"].([]any)
		}
		require.Len(t, page.Rows, len(rows))
		require.NotContains(t, rows, nil)
	})
}

func BenchmarkDownloadTasks(b *testing.B) {
	row := string(testdata(b, "download-tasks.json"))
	row = row[strings.Index(row, "[")+1 : strings.LastIndex(row, "]")]
	body := `{"Success":true,"TotalPages":1000,"TotalElements":100000,"Items":{"BackupSetDownloadTaskDetail":[` +
		strings.Repeat(row+",", 99) + row + `]}}`
	server, err := standin.Start(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	}))
	require.NoError(b, err)
	defer server.Close()
	lister := function.NewDBS(server.URL, 1, function.NewCredential("id", "secret", ""))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		page, err := lister.DownloadTasks(b.Context(), "plan", 0)
		if err != nil || len(page.Rows) != 100 {
			b.Fatal(err, len(page.Rows))
		}
	}
}
