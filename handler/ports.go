package handler

import (
	"context"
	"encoding/json"
	"time"

	"increment-backup-download/events"
)

// Ports are the services that a [Handler] works with. Tasks, Results and
// DeadLetters are required; Lists and Source are what discovery needs. A check of
// the deployment looks at those queues that are an [InspectedQueue].
type Ports struct {
	Tasks       TaskCreator
	Lists       BackupLister
	Results     Queue          // takes the results
	DeadLetters Queue          // takes original bodies that can never succeed
	Source      InspectedQueue // takes announcements; nil (of no type) if there is none
}

// Task is a DBS backup set download task.
type Task struct {
	ID        string // BackupSetDownloadTaskId, never empty
	RequestID string // the RequestId of the answer
}

// TaskCreator creates download tasks: the operation
// CreateIncrementBackupSetDownload of DBS.
type TaskCreator interface {
	// CreateTask may be called again for the same request, and by many goroutines
	// at once. The same ClientToken with the same parameters must return the ID of
	// the same task. It must make one attempt, return soon after ctx ends, and
	// classify its failures as *cloud.Error; any other error is transient. A nil
	// error means that the task exists.
	CreateTask(ctx context.Context, request events.Request) (Task, error)
}

// Queue publishes messages to one queue of MNS.
type Queue interface {
	// Send publishes 1 to 16 bodies of at most 64 KB in all (one alone may be
	// larger, to be refused), and returns an answer for each, in order: nil only
	// if the queue has accepted the message. It may be called by many goroutines
	// at once, must make one attempt, return soon after ctx ends, and classify its
	// failures as *cloud.Error; any other error is transient. Delivery is
	// at-least-once: a message answered with an error may have been accepted.
	Send(ctx context.Context, bodies []string) []error
}

// QueueInspector looks at one queue of MNS without changing it.
type QueueInspector interface {
	// Depth returns how many messages the queue holds: active, inactive and
	// delayed, approximately (GetQueueAttributes). One attempt, safe for concurrent
	// use, failures as *ServiceError.
	Depth(ctx context.Context) (int, error)
	// TrySend makes a request to send that MNS must refuse for a parameter
	// (Priority 0), so that nothing is sent, and returns the refusal: Permanent if
	// the request got as far as its parameters. It never returns nil.
	TrySend(ctx context.Context) error
}

// InspectedQueue is a queue that can be looked at.
type InspectedQueue interface {
	Queue
	QueueInspector
}

// BackupLister reads the two lists of DBS that discovery compares. Both methods
// read one page in one attempt, may be called by many goroutines at once, return
// soon after ctx ends, and classify their failures as *cloud.Error; an answer
// that is not a list, or has no totals, is a failure. Pages are numbered as DBS is
// asked for them, by PageNum; PageSize is [ListPageSize].
type BackupLister interface {
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
	// Item is the item as DBS gave it, less the members that hold download URLs.
	Item json.RawMessage
}

// DownloadTaskPage is a page of a plan's download tasks, full and incremental.
type DownloadTaskPage struct {
	Totals
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
