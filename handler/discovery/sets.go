package discovery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// setState is what discovery makes of a backup set, as the answer and the log
// write it.
type setState string

// The states, in the order in which they are decided.
const (
	stateWithTask       setState = "withTask"       // DBS has been asked to download it
	stateIncomplete     setState = "incomplete"     // not COMPLETED, or without its IDs
	stateExpired        setState = "expired"        // DBS deletes it within the hour
	stateBeforeLookback setState = "beforeLookback" // it ended too long ago
	stateTaskFailed     setState = "taskFailed"     // its download failed
	stateAnnounced      setState = "announced"      // in a dry run: would be
	stateHeldBack       setState = "heldBack"       // left to the next run
)

// expiryMargin is the time that the announcement, the task and its download need
// before DBS deletes the set.
const expiryMargin = time.Hour

// uncompletedLimit is how long a set may be UNCOMPLETED before a person is told:
// whether that is final is not documented.
const uncompletedLimit = 24 * time.Hour

// setKey names a backup set in the list and, as far as is documented, in the list
// of download tasks: there BackupSetId is the item's BackupSetJobId, and
// BackupSetCode its BackupSetId. See
// https://www.alibabacloud.com/help/doc-detail/178749.htm.
type setKey struct{ jobID, setID string }

// listedSet is what discovery keeps of a backup set. Times are in milliseconds
// since 1970, 0 if unknown.
type listedSet struct {
	key        setKey
	state      setState // stateHeldBack: to be announced, if it has no task
	unfinished bool     // UNCOMPLETED for more than uncompletedLimit
	start, end int64
	expires    int64
	size       int64
	storage    string
	task       setTasks
}

// age orders sets by when they ended, the oldest first; if that is unknown, by
// when they started.
func (s *listedSet) age() int64 { return cmp.Or(s.end, s.start) }

// setList holds the backup sets of one plan, as they are listed. It is safe for
// concurrent use until all are listed.
type setList struct {
	now, since time.Time       // since: now less the lookback
	only       map[string]bool // by BackupSetId; empty: all

	mu        sync.Mutex // guards what follows
	sets      []listedSet
	index     map[setKey]int    // into sets, or notSelected
	texts     map[string]string // one copy of each that many sets have
	nameless  int               // without BackupSetJobId or BackupSetId
	restarted []setKey          // with two StartTimes, the first few
	restarts  int
}

const notSelected = -1

func newSetList(now, since time.Time, only []string) *setList {
	l := &setList{
		now: now, since: since, only: make(map[string]bool),
		index: make(map[setKey]int), texts: make(map[string]string),
	}
	for _, id := range only {
		l.only[id] = true
	}
	return l
}

// different returns how many different sets are listed.
func (l *setList) different() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.index)
}

// add takes the sets of a page, less those that are known.
func (l *setList) add(page []BackupSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, item := range page {
		key := setKey{item.BackupSetJobID, item.BackupSetID}
		named := events.IsBackupSetID(key.jobID) && events.IsBackupSetID(key.setID)
		if !named {
			key = setKey{setID: fmt.Sprintf("%s/%s@%d", key.jobID, key.setID, milliseconds(item.StartTime))}
		}
		at, known := l.index[key]
		if !known {
			if len(l.only) > 0 && !l.only[item.BackupSetID] {
				l.index[key] = notSelected
				continue
			}
			key.jobID = l.shared(key.jobID)
			at = len(l.sets)
			l.index[key] = at
			if !named {
				l.nameless++
			}
		}
		if at == notSelected {
			continue
		}
		set := listedSet{
			key: key, state: l.state(item, named),
			start: milliseconds(item.StartTime), end: milliseconds(item.EndTime), expires: milliseconds(item.ExpiredTime),
			size: item.Size, storage: l.shared(item.StorageMethod),
		}
		if !named {
			set.key.jobID = events.Truncate(item.BackupSetJobID, maxShown)
			set.key.setID = events.Truncate(item.BackupSetID, maxShown)
		}
		set.unfinished = isStatus(item.BackupStatus, "UNCOMPLETED") && set.age() != 0 &&
			set.age() < l.now.Add(-uncompletedLimit).UnixMilli()
		if known && !l.supersedes(set, l.sets[at]) {
			continue
		}
		if known {
			l.sets[at] = set
		} else {
			l.sets = append(l.sets, set)
		}
	}
}

// maxShown bounds the bytes of a name that DBS should not have given.
const maxShown = 128

// shared returns the list's own copy of a text that many sets have.
func (l *setList) shared(text string) string {
	if own, ok := l.texts[text]; ok {
		return own
	}
	l.texts[text] = text
	return text
}

