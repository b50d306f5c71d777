package dbs_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/dbs"
)

const planID = "dbsqdss5tmh0001"

// listed is what the tests read of a list.
type listed struct {
	Success                                      bool
	TotalPages, TotalElements, PageNum, PageSize int
	Items                                        struct {
		IncrementBackupFile []struct {
			BackupSetID string `json:"BackupSetId"`
		}
		BackupSetDownloadTaskDetail []struct {
			ID     string `json:"BackupSetDownloadTaskId"`
			Status string `json:"BackupSetDownloadStatus"`
			PlanID string `json:"BackupPlanId"`
		}
		BackupPlanDetail []struct {
			ID     string `json:"BackupPlanId"`
			Status string `json:"BackupPlanStatus"`
			Log    bool   `json:"EnableBackupLog"`
		}
	}
}

func list(t *testing.T, server *standin.Server, key standin.Key, action string, given parameters) (listed, string) {
	t.Helper()
	answer, err := call(server, key, action, given)
	require.NoError(t, err)
	text, err := json.Marshal(answer)
	require.NoError(t, err)
	var l listed
	require.NoError(t, json.Unmarshal(text, &l))
	assert.True(t, l.Success)
	return l, string(text)
}

func names(l listed) []string {
	all := []string{}
	for _, set := range l.Items.IncrementBackupFile {
		all = append(all, set.BackupSetID)
	}
	for _, task := range l.Items.BackupSetDownloadTaskDetail {
		all = append(all, task.ID)
	}
	for _, plan := range l.Items.BackupPlanDetail {
		all = append(all, plan.ID)
	}
	return all
}

func TestLists_CountPagesFromZeroOrOne(t *testing.T) {
	for name, c := range map[string]struct {
		first int
		rows  []int // of the pages 0 to 3
	}{
		"from 0": {0, []int{30, 30, 1, 0}},
		"from 1": {1, []int{30, 30, 30, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			service, server, key := start(t)
			service.FirstPage = c.first
			for n := range 61 {
				service.AddSet(planID, dbs.Set{JobID: "job", Name: strconv.Itoa(n)})
				service.AddTask(planID, dbs.ListedTask{JobID: "job", SetName: strconv.Itoa(n)})
			}
			for _, action := range []string{dbs.ActionListSets, dbs.ActionListTasks} {
				distinct := make(map[string]bool)
				for number, rows := range c.rows {
					l, _ := list(t, server, key, action, parameters{"BackupPlanId": planID, "PageNum": strconv.Itoa(number)})
					assert.Equal(t, []int{3, 61, number, 30}, []int{l.TotalPages, l.TotalElements, l.PageNum, l.PageSize})
					assert.Len(t, names(l), rows)
					for _, name := range names(l) {
						distinct[name] = true
					}
				}
				assert.Len(t, distinct, 61)
			}
		})
	}
}

func TestLists_RefuseWrongParameters(t *testing.T) {
	service, server, key := start(t)
	service.AddPlan(planID)
	for _, action := range []string{dbs.ActionListSets, dbs.ActionListTasks} {
		for name, c := range map[string]struct {
			given parameters
			code  string
		}{
			"no plan":          {parameters{}, "MissingBackupPlanId"},
			"an unknown plan":  {parameters{"BackupPlanId": "dbsnone"}, "InvalidJobId"},
			"a page size":      {parameters{"BackupPlanId": planID, "PageSize": "31"}, "InvalidParameter"},
			"a page below 0":   {parameters{"BackupPlanId": planID, "PageNum": "-1"}, "InvalidParameter"},
			"a page in words":  {parameters{"BackupPlanId": planID, "PageNum": "one"}, "InvalidParameter"},
			"a size too large": {parameters{"BackupPlanId": planID, "PageSize": "1000"}, "InvalidParameter"},
		} {
			t.Run(action+" "+name, func(t *testing.T) {
				_, err := call(server, key, action, c.given)
				assert.Equal(t, c.code, code(t, err))
			})
		}
	}
	_, err := call(server, key, dbs.ActionListSets, parameters{"BackupPlanId": planID, "StartTimestamp": "yesterday"})
	assert.Equal(t, "InvalidParameter", code(t, err))
	service.UnknownPlanCode = "InvalidParameterValid"
	_, err = call(server, key, dbs.ActionListSets, parameters{"BackupPlanId": "dbsnone"})
	assert.Equal(t, "InvalidParameterValid", code(t, err))
	service.UnknownPlanInEnvelope = true
	answer, err := call(server, key, dbs.ActionListSets, parameters{"BackupPlanId": "dbsnone"})
	require.NoError(t, err, "HTTP 200")
	assert.Equal(t, []any{false, "InvalidParameterValid"}, []any{answer["Success"], answer["ErrCode"]})
}

