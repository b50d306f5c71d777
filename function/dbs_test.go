package function_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/function"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

func TestDBS_SendsTheRequestUnderItsOwnNames(t *testing.T) {
	s := start(t)
	task, err := s.tasks.CreateTask(invocation(t, s.key), example)
	require.NoError(t, err)
	assert.NotEmpty(t, task.RequestID)
	assert.Equal(t, []dbs.Task{{
		ID: task.ID, ClientToken: "token ~1/+&=", BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054",
		BackupSetDataFormat: "SQL", AccessKeyID: s.key.ID,
	}}, s.dbs.Tasks())

	again, err := s.tasks.CreateTask(invocation(t, s.key), example)
	require.NoError(t, err)
	assert.Equal(t, task.ID, again.ID, "the same token, the same task")
}

func TestDBS_ClassifiesWhatTheServiceAnswers(t *testing.T) {
	type want struct {
		kind    cloud.Kind
		code    string
		status  int
		tasks   int
		waits   time.Duration
		unknown bool
	}
	refuse := func(status int, code string) standin.Fault {
		return standin.Fault{Kind: standin.Refuse, Status: status, Code: code}
	}
	for name, c := range map[string]struct {
		fault standin.Fault
		want  want
	}{
		"throttled": {standin.Fault{Kind: standin.Throttle, Delay: 700 * time.Millisecond},
			want{code: "Throttling.User", status: 400, waits: 700 * time.Millisecond}},
		"unavailable":     {refuse(503, "ServiceUnavailable"), want{code: "ServiceUnavailable", status: 503}},
		"forbidden":       {refuse(403, "Forbidden.RAM"), want{kind: fault, code: "Forbidden.RAM", status: 403}},
		"wrong parameter": {refuse(400, "InvalidParameter"), want{kind: permanent, code: "InvalidParameter", status: 400}},
		"unknown code":    {refuse(400, "New"), want{code: "New", status: 400, unknown: true}},
		"reset":           {standin.Fault{Kind: standin.Reset}, want{code: "NoAnswer"}},
		"reset after":     {standin.Fault{Kind: standin.ResetAfter}, want{code: "NoAnswer", tasks: 1}},
		"closed":          {standin.Fault{Kind: standin.Close}, want{code: "NoAnswer"}},
		"closed after":    {standin.Fault{Kind: standin.CloseAfter}, want{code: "NoAnswer", tasks: 1}},
		"cut off":         {standin.Fault{Kind: standin.TruncateAfter}, want{code: "NoAnswer", tasks: 1}},
		"HTML, 200":       {standin.Fault{Kind: standin.HTMLAfter}, want{code: "NotAnAnswer", status: 200, tasks: 1}},
		"HTML, 502":       {standin.Fault{Kind: standin.BadGateway}, want{code: "NotAnAnswer", status: 502}},
		"empty":           {standin.Fault{Kind: standin.EmptyAfter}, want{code: "NotAnAnswer", status: 200, tasks: 1}},
		"redirect": {standin.Fault{Kind: standin.Redirect, Location: "http://127.0.0.1:1/"},
			want{code: "NotAnAnswer", status: 307}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.dbsFaults.SetPlan(standin.Always(c.fault))
			_, err := s.tasks.CreateTask(invocation(t, s.key), example)
			got := classified(t, err)
			assert.Equal(t, c.want, want{
				got.Kind, got.Code, got.HTTPStatusCode, len(s.dbs.Tasks()), got.RetryAfter, got.Unrecognized,
			})
			assert.Equal(t, 1, s.dbsFaults.Met(), "one attempt")
		})
	}
	t.Run("HTTP 200 with Success false", func(t *testing.T) {
		s := start(t)
		request := events.Request{BackupSetID: "a", BackupSetName: "not-found", ClientToken: "t"}
		_, err := s.tasks.CreateTask(invocation(t, s.key), request)
		got := classified(t, err)
		assert.Equal(t, cloud.Permanent, got.Kind)
		assert.Equal(t, "Param.NotFound", got.Code)
		assert.Equal(t, 400, got.HTTPStatusCode)
		assert.NotEmpty(t, got.RequestID)
	})
	t.Run("nothing listens", func(t *testing.T) {
		_, err := function.NewDBS("http://127.0.0.1:1", 1, noKey).CreateTask(invocation(t, standin.NewKey()), example)
		assert.Equal(t, cloud.Transient, classified(t, err).Kind)
		assert.NotContains(t, err.Error(), example.BackupSetName, "a URL with the query string")
	})
}

