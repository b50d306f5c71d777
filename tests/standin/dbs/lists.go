package dbs

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/tests/standin"
)

// Order is an order of rows; the real one is not documented.
type Order int

// The orders, of backup sets by their StartTime, of tasks by their creation.
const (
	AsAdded Order = iota
	OldestFirst
	NewestFirst
)

// Empty is a way to write an empty list; the real one is not documented.
type Empty int

// The ways to write an empty list.
const (
	EmptyByTurn Empty = iota // each of the following in turn
	EmptyAbsent              // no Items
	EmptyNull                // "Items": null
	EmptyObject              // "Items": {}
	EmptyArray               // "Items": {"IncrementBackupFile": []}
)

// page is a page of a list that is asked for.
type page struct {
	number int // as given, counted from Service.FirstPage
	size   int
}

// listAnswer is the envelope of a list.
type listAnswer struct {
	envelope
	TotalPages    int
	TotalElements int
	PageNum       int
	PageSize      int
	Items         any `json:",omitempty"`
}

type setItem struct {
	EndTime              int64 `json:",omitempty"`
	BackupSetExpiredTime int64 `json:",omitempty"`
	StartTime            int64 `json:",omitempty"`
	StorageMethod        string
	BackupSetJobID       string `json:"BackupSetJobId,omitempty"`
	BackupSetID          string `json:"BackupSetId,omitempty"`
	BackupStatus         string
	SourceEndpointIPPort string `json:"SourceEndpointIpPort"`
	BackupSize           int64
}

func (set Set) item() setItem {
	// As in the official sample, the storage class is known before the set is complete.
	return setItem{
		EndTime: milliseconds(set.End), BackupSetExpiredTime: milliseconds(set.Expires), StartTime: milliseconds(set.Start),
		StorageMethod: "Standard", BackupSetJobID: set.JobID, BackupSetID: set.Name, BackupStatus: set.Status,
		SourceEndpointIPPort: "172.16.103.1:3306", BackupSize: set.Size,
	}
}

type taskItem struct {
	BackupSetDownloadTaskID      string `json:"BackupSetDownloadTaskId"`
	BackupSetDownloadTaskName    string
	BackupSetID                  string `json:"BackupSetId"`
	BackupSetCode                string
	BackupSetJobType             string
	BackupSetDownloadStatus      string
	BackupSetDownloadWay         string
	BackupSetDataFormat          string
	BackupSetDownloadCreateTime  int64
	BackupSetDownloadFinishTime  int64  `json:",omitempty"`
	BackupSetDownloadInternetURL string `json:"BackupSetDownloadInternetUrl,omitempty"`
	BackupSetDownloadIntranetURL string `json:"BackupSetDownloadIntranetUrl,omitempty"`
	BackupSetDataSize            int64
	BackupGatewayID              int64  `json:"BackupGatewayId"`
	BackupPlanID                 string `json:"BackupPlanId"`
	BackupSetDbType              string
	ErrMessage                   string
}

// item is the task as the list shows it to a client that calls the given host. The
// caller holds mu.
func (s *Service) item(task *ListedTask, host string, now time.Time) taskItem {
	name := task.JobID + "-ManualFull"
	if task.JobType == IncrementalJob {
		name = task.JobID + "-ManualCont"
	}
	item := taskItem{
		BackupSetDownloadTaskID: task.ID, BackupSetDownloadTaskName: name,
		BackupSetID: task.JobID, BackupSetCode: task.SetName, BackupSetJobType: task.JobType,
		BackupSetDownloadStatus: task.Status, BackupSetDownloadWay: task.Way, BackupSetDataFormat: task.DataFormat,
		BackupSetDownloadCreateTime: milliseconds(task.Created), BackupSetDownloadFinishTime: milliseconds(task.Finished),
		BackupSetDataSize: task.Size, BackupPlanID: listedPlanID(task.plan.ID), BackupSetDbType: "MySQL",
		// The official sample has one even beside finish.
		ErrMessage: cmp.Or(task.ErrMessage, "java.lang.IndexOutOfBoundsException."),
	}
	if task.Way == "manual" && task.Status == "finish" {
		item.BackupSetDownloadInternetURL = s.link(host, task.ID, now)
		item.BackupSetDownloadIntranetURL = item.BackupSetDownloadInternetURL
	}
	return item
}

