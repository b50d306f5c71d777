package discovery

import (
	"context"
	"encoding/json"
	"time"

	"increment-backup-download/handler/outbox"
)

// Queue is the source queue, which takes the announcements.
type Queue interface {
	outbox.Queue
	// Depth returns how many messages the queue holds: active and inactive, without
	// delayed ones, approximately (GetQueueAttributes). One attempt, safe for concurrent
	// use, failures as *cloud.Error.
	Depth(ctx context.Context) (int, error)
}

// Lister reads the two lists of DBS that discovery compares. Both methods
// read one page in one attempt, may be called by many goroutines at once, return
// soon after ctx ends, and classify their failures as *cloud.Error; an answer
// that is not a list, or has no totals, is a failure. Pages are numbered as DBS is
// asked for them, by PageNum; PageSize is [ListPageSize].
type Lister interface {
	// BackupSets reads a page of DescribeIncrementBackupList.
	BackupSets(ctx context.Context, query BackupSetQuery) (BackupSetPage, error)
	// DownloadTasks reads a page of DescribeBackupSetDownloadTaskList.
	DownloadTasks(ctx context.Context, backupPlanID string, pageNum int) (DownloadTaskPage, error)
}

// ListPageSize is the PageSize of every list: DBS takes 30, 50 or 100.
const ListPageSize = 100

// BackupSetQuery selects a page of a plan's incremental backup sets.
type BackupSetQuery struct {
	BackupPlanID string
	PageNum      int
	Start, End   time.Time // StartTimestamp and EndTimestamp
}

// BackupSetPage is a page of a plan's incremental backup sets.
type BackupSetPage struct {
	Totals
	Date time.Time // of DBS's answer, by its clock; zero if unknown
	Sets []BackupSet
}

// Totals is what a page says about its whole list.
type Totals struct {
	Pages    int // TotalPages
	Elements int // TotalElements
}

// BackupSet is one item of DescribeIncrementBackupList. A time that DBS does not
// give, or gives as 0, is the zero time.
type BackupSet struct {
	BackupSetJobID string
	BackupSetID    string
	BackupStatus   string // as DBS wrote it
	StartTime      time.Time
	EndTime        time.Time
	ExpiredTime    time.Time // BackupSetExpiredTime
	Size           int64     // BackupSize, in bytes; 0 if DBS does not give it
	StorageMethod  string
	// Item is the item as DBS gave it, less the members that hold download URLs.
	Item json.RawMessage
}

// DownloadTaskPage is a page of a plan's download tasks, full and incremental.
type DownloadTaskPage struct {
	Totals
	Date  time.Time // of DBS's answer, by its clock; zero if unknown
	Tasks []DownloadTask
}

// DownloadTask is one item of DescribeBackupSetDownloadTaskList, without its
// download URLs, which are secrets.
type DownloadTask struct {
	ID            string // BackupSetDownloadTaskId
	BackupSetID   string // of an incremental set: the set's BackupSetJobId
	BackupSetCode string // of an incremental set: the set's BackupSetId
	JobType       string // BackupSetJobType
	Status        string // BackupSetDownloadStatus
	CreateTime    time.Time
}

// BackupPlanPage is a page of a region's backup plans.
type BackupPlanPage struct {
	Totals
	Date  time.Time // of DBS's answer, by its clock; zero if unknown
	Plans []BackupPlan
}

// BackupPlan is one item of DescribeBackupPlanList.
type BackupPlan struct {
	ID          string // BackupPlanId
	Status      string // BackupPlanStatus, as DBS wrote it
	Incremental bool   // EnableBackupLog is not false
}
