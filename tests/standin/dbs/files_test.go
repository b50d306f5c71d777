package dbs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

func TestTasks_Proceed(t *testing.T) {
	for name, c := range map[string]struct {
		end    string
		states []string // at once, after 1 s, after 10 s
	}{
		"to finish": {"finish", []string{"checking", "running", "finish"}},
		"to stop":   {"stop", []string{"checking", "running", "stop"}},
		"to init":   {"init", []string{"checking", "init", "init"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := standin.NewKey()
				service := dbs.New(standin.NewKeys(key), nil)
				service.TaskTime = 10 * time.Second
				service.TaskEnd = func(task dbs.ListedTask) (status, message string) { return c.end, "about " + task.SetName }
				service.AddSet(planID, dbs.Set{JobID: "job", Name: "file"})
				answer := request(t, service, key, parameters{"Action": dbs.Action, "BackupSetId": "job", "BackupSetName": "file"})
				require.Contains(t, answer, `"BackupSetDownloadTaskId":"1jydacm000001"`)
				states := []string{}
				for _, wait := range []time.Duration{0, time.Second, 9 * time.Second} {
					time.Sleep(wait)
					states = append(states, service.ListedTasks(planID)[0].Status)
				}
				assert.Equal(t, c.states, states)
				answer = request(t, service, key, parameters{"Action": dbs.ActionListTasks, "BackupSetDownloadTaskId": "1jydacm000001"})
				assert.Contains(t, answer, `"BackupSetDownloadStatus":"`+c.end+`"`)
				assert.Contains(t, answer, `"ErrMessage":"about file"`)
				assert.Equal(t, c.end == "finish", strings.Contains(answer, "BackupSetDownloadFinishTime"))
			})
		})
	}
}

func TestTasks_AreFoundByTheirIDWhateverMadeThem(t *testing.T) {
	service, server, key := start(t)
	answer, err := call(server, key, dbs.Action, parameters{"BackupSetId": "t4yh0g0g0009", "BackupSetName": "of no plan"})
	require.NoError(t, err)
	created, _ := answer["BackupSetDownloadTaskId"].(string)
	added := service.AddTask(planID, dbs.ListedTask{JobID: "job", SetName: "file"})
	for id, given := range map[string]parameters{
		created: {"BackupSetDownloadTaskId": created},
		added:   {"BackupSetDownloadTaskId": added, "BackupPlanId": planID},
	} {
		l, _ := list(t, server, key, dbs.ActionListTasks, given)
		assert.Equal(t, []string{id}, names(l))
	}
	l, _ := list(t, server, key, dbs.ActionListTasks, parameters{"BackupSetDownloadTaskId": created, "BackupPlanId": planID})
	assert.Empty(t, names(l), "it is of another plan")
	l, _ = list(t, server, key, dbs.ActionListPlans, nil)
	assert.Equal(t, []string{planID}, names(l))
}

func TestFiles_AreServedToWhoHasALink(t *testing.T) {
	service, server, key := start(t)
	id := service.AddTask(planID, dbs.ListedTask{JobID: "job", SetName: "file", Status: "finish", Size: 100})
	file := dbs.File(id, 100)
	link := func() string {
		t.Helper()
		answer, err := call(server, key, dbs.ActionListTasks, parameters{"BackupSetDownloadTaskId": id})
		require.NoError(t, err)
		items, _ := answer["Items"].(map[string]any)
		rows, _ := items["BackupSetDownloadTaskDetail"].([]any)
		row, _ := rows[0].(map[string]any)
		text, _ := row["BackupSetDownloadInternetUrl"].(string)
		require.Regexp(t, `^"//.*Signature=.*"$`, text, "quotes, and no scheme")
		return "http:" + strings.Trim(text, `"`)
	}
	get := func(method, link, ranged string) (status int, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, link, nil)
		require.NoError(t, err)
		if ranged != "" {
			request.Header.Set("Range", ranged)
		}
		answer, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		content, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(content)
	}
	good := link()
	for name, c := range map[string]struct {
		method, link, ranged string
		status               int
		body                 string
	}{
		"whole":             {"GET", good, "", 200, string(file)},
		"from a byte":       {"GET", good, "bytes=40-", 206, string(file[40:])},
		"from behind":       {"GET", good, "bytes=100-", 416, ""},
		"only looked at":    {"HEAD", good, "", 403, ""},
		"with another date": {"GET", strings.Replace(good, "Expires=", "Expires=9", 1), "", 403, ""},
		"without signature": {"GET", strings.SplitN(good, "?", 2)[0], "", 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := get(c.method, c.link, c.ranged)
			assert.Equal(t, c.status, status)
			if c.body != "" {
				assert.Equal(t, c.body, body)
			}
		})
	}
	assert.Equal(t, 6, service.FileCalls())
	service.ExpireLinks()
	status, _ := get("GET", good, "")
	assert.Equal(t, 403, status)
	status, _ = get("GET", link(), "")
	assert.Equal(t, 200, status, "a new link")
	total, _ := service.Calls("")
	assert.Equal(t, 2, total, "to fetch a file is no call of DBS")
	service.LinkLifetime = 0
	status, _ = get("GET", link(), "")
	assert.Equal(t, 403, status, "expired")
}

// request calls an operation without the network, and returns the answer.
func request(t *testing.T, service *dbs.Service, key standin.Key, given parameters) string {
	t.Helper()
	answer := httptest.NewRecorder()
	service.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet,
		"/?"+v1(key, http.MethodGet, given).Encode(), nil))
	return answer.Body.String()
}
