package discovery

import (
	"cmp"
	"strings"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// setTasks is what discovery keeps of the download tasks of one set. Times are in
// milliseconds since 1970, 0 if unknown.
type setTasks struct {
	id, status string // of the newest task that has not failed; if all have, of the newest
	created    int64
	underWay   int64 // when the oldest task was made that has neither finished nor failed
	failed     int   // tasks
	lasts      bool  // a task has not failed
	finished   bool  // a task has
}

func (s *setTasks) add(id, status string, created int64, now time.Time) {
	finished, failed := events.TaskEnd(status, now.Sub(time.UnixMilli(created)))
	switch {
	case failed:
		s.failed++
	case finished:
		s.finished = true
	case created != 0 && (s.underWay == 0 || created < s.underWay):
		s.underWay = created
	}
	// Without times, the IDs that DBS counts up tell which task is newer.
	newer := cmp.Or(cmp.Compare(created, s.created), cmp.Compare(len(id), len(s.id)), strings.Compare(id, s.id)) > 0
	if s.lasts == failed {
		newer = !failed
	}
	if newer || s.id == "" {
		s.id, s.status, s.created = id, status, created
	}
	s.lasts = s.lasts || !failed
}

// taskList joins the download tasks of one plan to its listed sets.
type taskList struct {
	sets        *setList
	ids         map[string]struct{}
	oldest      int64 // when the oldest task was made, of any kind, as far as they were read; 0 if unknown
	incremental int
	coded       int // incremental, with a BackupSetCode that tells sets apart
	recent      int // incremental, made within the lookback
	joined      int // tasks made within the lookback that belong to a listed set
}

// newTaskList returns a list without tasks, and forgets those of the sets.
func newTaskList(sets *setList) *taskList {
	for i := range sets.sets {
		sets.sets[i].tasks = setTasks{}
	}
	return &taskList{sets: sets, ids: make(map[string]struct{})}
}

// typeIncremental is the BackupSetJobType of logical incremental backups.
const typeIncremental = "cbs_backup_sub_cont"

// idOf tells the rows of the list apart.
func idOf(task DownloadTask) string {
	if task.ID != "" {
		return events.Truncate(task.ID, events.MaxAnswerID)
	}
	return task.BackupSetID + "/" + task.BackupSetCode + "/" + task.CreateTime.String()
}

// add takes a task, and reports whether it is new. A task is the download of a set
// that it names, of whatever type it is, unless it was made before the set started:
// the numbers of binlogs start again after RESET MASTER or a restore.
func (l *taskList) add(task DownloadTask) bool {
	id := idOf(task)
	if _, known := l.ids[id]; known {
		return false
	}
	l.ids[id] = struct{}{}
	created := milliseconds(task.CreateTime)
	if created != 0 && (l.oldest == 0 || created < l.oldest) {
		l.oldest = created
	}
	recent := created != 0 && created >= l.sets.since.UnixMilli()
	if jobType := strings.TrimSpace(task.JobType); jobType == "" || jobType == typeIncremental {
		l.incremental++
		if task.BackupSetCode != "" && task.BackupSetCode != task.BackupSetID {
			l.coded++
		}
		if recent {
			l.recent++
		}
	}
	at, listed := l.sets.index[setKey{task.BackupSetID, task.BackupSetCode}]
	if listed && recent {
		l.joined++
	}
	if listed && at != notSelected {
		if set := &l.sets.sets[at]; created == 0 || created >= set.start {
			set.tasks.add(id, l.sets.shared(events.Truncate(task.Status, events.MaxAnswerID)), created, l.sets.now)
		}
	}
	return true
}

// check returns an error if the tasks cannot be joined to sets at all.
func (l *taskList) check() error {
	if l.incremental > 0 && l.coded == 0 {
		return &cloud.Error{Kind: cloud.Permanent, Service: "DBS", Code: "UnexpectedTasks",
			Message: "no incremental download task has a BackupSetCode that differs from its BackupSetId, " +
				"so that it is unknown which sets have a task"}
	}
	return nil
}

// doubtful reports whether tasks were made within the lookback, and none of them
// belongs to a listed set: then the two lists may name sets differently.
func (l *taskList) doubtful() bool { return l.recent > 0 && l.joined == 0 }