func TestDBS_BadCredentialsAreAnOperatorFault(t *testing.T) {
	s := start(t)
	wrongSecret, wrongToken := s.key, s.key
	wrongSecret.Secret, wrongToken.Token = "wrong", "wrong"
	for name, key := range map[string]standin.Key{
		"unknown": standin.NewKey(), "wrong secret": wrongSecret, "wrong token": wrongToken,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.tasks.CreateTask(invocation(t, key), example)
			got := classified(t, err)
			assert.Equal(t, cloud.OperatorFault, got.Kind)
			assert.NotContains(t, err.Error(), key.Token)
			assert.NotContains(t, err.Error(), "sign is")
			answers := s.queue.Send(invocation(t, key), messages("x"))
			assert.Equal(t, cloud.OperatorFault, classified(t, answers[0]).Kind)
			assert.NotContains(t, answers[0].Error(), key.Token)
		})
	}
}

func TestDBS_OpensNoMoreConnectionsThanItMay(t *testing.T) {
	s := start(t)
	s.dbs.Delay = 2 * time.Millisecond
	var wait sync.WaitGroup
	for i := range 200 {
		wait.Go(func() {
			request := example
			request.ClientToken = strconv.Itoa(i)
			_, err := s.tasks.CreateTask(invocation(t, s.key), request)
			assert.NoError(t, err)
		})
	}
	wait.Wait()
	assert.LessOrEqual(t, s.dbsServer.Connections().Accepted, 4)
}

func TestReadTask(t *testing.T) {
	official, err := os.ReadFile(filepath.Join("testdata", "dbs", "official-success.json"))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		body string
		want handler.Task
	}{
		"the official sample, with an ErrCode that means nothing": {string(official),
			handler.Task{ID: "1jydacm******", RequestID: "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"}},
		"Success as text": {`{"Success":"true","BackupSetDownloadTaskId":"1jydacm"}`, handler.Task{ID: "1jydacm"}},
		"fields of other types": {`{"Success":true,"BackupSetDownloadTaskId":17,"RequestId":{},"HttpStatusCode":"200"}`,
			handler.Task{ID: "17"}},
		"escapes and space": {" {\n\"Success\" : true ,\t\"BackupSetDownload\\u0054askId\":\"\\u0031jy\\\"\"} ",
			handler.Task{ID: `1jy"`}},
		"broken characters": {"{\"ErrMessage\":\"\xff\",\"Success\":true,\"BackupSetDownloadTaskId\":\"x\"}", handler.Task{ID: "x"}},
		"the last of two": {`{"Success":false,"Success":true,"BackupSetDownloadTaskId":"y","BackupSetDownloadTaskId":"x"}`,
			handler.Task{ID: "x"}},
		"unknown members": {`{"A":{"Success":false},"B":[1,{"C":"]}"}],"Success":true,"D":-1.5e3,` +
			`"BackupSetDownloadTaskId":"x","E":null}`, handler.Task{ID: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			task, err := function.ReadTask(200, []byte(c.body))
			require.NoError(t, err)
			assert.Equal(t, c.want, task)
		})
	}

	for name, c := range map[string]struct {
		status int
		body   string
		want   verdict
	}{
		"Success false": {200, `{"Success":false,"ErrCode":"Param.NotFound","BackupSetDownloadTaskId":"1jydacm"}`,
			verdict{kind: permanent, code: "Param.NotFound"}},
		"Success absent":      {200, `{"BackupSetDownloadTaskId":"1jydacm"}`, verdict{code: "NotAnAnswer"}},
		"Success as a number": {200, `{"Success":1,"BackupSetDownloadTaskId":"1jydacm"}`, verdict{unknown: true, code: "NoCode"}},
		"no task ID":          {200, `{"Success":true}`, verdict{code: "NoTaskID"}},
		"no task ID, and an ErrCode that means nothing": {200, `{"Success":true,"ErrCode":"Param.NotFound"}`,
			verdict{code: "NoTaskID"}},
		"empty task ID": {200, `{"Success":true,"BackupSetDownloadTaskId":""}`, verdict{code: "NoTaskID"}},
		"null task ID":  {200, `{"Success":true,"BackupSetDownloadTaskId":null}`, verdict{code: "NoTaskID"}},
		"a task ID, then none": {200, `{"Success":true,"BackupSetDownloadTaskId":"x","BackupSetDownloadTaskId":{}}`,
			verdict{code: "NoTaskID"}},
		"an object as the ID": {200, `{"Success":true,"BackupSetDownloadTaskId":{}}`, verdict{code: "NoTaskID"}},
		"empty":               {200, ``, verdict{code: "NotAnAnswer"}},
		"null":                {200, `null`, verdict{code: "NotAnAnswer"}},
		"an array":            {200, `[{"Success":true,"BackupSetDownloadTaskId":"1jydacm"}]`, verdict{code: "NotAnAnswer"}},
		"cut off":             {200, `{"Success":true,"BackupSetDownloadTaskId":"1jyd`, verdict{code: "NotAnAnswer"}},
		"two documents":       {200, `{"Success":true,"BackupSetDownloadTaskId":"1jyd"}{}`, verdict{code: "NotAnAnswer"}},
		"HTML":                {200, `<html></html>`, verdict{code: "NotAnAnswer"}},
		"an endless task ID": {200, `{"Success":true,"BackupSetDownloadTaskId":"` + strings.Repeat("x", 129) + `"}`,
			verdict{code: "NotAnAnswer"}},
		"a success with 302": {302, `{"Success":true,"BackupSetDownloadTaskId":"1jydacm"}`, verdict{code: "NotAnAnswer"}},
		"a success with 500": {500, `{"Success":true,"BackupSetDownloadTaskId":"1jydacm"}`, verdict{code: "NoCode"}},
		"DBS's envelope on a 4xx": {400, `{"ErrCode":"Param.NotFound","ErrMessage":"m"}`,
			verdict{kind: permanent, code: "Param.NotFound"}},
		"the gateway's words":   {403, `{"Code":"Forbidden.RAM","Message":"m"}`, verdict{kind: fault, code: "Forbidden.RAM"}},
		"the status inside":     {200, `{"HttpStatusCode":403,"Success":false,"ErrCode":"New"}`, verdict{kind: fault, code: "New"}},
		"no status inside":      {200, `{"Success":false,"ErrCode":"New"}`, verdict{unknown: true, code: "New"}},
		"an odd status inside":  {200, `{"HttpStatusCode":700,"Success":false,"ErrCode":"New"}`, verdict{unknown: true, code: "New"}},
		"a worse status inside": {400, `{"HttpStatusCode":503,"Success":false,"ErrCode":"InvalidParameter"}`, verdict{code: "InvalidParameter"}},
		"JSON of a gateway":     {404, `{"message":"no Route matched with those values"}`, verdict{code: "NotAnAnswer"}},
		"no, without a code":    {400, `{"Success":false,"ErrMessage":"no"}`, verdict{unknown: true, code: "NoCode"}},
		"a 403 with 404 inside": {403, `{"HttpStatusCode":404,"Success":false,"ErrCode":"Param.NotFound"}`, verdict{kind: fault, code: "Param.NotFound"}},
		"a 429 with 451 inside": {429, `{"HttpStatusCode":451,"Success":false,"ErrCode":"InvalidParameter"}`, verdict{throttled: true, code: "InvalidParameter"}},
		"a 400 with 403 inside": {400, `{"HttpStatusCode":403,"Success":false,"ErrCode":"InvalidParameter"}`, verdict{kind: fault, code: "InvalidParameter"}},
		"a blank task ID":       {200, `{"Success":true,"BackupSetDownloadTaskId":" "}`, verdict{code: "NoTaskID"}},
		"another status inside": {503, `{"HttpStatusCode":403,"Success":false,"ErrCode":"New"}`, verdict{code: "New"}},
		"the status inside, as text": {200, `{"HttpStatusCode":"400","Success":false,"ErrCode":"New"}`,
			verdict{unknown: true, code: "New"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := function.ReadTask(c.status, []byte(c.body))
			assert.Equal(t, c.want, verdictOf(t, err))
		})
	}

	t.Run("a refusal is taken over whole", func(t *testing.T) {
		_, err := function.ReadTask(200, []byte(`{"HttpStatusCode":400,"Success":false,"ErrCode":"InvalidParameter",
			"ErrMessage":"m","RequestId":"r"}`))
		got := *classified(t, err)
		got.Err = nil
		assert.Equal(t, cloud.Error{Kind: permanent, Service: "DBS", Code: "InvalidParameter", Message: "m",
			HTTPStatusCode: 400, RequestID: "r"}, got)
	})
}

