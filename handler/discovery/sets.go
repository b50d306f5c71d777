package discovery

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"increment-backup-download/events"
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

// uncompletedLimit is how long a set may be UNCOMPLETED before it is reported:
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
	key                 setKey
	state               setState // stateHeldBack: to be announced, if it has no task
	unfinished          bool     // UNCOMPLETED for more than uncompletedLimit
	twice               bool     // another set of the same key is listed, which started before
	start, end, expires int64
	size                int64
	storage             string
	tasks               setTasks
}

// age orders sets by when they ended, the oldest first; if that is unknown, by
// when they started.
func (s *listedSet) age() int64 { return cmp.Or(s.end, s.start) }

// setList holds the backup sets of one plan, as they are listed.
type setList struct {
	now, since time.Time       // since: now less the lookback
	only       map[string]bool // by BackupSetId, whether it is listed; empty: all are asked for

	sets     []listedSet
	index    map[setKey]int    // into sets, or notSelected
	texts    map[string]string // one copy of each that many sets have
	nameless int               // without BackupSetJobId or BackupSetId
}

const notSelected = -1

func newSetList(now, since time.Time, only []string) *setList {
	l := &setList{
		now: now, since: since, only: make(map[string]bool),
		index: make(map[setKey]int), texts: make(map[string]string),
	}
	for _, id := range only {
		l.only[id] = false
	}
	return l
}

// add takes a set, and reports whether it is new.
func (l *setList) add(item BackupSet) bool {
	set := listedSet{
		key:   setKey{item.BackupSetJobID, item.BackupSetID},
		start: milliseconds(item.StartTime), end: milliseconds(item.EndTime), expires: milliseconds(item.ExpiredTime),
		size: item.Size, storage: l.shared(item.StorageMethod),
	}
	named := events.IsBackupSetID(set.key.jobID) && events.IsBackupSetID(set.key.setID)
	set.state = l.state(item, named)
	set.unfinished = isStatus(item.BackupStatus, "UNCOMPLETED") && set.age() != 0 &&
		set.age() < l.now.Add(-uncompletedLimit).UnixMilli()
	key := set.key
	if !named {
		key = setKey{setID: fmt.Sprintf("%s/%s@%d", key.jobID, key.setID, set.start)}
		set.key = setKey{events.Truncate(item.BackupSetJobID, events.MaxAnswerID), events.Truncate(item.BackupSetID, events.MaxAnswerID)}
	}
	_, asked := l.only[item.BackupSetID]
	if asked {
		l.only[item.BackupSetID] = true
	}
	at, known := l.index[key]
	switch {
	case !known && len(l.only) > 0 && !asked:
		l.index[key] = notSelected
	case !known:
		key.jobID = l.shared(key.jobID)
		set.key.jobID = l.shared(set.key.jobID)
		l.index[key] = len(l.sets)
		l.sets = append(l.sets, set)
		if !named {
			l.nameless++
		}
	case at != notSelected:
		l.sets[at].repeat(set)
	}
	return !known
}

// repeat takes a repeated key: of two sets with one name the later one counts; of two
// rows of one set, the one that was read after DBS completed it.
func (s *listedSet) repeat(set listedSet) {
	another := set.start != 0 && s.start != 0 && set.start != s.start
	set.key, set.twice = s.key, s.twice || another
	s.twice = set.twice
	if another && set.start > s.start || !another && s.state == stateIncomplete {
		*s = set
	}
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

// shared returns the list's own copy of a text that many sets have.
func (l *setList) shared(text string) string {
	if own, ok := l.texts[text]; ok {
		return own
	}
	l.texts[text] = text
	return text
}

// tasksSince returns the time, in milliseconds since 1970, since which a task may be
// the download of a completed set; 0 if that is unknown.
func (l *setList) tasksSince() int64 {
	since := l.now.UnixMilli()
	for i := range l.sets {
		if set := &l.sets[i]; set.state != stateIncomplete {
			since = min(since, set.start)
		}
	}
	return since
}

func isStatus(got, want string) bool { return strings.EqualFold(strings.TrimSpace(got), want) }
