package discovery

import (
	"context"
	"time"

	"increment-backup-download/handler/outbox"
)

// Queue is the source queue, which takes the announcements.
type Queue interface {
	outbox.Queue
	// Depth returns how many messages the queue holds, approximately: active and
	// inactive ones (GetQueueAttributes). It leaves out delayed messages, which are follow-ups. One
	// attempt, safe for concurrent use, failures as *cloud.Error.
	Depth(ctx context.Context) (int, error)
}

// Lister reads the lists of DBS that discovery works with. Each method reads one
// page in one attempt, may be called by many goroutines at once, returns soon after
// ctx ends, and classifies its failures as *cloud.Error; an answer that is not a
// list, or has no totals, is a failure. Pages are numbered as DBS is asked for them,
// by PageNum; PageSize is [ListPageSize].
type Lister interface {
	// BackupPlans reads a page of DescribeBackupPlanList, of the plans of a region.
	BackupPlans(ctx context.Context, region string, pageNum int) (Page[BackupPlan], error)
	// BackupSets reads a page of DescribeIncrementBackupList.
	BackupSets(ctx context.Context, query BackupSetQuery) (Page[BackupSet], error)
	// DownloadTasks reads a page of DescribeBackupSetDownloadTaskList.
	DownloadTasks(ctx context.Context, backupPlanID string, pageNum int) (Page[DownloadTask], error)
}

// ListPageSize is the PageSize of every list: DBS takes 30, 50 or 100.
const ListPageSize = 100

// Page is a page of a list.
type Page[T any] struct {
	Pages    int       // TotalPages
	Elements int       // TotalElements
	Date     time.Time // of DBS's answer, by the clock of DBS; zero if unknown
	Rows     []T
}

// BackupPlan is one item of DescribeBackupPlanList.
type BackupPlan struct {
	ID          string // BackupPlanId
	Status      string // BackupPlanStatus, as DBS wrote it
	Incremental bool   // EnableBackupLog is not false
}

// BackupSetQuery selects a page of a plan's incremental backup sets.
type BackupSetQuery struct {
	BackupPlanID string
	PageNum      int
	Start, End   time.Time // StartTimestamp and EndTimestamp
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
	Size           int64     // BackupSize, in bytes; 0 if unknown
	StorageMethod  string    // as DBS wrote it
}

// DownloadTask is one item of DescribeBackupSetDownloadTaskList, without its
// download URLs, which are secrets. A time that DBS does not give is the zero time.
type DownloadTask struct {
	ID            string // BackupSetDownloadTaskId
	BackupSetID   string // of an incremental set: the set's BackupSetJobId
	BackupSetCode string // of an incremental set: the set's BackupSetId
	JobType       string // BackupSetJobType
	Status        string // BackupSetDownloadStatus
	CreateTime    time.Time
}
