package events

import (
	"strconv"
	"time"
)

// TypeBackupSetCompleted is the CloudEvents type of an announcement.
const TypeBackupSetCompleted = "dbs:IncrementBackupSet:Completed"

// Announcement says that an incremental backup set is finished. It is what
// discovery puts into the source queue, and a backup event like any other.
type Announcement struct {
	Region, AccountID string
	BackupPlanID      string
	FailedTaskID      string    // of the newest download that failed, to try again; at most MaxAnswerID bytes
	Time              time.Time // when it is announced
	Set               AnnouncedSet
}

// AnnouncedSet is a backup set under the names of DescribeIncrementBackupList. It
// has these fields of a list item and no other, so that nothing that DBS may add
// can change what the event means, or carry a download URL. Times are in
// milliseconds since 1970; 0 is unknown. See
// https://help.aliyun.com/zh/dms/developer-reference/api-dbs-2019-03-06-describeincrementbackuplist
type AnnouncedSet struct {
	BackupSetJobID       string `json:"BackupSetJobId"` // like BackupSetID, one that IsBackupSetID accepts
	BackupSetID          string `json:"BackupSetId"`
	BackupStatus         string `json:"BackupStatus"` // StatusCompleted
	StartTime            int64  `json:"StartTime,omitzero"`
	EndTime              int64  `json:"EndTime,omitzero"`
	BackupSetExpiredTime int64  `json:"BackupSetExpiredTime,omitzero"`
	BackupSize           int64  `json:"BackupSize,omitzero"` // bytes
	StorageMethod        string `json:"StorageMethod,omitempty"`
}

// ID returns the event ID of the announcement, from which its ClientToken is made:
// the same for ever for one backup set, so that a set announced twice is still one
// task. A download that failed needs another token, since DBS would answer the
// old one with the task that failed.
func (a Announcement) ID() string {
	id := setID(a.Set.BackupSetJobID, a.Set.BackupSetID, strconv.FormatInt(a.Set.StartTime, 10))
	if a.FailedTaskID != "" {
		id += "#" + a.FailedTaskID
	}
	return id
}

// Source returns the CloudEvents source: the resource name of the backup plan.
func (a Announcement) Source() string {
	return "acs:dbs:" + a.Region + ":" + a.AccountID + ":backupplan/" + a.BackupPlanID
}

// Encode returns the message body: a CloudEvent in structured JSON mode, which fits
// a queue message.
func (a Announcement) Encode() string {
	a.Set.StorageMethod = Truncate(a.Set.StorageMethod, MaxAnswerID)
	return marshal(newCloudEvent(TypeBackupSetCompleted, a.ID(), a.Source(), a.Set.BackupSetID, a.Time, a.Set))
}
