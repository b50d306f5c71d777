package function

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"increment-backup-download/handler/discovery"
	"increment-backup-download/handler/follow"
)

var (
	_ discovery.Lister  = (*dbsClient)(nil)
	_ follow.TaskReader = (*dbsClient)(nil)
)

// BackupSets makes one call of DescribeIncrementBackupList. See
// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describeincrementbackuplist
func (c *dbsClient) BackupSets(ctx context.Context, query discovery.BackupSetQuery) (discovery.Page[discovery.BackupSet], error) {
	return callDBS(ctx, c, "DescribeIncrementBackupList", map[string]string{
		"BackupPlanId":   query.BackupPlanID,
		"EndTimestamp":   ms(query.End),
		"PageNum":        strconv.Itoa(query.PageNum),
		"PageSize":       strconv.Itoa(discovery.ListPageSize),
		"StartTimestamp": ms(query.Start),
	}, page("IncrementBackupFile", backupSet.read))
}

// DownloadTasks makes one call of DescribeBackupSetDownloadTaskList. See
// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describebackupsetdownloadtasklist
func (c *dbsClient) DownloadTasks(ctx context.Context, plan string, pageNum int) (discovery.Page[discovery.DownloadTask], error) {
	return callDBS(ctx, c, "DescribeBackupSetDownloadTaskList", map[string]string{
		"BackupPlanId": plan,
		"PageNum":      strconv.Itoa(pageNum),
		"PageSize":     strconv.Itoa(discovery.ListPageSize),
	}, page(taskList, downloadTask.read))
}

// TaskState makes one call of DescribeBackupSetDownloadTaskList, for one task. It
// reads only the row with that ID.
func (c *dbsClient) TaskState(ctx context.Context, taskID string) (state follow.TaskState, err error) {
	own, err := credentialOf(ctx, c.fallback)
	if err != nil {
		return state, err
	}
	listed, err := callDBS(ctx, c, "DescribeBackupSetDownloadTaskList", map[string]string{
		"BackupSetDownloadTaskId": taskID,
		"PageNum":                 "0",
		"PageSize":                "30",
	}, page(taskList, func(t taskState) taskState { return t }))
	for _, row := range listed.Rows {
		if string(row.BackupSetDownloadTaskID) == taskID {
			state = row.read()
			state.ErrMessage = own.redact(state.ErrMessage)
		}
	}
	return state, err
}

// BackupPlans makes one call of DescribeBackupPlanList. One endpoint may serve several
// regions. See
// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describebackupplanlist
func (c *dbsClient) BackupPlans(ctx context.Context, region string, pageNum int) (discovery.Page[discovery.BackupPlan], error) {
	return callDBS(ctx, c, "DescribeBackupPlanList", map[string]string{
		"PageNum":  strconv.Itoa(pageNum),
		"PageSize": strconv.Itoa(discovery.ListPageSize),
		"Region":   region,
	}, page("BackupPlanDetail", backupPlan.read))
}

// taskList names the array of rows of DescribeBackupSetDownloadTaskList.
const taskList = "BackupSetDownloadTaskDetail"