type planItem struct {
	BackupPlanID         string `json:"BackupPlanId"`
	BackupPlanName       string
	BackupPlanStatus     string
	BackupMethod         string
	BackupStorageType    string
	DatabaseType         string
	EnableBackupLog      bool
	SourceEndpointRegion string
}

func (p Plan) item() planItem {
	return planItem{BackupPlanID: p.ID, BackupPlanName: p.ID, BackupPlanStatus: p.Status, BackupMethod: "logical",
		BackupStorageType: "system", DatabaseType: "MySQL", EnableBackupLog: !p.OnlyFull, SourceEndpointRegion: p.Region}
}

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// listSets is DescribeIncrementBackupList.
func (s *Service) listSets(ctx context.Context, given url.Values) (any, *refusal) {
	p, refused := readPage(given, setsAndTasksSizes)
	if refused != nil {
		return nil, refused
	}
	from, refused := readInteger(given, "StartTimestamp", math.MinInt64)
	if refused != nil {
		return nil, refused
	}
	to, refused := readInteger(given, "EndTimestamp", math.MaxInt64)
	if refused != nil {
		return nil, refused
	}
	if given.Get("BackupPlanId") == "" {
		return nil, missing("BackupPlanId")
	}
	s.beforeList(ActionListSets, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	plan := s.plans[given.Get("BackupPlanId")]
	if plan == nil {
		return nil, s.unknownPlan()
	}
	if s.Order != AsAdded {
		plan.sort()
	}
	rows, total := rowsOf(s, p, plan.sets, func(set *Set) bool {
		at := milliseconds(set.Start)
		if s.FilterEndTime {
			at = milliseconds(set.End)
		}
		return from <= at && at <= to
	})
	items := make([]setItem, len(rows))
	for i, set := range rows {
		items[i] = set.item()
	}
	return answerOf(ctx, s, p, total, "IncrementBackupFile", items), nil
}

// listTasks is DescribeBackupSetDownloadTaskList. It has no filter but plan and
// task, and lists the tasks of full backups too. A task is found by its ID whatever
// made it. Links lead to the host that was called.
func (s *Service) listTasks(ctx context.Context, host string, given url.Values) (any, *refusal) {
	p, refused := readPage(given, setsAndTasksSizes)
	if refused != nil {
		return nil, refused
	}
	planID, taskID := given.Get("BackupPlanId"), given.Get("BackupSetDownloadTaskId")
	if planID == "" && taskID == "" {
		return nil, missing("BackupPlanId")
	}
	s.beforeList(ActionListTasks, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	var tasks []*ListedTask
	if planID != "" {
		plan := s.plans[planID]
		if plan == nil {
			return nil, s.unknownPlan()
		}
		if s.Order != AsAdded {
			plan.sort()
		}
		tasks = plan.tasks
	}
	if taskID != "" {
		tasks = nil
		if task := s.listed[taskID]; task != nil && (planID == "" || task.plan == s.plans[planID]) {
			tasks = []*ListedTask{task}
		}
	}
	rows, total := rowsOf(s, p, tasks, func(*ListedTask) bool { return true })
	items := make([]taskItem, len(rows))
	now := time.Now()
	for i, task := range rows {
		s.proceed(task, now)
		items[i] = s.item(task, host, now)
	}
	return answerOf(ctx, s, p, total, "BackupSetDownloadTaskDetail", items), nil
}

// listPlans is DescribeBackupPlanList. All parameters are optional; those that are
// not read here do not filter.
func (s *Service) listPlans(ctx context.Context, given url.Values) (any, *refusal) {
	p, refused := readPage(given, planSizes)
	if refused != nil {
		return nil, refused
	}
	s.beforeList(ActionListPlans, p)
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := strings.FieldsFunc(given.Get("BackupPlanId"), func(c rune) bool { return c == ',' })
	for _, id := range ids {
		if s.plans[id] == nil {
			return nil, &refusal{http.StatusBadRequest, "InvalidParameterValid", "The specified backup plan does not exist."}
		}
	}
	rows, total := rowsOf(s, p, s.planIDs, func(id string) bool {
		plan := s.plans[id].Plan
		return (len(ids) == 0 || slices.Contains(ids, id)) &&
			(!given.Has("Region") || plan.Region == given.Get("Region")) &&
			(!given.Has("BackupPlanStatus") || plan.Status == given.Get("BackupPlanStatus"))
	})
	items := make([]planItem, len(rows))
	for i, id := range rows {
		items[i] = s.plans[id].item()
	}
	return answerOf(ctx, s, p, total, "BackupPlanDetail", items), nil
}

func (s *Service) beforeList(action string, p page) {
	if s.OnList != nil {
		s.OnList(action, p.number)
	}
}

// unknownPlan: the code is that of other operations, since none is documented for
// the lists. See https://github.com/aliyun/terraform-provider-alicloud,
// alicloud/service_alicloud_dbs.go.
func (s *Service) unknownPlan() *refusal {
	status := http.StatusBadRequest
	if s.UnknownPlanInEnvelope {
		status = http.StatusOK
	}
	return &refusal{status, cmp.Or(s.UnknownPlanCode, "InvalidJobId"), "The specified backup plan does not exist."}
}

// setsAndTasksSizes are the documented sizes of a page of sets or tasks.
func setsAndTasksSizes(size int64) bool { return size == 30 || size == 50 || size == 100 }

// planSizes are the documented sizes of a page of plans.
func planSizes(size int64) bool { return 1 <= size && size <= 100 }

// readPage reads PageNum and PageSize, by the bounds of the documentation.
func readPage(given url.Values, allowed func(size int64) bool) (page, *refusal) {
	number, refused := readInteger(given, "PageNum", 0)
	if refused != nil {
		return page{}, refused
	}
	if number < 0 || number > math.MaxInt32 {
		return page{}, invalid("PageNum")
	}
	size, refused := readInteger(given, "PageSize", 30)
	if refused != nil {
		return page{}, refused
	}
	if !allowed(size) {
		return page{}, invalid("PageSize")
	}
	return page{int(number), int(size)}, nil
}

func readInteger(given url.Values, name string, otherwise int64) (int64, *refusal) {
	if !given.Has(name) {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(given.Get(name), 10, 64)
	if err != nil {
		return 0, invalid(name)
	}
	return n, nil
}

// rowsOf returns the rows of one page, and counts those of all pages. The caller
// holds mu.
func rowsOf[Row any](s *Service, p page, all []Row, matches func(Row) bool) (rows []Row, total int) {
	first := max(p.number-s.FirstPage, 0) * p.size
	for i := range all {
		row := all[i]
		if s.Order == NewestFirst {
			row = all[len(all)-1-i]
		}
		if !matches(row) {
			continue
		}
		if total >= first && len(rows) < p.size {
			rows = append(rows, row)
		}
		total++
	}
	return rows, total
}

// answerOf is the answer of a page. If the call meets the fault Short, it has half
// of the rows, and the totals as usual.
func answerOf[Item any](ctx context.Context, s *Service, p page, total int, name string, items []Item) listAnswer {
	if standin.IsShort(ctx) {
		items = items[:len(items)/2]
	}
	answer := listAnswer{
		envelope:   newEnvelope(),
		TotalPages: (total + p.size - 1) / p.size, TotalElements: total, PageNum: p.number, PageSize: p.size,
		Items: map[string][]Item{name: items},
	}
	if len(items) > 0 {
		return answer
	}
	empty := s.Empty
	if empty == EmptyByTurn {
		empty = EmptyAbsent + Empty(s.emptyLists.Add(1)-1)%4
	}
	switch empty {
	case EmptyAbsent:
		answer.Items = nil
	case EmptyNull:
		answer.Items = (*struct{})(nil) // not nil, so not left out
	case EmptyObject:
		answer.Items = struct{}{}
	default:
		answer.Items = map[string][]Item{name: {}}
	}
	return answer
}