func TestLists_FilterSetsByTime(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	ms := func(n int) string { return strconv.FormatInt(day(n).UnixMilli(), 10) }
	for name, c := range map[string]struct {
		byEnd bool
		given parameters
		names []string
	}{
		"no bounds":            {false, parameters{}, []string{"1-4", "2-3", "5-"}},
		"a start":              {false, parameters{"StartTimestamp": ms(2)}, []string{"2-3", "5-"}},
		"an end":               {false, parameters{"EndTimestamp": ms(2)}, []string{"1-4", "2-3"}},
		"both":                 {false, parameters{"StartTimestamp": ms(2), "EndTimestamp": ms(4)}, []string{"2-3"}},
		"a start, by the end":  {true, parameters{"StartTimestamp": ms(4)}, []string{"1-4"}},
		"both, by the end":     {true, parameters{"StartTimestamp": ms(3), "EndTimestamp": ms(3)}, []string{"2-3"}},
		"no bounds by the end": {true, parameters{}, []string{"1-4", "2-3", "5-"}},
	} {
		t.Run(name, func(t *testing.T) {
			service, server, key := start(t)
			service.FilterEndTime = c.byEnd
			service.AddSet(planID, dbs.Set{JobID: "job", Name: "1-4", Start: day(1), End: day(4)})
			service.AddSet(planID, dbs.Set{JobID: "job", Name: "2-3", Start: day(2), End: day(3)})
			service.AddSet(planID, dbs.Set{JobID: "job", Name: "5-", Start: day(5), Status: dbs.Init})
			c.given["BackupPlanId"] = planID
			l, _ := list(t, server, key, dbs.ActionListSets, c.given)
			assert.Equal(t, c.names, names(l))
		})
	}
}

func TestLists_AreInTheOrderOfTheOption(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 1, 0, minute, 0, 0, time.UTC) }
	for name, c := range map[string]struct {
		order dbs.Order
		names []string
	}{
		"as added":     {dbs.AsAdded, []string{"2", "3", "1"}},
		"oldest first": {dbs.OldestFirst, []string{"1", "2", "3"}},
		"newest first": {dbs.NewestFirst, []string{"3", "2", "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			service, server, key := start(t)
			service.Order = c.order
			for _, n := range []int{2, 3, 1} {
				service.AddSet(planID, dbs.Set{JobID: "job", Name: strconv.Itoa(n), Start: at(n)})
				service.AddTask(planID, dbs.ListedTask{ID: strconv.Itoa(n), JobID: "job", SetName: "x", Created: at(n)})
			}
			for _, action := range []string{dbs.ActionListSets, dbs.ActionListTasks} {
				l, _ := list(t, server, key, action, parameters{"BackupPlanId": planID})
				assert.Equal(t, c.names, names(l), action)
			}
		})
	}
}

func TestLists_AreEmptyInEachWay(t *testing.T) {
	const null, object, array = `"Items":null`, `"Items":{}`, `"Items":{"IncrementBackupFile":[]}`
	for name, c := range map[string]struct {
		empty dbs.Empty
		ends  []string // how the answers to two calls end
	}{
		"absent":  {dbs.EmptyAbsent, []string{`"PageSize":30}`, `"PageSize":30}`}},
		"null":    {dbs.EmptyNull, []string{null + "}", null + "}"}},
		"object":  {dbs.EmptyObject, []string{object + "}", object + "}"}},
		"array":   {dbs.EmptyArray, []string{array + "}", array + "}"}},
		"by turn": {dbs.EmptyByTurn, []string{`"PageSize":30}`, null + "}", object + "}", array + "}", `"PageSize":30}`}},
	} {
		t.Run(name, func(t *testing.T) {
			service, _, key := start(t)
			service.Empty = c.empty
			service.AddPlan(planID)
			for _, end := range c.ends {
				// The official client does not show an absent field and null as different.
				query := v1(key, http.MethodGet, parameters{"Action": dbs.ActionListSets, "BackupPlanId": planID}).Encode()
				answer := httptest.NewRecorder()
				service.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+query, nil))
				assert.True(t, strings.HasSuffix(answer.Body.String(), end), answer.Body.String())
			}
		})
	}
}