func ms(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// page returns a reader of a page, whose rows are an array of the given name. Anything
// but a list is an error, so that a partial list never passes for a complete one.
func page[Row, T any](name string, read func(Row) T) func(answer) (discovery.Page[T], error) {
	return func(got answer) (list discovery.Page[T], err error) {
		var reply struct {
			envelope
			TotalPages, TotalElements text
			Items                     items[Row]
		}
		notAList := func(why string) error { return foreign(got, "the answer of DBS is not a list: "+why) }
		reply.Items = items[Row]{name: name, found: true}
		if err := readDBS(got, &reply, &reply.envelope); err != nil {
			return list, err
		}
		pages, elements, null := reply.TotalPages.number(), reply.TotalElements.number(), slices.Index(reply.Items.rows, nil)
		switch {
		case pages < 0 || elements < 0:
			return list, notAList("TotalPages or TotalElements is missing or not a number")
		case !reply.Items.found:
			return list, notAList("Items has no " + name)
		case null >= 0:
			return list, notAList(fmt.Sprintf("row %d is null", null))
		}
		list.Date, list.Pages, list.Elements = got.date(), int(pages), int(elements)
		for _, row := range reply.Items.rows {
			list.Rows = append(list.Rows, read(*row))
		}
		return list, nil
	}
}

// items is the member Items of a page: an object that has the array of rows under a
// name. Some pages of the documentation print the array itself. Without rows, Items may
// be absent, null or empty. A row that is null is nil.
type items[Row any] struct {
	name  string // of the array
	rows  []*Row
	found bool // the array is there, or nothing is
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (i *items[Row]) UnmarshalJSONFrom(from *jsontext.Decoder) error {
	i.rows, i.found = nil, true
	if from.PeekKind() != '{' {
		return json.UnmarshalDecode(from, &i.rows)
	}
	if _, err := from.ReadToken(); err != nil {
		return err
	}
	i.found = from.PeekKind() == '}'
	for from.PeekKind() != '}' {
		name, err := from.ReadToken()
		if err != nil {
			return err
		}
		if name.String() == i.name {
			i.found = true
			err = json.UnmarshalDecode(from, &i.rows)
		} else {
			err = from.SkipValue()
		}
		if err != nil {
			return err
		}
	}
	_, err := from.ReadToken()
	return err
}

// backupSet is a row of DescribeIncrementBackupList.
type backupSet struct {
	BackupSetJobID                                       text `json:"BackupSetJobId"`
	BackupSetID                                          text `json:"BackupSetId"`
	BackupStatus, StorageMethod                          text
	StartTime, EndTime, BackupSetExpiredTime, BackupSize text
}

func (s backupSet) read() discovery.BackupSet {
	return discovery.BackupSet{
		BackupSetJobID: string(s.BackupSetJobID), BackupSetID: string(s.BackupSetID), BackupStatus: string(s.BackupStatus),
		StartTime: s.StartTime.time(), EndTime: s.EndTime.time(), ExpiredTime: s.BackupSetExpiredTime.time(),
		Size: max(s.BackupSize.number(), 0), StorageMethod: string(s.StorageMethod),
	}
}

// downloadTask is a row of DescribeBackupSetDownloadTaskList. Its download URLs are
// signed, and so secrets: they are not read.
type downloadTask struct {
	BackupSetDownloadTaskID                              text `json:"BackupSetDownloadTaskId"`
	BackupSetID                                          text `json:"BackupSetId"`
	BackupSetCode, BackupSetJobType                      text
	BackupSetDownloadStatus, BackupSetDownloadCreateTime text
}

func (t downloadTask) read() discovery.DownloadTask {
	return discovery.DownloadTask{
		ID: string(t.BackupSetDownloadTaskID), BackupSetID: string(t.BackupSetID), BackupSetCode: string(t.BackupSetCode),
		JobType: string(t.BackupSetJobType), Status: string(t.BackupSetDownloadStatus),
		CreateTime: t.BackupSetDownloadCreateTime.time(),
	}
}

// taskState is such a row with the message of a failed task, which may be long and is
// read for one task only.
type taskState struct {
	downloadTask
	BackupPlanID                                               text `json:"BackupPlanId"`
	ErrMessage, BackupSetDataSize, BackupSetDownloadFinishTime text
}

func (t taskState) read() follow.TaskState {
	return follow.TaskState{
		BackupPlanID: string(t.BackupPlanID), Status: string(t.BackupSetDownloadStatus), ErrMessage: string(t.ErrMessage),
		DataSize: max(t.BackupSetDataSize.number(), 0), FinishTime: t.BackupSetDownloadFinishTime.time(),
	}
}

// backupPlan is a row of DescribeBackupPlanList.
type backupPlan struct {
	BackupPlanID                      text `json:"BackupPlanId"`
	BackupPlanStatus, EnableBackupLog text
}

func (p backupPlan) read() discovery.BackupPlan {
	return discovery.BackupPlan{
		ID: string(p.BackupPlanID), Status: string(p.BackupPlanStatus),
		Incremental: !strings.EqualFold(string(p.EnableBackupLog), "false"),
	}
}