// supersedes reports whether a repeat of a key tells more than what came before:
// the later of two sets of one name, or a set that was completed while pages were
// read.
func (l *setList) supersedes(repeat, before listedSet) bool {
	if repeat.start != 0 && before.start != 0 && repeat.start != before.start {
		if !slices.Contains(l.restarted, before.key) {
			l.restarts++
			if len(l.restarted) < maxNamed {
				l.restarted = append(l.restarted, before.key)
			}
		}
		return repeat.start > before.start
	}
	return before.state == stateIncomplete && repeat.state != stateIncomplete
}

// state returns the state of a set that has no task.
func (l *setList) state(item BackupSet, named bool) setState {
	switch {
	case !named || !isStatus(item.BackupStatus, events.StatusCompleted):
		return stateIncomplete
	case milliseconds(item.ExpiredTime) != 0 && !item.ExpiredTime.After(l.now.Add(expiryMargin)):
		return stateExpired
	case milliseconds(item.EndTime) != 0 && item.EndTime.Before(l.since):
		return stateBeforeLookback
	}
	return stateHeldBack
}

func isStatus(got, want string) bool { return strings.EqualFold(strings.TrimSpace(got), want) }

func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// setTasks is what discovery keeps of the download tasks of one set.
type setTasks struct {
	id, status string // of the newest task that has not failed; if all have, of the newest
	created    int64
	failed     int  // tasks that failed
	downloads  bool // a task has not failed
}

func (s *setTasks) add(task DownloadTask) {
	failed := hasFailed(task.Status)
	if failed {
		s.failed++
	}
	created := milliseconds(task.CreateTime)
	var takes bool
	switch {
	case s.id == "":
		takes = true
	case s.downloads == failed: // one of the two has not failed
		takes = !failed
	default:
		takes = created > s.created || created == s.created && task.ID > s.id
	}
	if takes {
		s.id, s.status, s.created = task.ID, task.Status, created
	}
	s.downloads = s.downloads || !failed
}

// hasFailed reports whether a BackupSetDownloadStatus says that the download
// failed (stop), or never started since its precheck failed (init). See
// https://www.alibabacloud.com/help/doc-detail/178749.htm.
func hasFailed(status string) bool { return isStatus(status, "stop") || isStatus(status, "init") }

// taskList joins the download tasks of one plan to its listed sets. It is safe for
// concurrent use until all are listed.
type taskList struct {
	sets *setList

	mu          sync.Mutex // guards what follows
	ids         map[string]struct{}
	statuses    map[string]string // one copy of each
	oldest      int64             // when the oldest task was made, of any kind
	incremental int
	coded       int // incremental, with a BackupSetCode that tells sets apart
	recent      int // incremental, made within the lookback
	joined      int // recent ones that belong to a listed set
}

func newTaskList(sets *setList) *taskList {
	for i := range sets.sets {
		sets.sets[i].task = setTasks{}
	}
	return &taskList{sets: sets, ids: make(map[string]struct{}), statuses: make(map[string]string)}
}

// different returns how many different tasks are listed.
func (l *taskList) different() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ids)
}

// typeIncremental is the BackupSetJobType of logical incremental backups.
const typeIncremental = "cbs_backup_sub_cont"

// add takes the tasks of a page, less those that are known.
func (l *taskList) add(page []DownloadTask) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, task := range page {
		id := task.ID
		if id == "" {
			id = task.BackupSetID + "/" + task.BackupSetCode + "/" + task.CreateTime.String()
		}
		if _, known := l.ids[id]; known {
			continue
		}
		l.ids[id] = struct{}{}
		created := milliseconds(task.CreateTime)
		if created != 0 && (l.oldest == 0 || created < l.oldest) {
			l.oldest = created
		}
		if jobType := strings.TrimSpace(task.JobType); jobType != "" && jobType != typeIncremental {
			continue
		}
		l.incremental++
		if task.BackupSetCode != "" && task.BackupSetCode != task.BackupSetID {
			l.coded++
		}
		at, listed := l.sets.index[setKey{task.BackupSetID, task.BackupSetCode}]
		if created != 0 && created >= l.sets.since.UnixMilli() {
			l.recent++
			if listed {
				l.joined++
			}
		}
		if listed && at != notSelected {
			if _, own := l.statuses[task.Status]; !own {
				l.statuses[task.Status] = task.Status
			}
			task.ID, task.Status = id, l.statuses[task.Status]
			l.sets.sets[at].task.add(task)
		}
	}
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