func TestLists_ShowSetsAndTasksAsTheOfficialSamplesDo(t *testing.T) {
	service, server, key := start(t)
	service.AddSet(planID, dbs.Set{JobID: "1hv5g9wk0001", Name: "mysql-bin.000054", Status: dbs.Filling, Size: 18535,
		Start: time.UnixMilli(1648433764000), End: time.UnixMilli(1648434713000), Expires: time.UnixMilli(1711506719000)})
	_, text := list(t, server, key, dbs.ActionListSets, parameters{"BackupPlanId": planID})
	assert.Contains(t, text, `"ErrCode":"Param.NotFound"`)
	assert.Contains(t, text, `{"BackupSetExpiredTime":1711506719000,"BackupSetId":"mysql-bin.000054","BackupSetJobId":"1hv5g9wk0001","BackupSize":18535,`+
		`"BackupStatus":"FILLING","EndTime":1648434713000,"SourceEndpointIpPort":"172.16.103.1:3306","StartTime":1648433764000,"StorageMethod":"Standard"}`)

	task := service.AddTask(planID, dbs.ListedTask{JobID: "1h7za2yws0001", SetName: "mysql-bin.000054", Created: time.UnixMilli(1642044001000)})
	full := service.AddTask(planID, dbs.ListedTask{JobID: "1h7za2yws0002"})
	_, text = list(t, server, key, dbs.ActionListTasks, parameters{"BackupPlanId": planID})
	for _, field := range []string{`"BackupPlanId":"qdss5tmh0001"`, `"BackupSetId":"1h7za2yws0001"`, `"BackupSetCode":"mysql-bin.000054"`,
		`"BackupSetJobType":"cbs_backup_sub_cont"`, `"BackupSetDownloadTaskName":"1h7za2yws0001-ManualCont"`, `"BackupSetDownloadStatus":"running"`,
		`"BackupSetDownloadCreateTime":1642044001000`, `"BackupSetJobType":"cbs_backup_sub_full"`, `"BackupSetCode":"1h7za2yws0002"`} {
		assert.Contains(t, text, field)
	}
	assert.NotContains(t, text, dbs.URLSecret, "no task is finished")

	service.SetTaskStatus(task, "finish")
	_, text = list(t, server, key, dbs.ActionListTasks, parameters{"BackupPlanId": planID})
	assert.Equal(t, 2, strings.Count(text, dbs.URLSecret), "two links of one task")

	l, _ := list(t, server, key, dbs.ActionListTasks, parameters{"BackupSetDownloadTaskId": full})
	assert.Equal(t, []string{full}, names(l))
}

