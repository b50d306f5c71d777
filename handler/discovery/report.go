package discovery

import (
	"fmt"
	"strings"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// Answer is the outcome of a discovery run.
type Answer struct {
	DryRun bool         `json:"dryRun"`
	Plans  []PlanReport `json:"plans"` // in the order in which they were asked for
}

// PlanReport is what a discovery run found in one backup plan. The counts from
// WithTask to HeldBack add up to Listed; they are 0 if the plan was left alone.
type PlanReport struct {
	BackupPlanID   string `json:"BackupPlanId"`
	Listed         int    `json:"listed"` // the sets that were asked for
	WithTask       int    `json:"withTask"`
	Downloaded     int    `json:"downloaded"` // of WithTask: a task has finished
	Incomplete     int    `json:"incomplete"`
	Expired        int    `json:"expired"`
	BeforeLookback int    `json:"beforeLookback"`
	TaskFailed     int    `json:"taskFailed"`
	Announced      int    `json:"announced"` // in a dry run: would be
	HeldBack       int    `json:"heldBack"`

	// OldestDownloadMinutes is the age of the oldest task of a listed set that has
	// neither finished nor failed; nil if there is none.
	OldestDownloadMinutes *int64 `json:"oldestDownloadMinutes,omitempty"`
	// Sets names up to a hundred of them, those without a task first.
	Sets []ReportedSet `json:"sets,omitempty"`
	// NotListed names the sets that were asked for and are not in the plan's list.
	NotListed []string `json:"notListed,omitempty"`
	// Error says why the plan was left alone or its announcements failed.
	Error string `json:"error,omitempty"`
}

// ReportedSet says where a backup set stands.
type ReportedSet struct {
	State                   string `json:"state"` // the name of its count in PlanReport
	BackupSetJobID          string `json:"BackupSetJobId"`
	BackupSetID             string `json:"BackupSetId"`
	BackupSetDownloadTaskID string `json:"BackupSetDownloadTaskId,omitempty"`
	BackupSetDownloadStatus string `json:"BackupSetDownloadStatus,omitempty"`
	TaskAgeMinutes          *int64 `json:"taskAgeMinutes,omitempty"` // nil if there is no task, or its time is unknown
	Downloaded              bool   `json:"downloaded,omitempty"`     // a task of the set has finished
}

// The operations of DBS and MNS, as [Failure] names them.
const (
	operationPlans    = "DescribeBackupPlanList"
	operationSets     = "DescribeIncrementBackupList"
	operationTasks    = "DescribeBackupSetDownloadTaskList"
	operationDepth    = "GetQueueAttributes"
	operationAnnounce = "BatchSendMessage"
)

// DiscoveryError fails a discovery run that could not finish its work. What it
// finished stays done, and the next run finds the rest.
type DiscoveryError struct { //nolint:revive // Function Compute reports the name without the package
	Plans    int       // of the run; 0 if the plans could not be listed
	Failures []Failure // at least one
}

// Failure says what failed.
type Failure struct {
	BackupPlanID string // empty: the list of the plans
	Operation    string // of DBS or MNS
	Err          error  // of the operation's last attempt; nil: nothing failed
}

// text says what failed, in the service's own words, and the fix if it is known.
func (f Failure) text() string {
	service := cloud.ErrorOf(f.Err)
	if service.Fix == "" {
		return f.Operation + ": " + events.Truncate(f.Err.Error(), maxReason)
	}
	return f.Operation + ": " + events.Truncate(service.Cause(), maxReason) + ". Fix: " + events.Truncate(service.Fix, maxReason)
}

func (e *DiscoveryError) Error() string {
	var s strings.Builder
	s.WriteString("discovery failed")
	if e.Plans > 0 {
		fmt.Fprintf(&s, " for %d of %d backup plans", len(e.Failures), e.Plans)
	}
	for _, failure := range e.Failures[:min(len(e.Failures), maxReasons)] {
		s.WriteString("; ")
		if failure.BackupPlanID != "" {
			s.WriteString("backup plan " + failure.BackupPlanID + ": ")
		}
		s.WriteString(failure.text())
	}
	if more := len(e.Failures) - maxReasons; more > 0 {
		fmt.Fprintf(&s, "; and %d more, each with a line in the log", more)
	}
	s.WriteString(". The next run tries again.")
	return s.String()
}

// Unwrap returns the error of the first failure.
func (e *DiscoveryError) Unwrap() error { return e.Failures[0].Err }

// Bounds of what an error, the log and the answer name.
const (
	maxReasons = 3   // plans
	maxReason  = 200 // bytes of the cause, and of the fix
	maxNamed   = 10  // sets of a line
	maxWarned  = 80  // lines of a run about one set each
	maxEntries = 100 // sets of a plan
)