func FuzzReadTask(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "dbs", "*.json"))
	require.NoError(f, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(200, content)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		task, err := function.ReadTask(status, body)
		if err == nil {
			var whole map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(body, &whole))
			require.NotEmpty(t, task.ID)
			require.Contains(t, whole, "BackupSetDownloadTaskId")
			return
		}
		got := classified(t, err)
		require.NotEmpty(t, got.Code)
		require.Less(t, len(got.Error()), 20_000+len(got.Code))
	})
}

func BenchmarkCreateTask(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"RequestId":"D6E068C3","Success":true,"BackupSetDownloadTaskId":"1jydacm"}`)
	}))
	defer server.Close()
	tasks := function.NewDBS(server.URL, 4, function.NewCredential("id", "secret", "token"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tasks.CreateTask(b.Context(), example); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDBS_TryNamesOnlyThePlan(t *testing.T) {
	s := start(t)
	s.dbs.AddPlan("plan")
	require.NoError(t, s.tasks.Try(invocation(t, s.key), "DescribeBackupSetDownloadTaskList", "plan"))
	got := classified(t, s.tasks.Try(invocation(t, s.key), "CreateIncrementBackupSetDownload", ""))
	assert.Equal(t, permanent, got.Kind)
	assert.Empty(t, s.dbs.Tasks())
}