func TestListPlans_Filters(t *testing.T) {
	service, server, key := start(t)
	service.AddPlan("dbs1")
	service.SetPlan(dbs.Plan{ID: "dbs2", Status: "wait"})
	service.SetPlan(dbs.Plan{ID: "dbs3", Region: "cn-beijing"})
	service.SetPlan(dbs.Plan{ID: "dbs4", OnlyFull: true})
	for name, c := range map[string]struct {
		given parameters
		names []string
	}{
		"all":          {parameters{}, []string{"dbs1", "dbs2", "dbs3", "dbs4"}},
		"a region":     {parameters{"Region": "cn-hangzhou"}, []string{"dbs1", "dbs2", "dbs4"}},
		"a status":     {parameters{"BackupPlanStatus": "wait"}, []string{"dbs2"}},
		"two IDs":      {parameters{"BackupPlanId": "dbs4,dbs1"}, []string{"dbs1", "dbs4"}},
		"a page":       {parameters{"PageSize": "3", "PageNum": "1"}, []string{"dbs4"}},
		"a page of 99": {parameters{"PageSize": "99"}, []string{"dbs1", "dbs2", "dbs3", "dbs4"}},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := list(t, server, key, dbs.ActionListPlans, c.given)
			assert.Equal(t, c.names, names(l))
		})
	}
	for name, given := range map[string]parameters{
		"InvalidParameter":      {"PageSize": "101"},
		"InvalidParameterValid": {"BackupPlanId": "dbs1,dbs9"},
	} {
		_, err := call(server, key, dbs.ActionListPlans, given)
		assert.Equal(t, name, code(t, err))
	}
	l, _ := list(t, server, key, dbs.ActionListPlans, parameters{"BackupPlanId": "dbs2,dbs4"})
	assert.Equal(t, []string{"wait", "running"}, []string{l.Items.BackupPlanDetail[0].Status, l.Items.BackupPlanDetail[1].Status})
	assert.Equal(t, []bool{true, false}, []bool{l.Items.BackupPlanDetail[0].Log, l.Items.BackupPlanDetail[1].Log})
}

func TestLists_ChangeAsSetsFillAndExpire(t *testing.T) {
	service, server, key := start(t)
	service.AddSet(planID, dbs.Set{JobID: "job", Name: "a", Status: dbs.Init})
	service.AddSet(planID, dbs.Set{JobID: "job", Name: "b"})
	shows := func(part string) {
		t.Helper()
		_, text := list(t, server, key, dbs.ActionListSets, parameters{"BackupPlanId": planID})
		assert.Contains(t, text, part)
	}
	shows(`"BackupStatus":"INIT"`)
	service.UpdateSet("job", "a", func(set *dbs.Set) { set.Status = dbs.Filling })
	shows(`"BackupStatus":"FILLING"`)
	service.Complete("job", "a")
	shows(`"EndTime":`)
	service.UpdateSet("job", "b", func(set *dbs.Set) { set.Expires = time.UnixMilli(5) })
	shows(`"BackupSetExpiredTime":5`)
}

func TestLists_MayShiftBetweenTwoPages(t *testing.T) {
	service, server, key := start(t)
	service.Order = dbs.NewestFirst
	now := time.Now()
	for n := range 40 {
		service.AddSet(planID, dbs.Set{JobID: "job", Name: strconv.Itoa(n), Start: now.Add(time.Duration(n) * time.Minute)})
	}
	var pages []string
	service.OnList = func(action string, page int) {
		pages = append(pages, fmt.Sprint(action, page))
		if page == 1 {
			service.AddSet(planID, dbs.Set{JobID: "job", Name: "new", Start: now.Add(time.Hour)})
		}
	}
	first, _ := list(t, server, key, dbs.ActionListSets, parameters{"BackupPlanId": planID, "PageNum": "0"})
	second, _ := list(t, server, key, dbs.ActionListSets, parameters{"BackupPlanId": planID, "PageNum": "1"})
	assert.Equal(t, []string{dbs.ActionListSets + "0", dbs.ActionListSets + "1"}, pages)
	assert.Equal(t, names(first)[29], names(second)[0], "the last of the first page is the first of the second")
}

func TestLists_MayBeCutShort(t *testing.T) {
	key := standin.NewKey()
	service := dbs.New(standin.NewKeys(key), nil)
	faulty := standin.WithFaults(service)
	server, err := standin.Start(faulty)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	for n := range 10 {
		service.AddSet(planID, dbs.Set{JobID: "job", Name: strconv.Itoa(n)})
		service.AddTask(planID, dbs.ListedTask{JobID: "job", SetName: strconv.Itoa(n)})
	}
	faulty.SetPlan(standin.Always(standin.Fault{Kind: standin.Short}))
	for _, action := range []string{dbs.ActionListSets, dbs.ActionListTasks} {
		l, _ := list(t, server, key, action, parameters{"BackupPlanId": planID})
		assert.Equal(t, 10, l.TotalElements)
		assert.Len(t, names(l), 5)
	}
}
