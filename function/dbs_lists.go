package function

import (
	"context"
	"fmt"
	"strconv"

	"increment-backup-download/events/rawjson"
	"increment-backup-download/handler/discovery"
)

var _ discovery.Lister = (*dbsClient)(nil)

// BackupSets makes one call of DescribeIncrementBackupList.
//
// See https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describeincrementbackuplist
func (c *dbsClient) BackupSets(ctx context.Context, query discovery.BackupSetQuery) (discovery.BackupSetPage, error) {
	var page discovery.BackupSetPage
	err := c.call(ctx, "DescribeIncrementBackupList", func(got dbsAnswer) (err error) {
		page.Sets, page.Totals, err = rows(got, "IncrementBackupFile", backupSet)
		return err
	}, map[string]string{
		"BackupPlanId":   query.BackupPlanID,
		"EndTimestamp":   ms(query.End),
		"PageNum":        strconv.Itoa(query.PageNum),
		"PageSize":       strconv.Itoa(discovery.ListPageSize),
		"StartTimestamp": ms(query.Start),
	})
	if err != nil {
		return discovery.BackupSetPage{}, err
	}
	return page, nil
}

// DownloadTasks makes one call of DescribeBackupSetDownloadTaskList.
//
// See https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describebackupsetdownloadtasklist
func (c *dbsClient) DownloadTasks(
	ctx context.Context, backupPlanID string, pageNum int,
) (discovery.DownloadTaskPage, error) {
	var page discovery.DownloadTaskPage
	err := c.call(ctx, "DescribeBackupSetDownloadTaskList", func(got dbsAnswer) (err error) {
		page.Tasks, page.Totals, err = rows(got, "BackupSetDownloadTaskDetail", downloadTask)
		return err
	}, map[string]string{
		"BackupPlanId": backupPlanID,
		"PageNum":      strconv.Itoa(pageNum),
		"PageSize":     strconv.Itoa(discovery.ListPageSize),
	})
	if err != nil {
		return discovery.DownloadTaskPage{}, err
	}
	return page, nil
}

// rows reads the rows of a page and the totals. Items is an object that holds the
// array under name; some pages of the documentation print the array itself. Without
// rows, Items may be absent, null or empty. Whatever else is no list, lest half a
// list is taken for a whole one.
func rows[T any](got dbsAnswer, name string, row func([]byte) T) ([]T, discovery.Totals, error) {
	var none discovery.Totals
	notAList := func(why string) error {
		return foreign(got.answer, "the answer of DBS is not a list: "+why)
	}
	switch {
	case !got.success && got.refused.code != "":
		return nil, none, &got.refused
	case !got.success:
		return nil, none, notAList("Success is not true")
	case got.pages < 0 || got.rows < 0:
		return nil, none, notAList("TotalPages or TotalElements is missing or no number")
	}

	array := got.items
	if len(array) > 0 && array[0] == '{' {
		empty := true
		array = nil
		for member, value := range rawjson.Members(got.items) {
			empty = false
			if string(member) == name {
				array = value
			}
		}
		if !empty && array == nil {
			return nil, none, notAList("Items has no " + name)
		}
	}
	totals := discovery.Totals{Pages: got.pages, Elements: got.rows}
	if array == nil || string(array) == "null" {
		return nil, totals, nil
	}
	if array[0] != '[' {
		return nil, none, notAList(name + " is no array")
	}
	list := make([]T, 0, discovery.ListPageSize)
	for element := range rawjson.Elements(array) {
		if element[0] != '{' {
			return nil, none, notAList(fmt.Sprintf("row %d is no object", len(list)))
		}
		list = append(list, row(element))
	}
	return list, totals, nil
}

// backupSet reads an item of DescribeIncrementBackupList.
func backupSet(item []byte) discovery.BackupSet {
	set := discovery.BackupSet{Item: withoutURLs(make([]byte, 0, len(item)), item)}
	for name, value := range rawjson.Members(item) {
		switch string(name) {
		case "BackupSetJobId":
			set.BackupSetJobID = text(value)
		case "BackupSetId":
			set.BackupSetID = text(value)
		case "BackupStatus":
			set.BackupStatus = text(value)
		case "StartTime":
			set.StartTime = millis(value)
		case "EndTime":
			set.EndTime = millis(value)
		case "BackupSetExpiredTime":
			set.ExpiredTime = millis(value)
		}
	}
	return set
}

// downloadTask reads an item of DescribeBackupSetDownloadTaskList.
func downloadTask(item []byte) discovery.DownloadTask {
	var task discovery.DownloadTask
	for name, value := range rawjson.Members(item) {
		switch string(name) {
		case "BackupSetDownloadTaskId":
			task.ID = text(value)
		case "BackupSetId":
			task.BackupSetID = text(value)
		case "BackupSetCode":
			task.BackupSetCode = text(value)
		case "BackupSetJobType":
			task.JobType = text(value)
		case "BackupSetDownloadStatus":
			task.Status = text(value)
		case "BackupSetDownloadCreateTime":
			task.CreateTime = millis(value)
		}
	}
	return task
}
