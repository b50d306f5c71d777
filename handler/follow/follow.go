// Package follow follows download tasks to their end: it sends itself follow-ups
// through the source queue, which holds them back for their delay, asks DBS for the
// state of a task when one comes back, and publishes the task's end or asks again
// later. The queue is the timer; there is no other state.
package follow

import (
	"cmp"
	"context"
	"hash/crc32"
	"log/slog"
	"sync"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/outbox"
)

// TaskState is the state of a download task, as DBS lists it. A field that DBS does not give
// is zero.
type TaskState struct {
	BackupPlanID string
	Status       string    // BackupSetDownloadStatus
	ErrMessage   string    // also of a task that has not failed; it never quotes a signed link
	DataSize     int64     // BackupSetDataSize, bytes
	FinishTime   time.Time // BackupSetDownloadFinishTime
}

// TaskReader reads the state of a task: DescribeBackupSetDownloadTaskList of DBS.
type TaskReader interface {
	// TaskState makes one attempt, may be called by many goroutines at once, returns
	// soon after ctx ends, and classifies its failures as *cloud.Error. The state of a
	// task that DBS does not list is zero.
	TaskState(ctx context.Context, taskID string) (TaskState, error)
}

// Outcome is what became of a follow-up.
type Outcome string

// The outcomes of a follow-up.
const (
	Finished   Outcome = "finished"   // the file can be fetched
	Stopped    Outcome = "stopped"    // the task will give no file
	Unfinished Outcome = "unfinished" // the task has not ended in a week, and is not followed any more
	Pending    Outcome = "pending"    // the task goes on, or DBS did not say
)

// Ending is what became of a delivered follow-up. Its result, or the next follow-up, is
// published unless Err says why it is not.
type Ending struct {
	Outcome Outcome
	Data    events.ResultData
	Age     time.Duration // of the task
	Delay   time.Duration // until the next follow-up, if it is pending; 0: there is none
	Err     error
}

// Follower follows the tasks of one invocation. It is safe for concurrent use, except for
// Take and Questions.
type Follower struct {
	Caller   *attempt.Caller
	Tasks    TaskReader
	Results  *outbox.Outbox
	Source   *outbox.Outbox // takes follow-ups; nil: no task is followed any further
	Encoding events.Encoding
	Log      *slog.Logger

	Questions []*Question // the calls to make for what was taken, one for each task
	byTask    map[string]*Question
	refused   sync.Once
	gone      sync.Once
}

// Start sends the first follow-up of a task whose TaskCreated result is published. done
// is called once: with nil when the source queue has accepted it.
func (f *Follower) Start(created events.Result, done func(error)) {
	first := events.NewFollowUp(created)
	f.Source.Add(outbox.Message{Body: first.Encode(), Delay: Delay(first.TaskID, 0, time.Now())}, done)
}

// Take notes a delivered follow-up, which becomes part of the question for its task.
// done is called once, when it has ended.
func (f *Follower) Take(u events.FollowUp, done func(Ending)) {
	id := u.TaskID
	q := f.byTask[id]
	if q == nil {
		q = &Question{follower: f, taskID: id}
		if f.byTask == nil {
			f.byTask = make(map[string]*Question)
		}
		f.byTask[id] = q
		f.Questions = append(f.Questions, q)
	}
	q.asking = append(q.asking, asking{u, done})
}

// Question asks for the state of one task, for all follow-ups that are about it.
type Question struct {
	follower *Follower
	taskID   string
	asking   []asking
}

type asking struct {
	followUp events.FollowUp
	done     func(Ending)
}

// Attempt makes the one call that there is. It never asks for another attempt: a call
// that fails leaves its task pending.
func (q *Question) Attempt() (wait time.Duration, again bool) {
	f := q.follower
	var task TaskState
	var state attempt.State
	err := f.Caller.Once(&state, func(ctx context.Context) (err error) {
		task, err = f.Tasks.TaskState(ctx, q.taskID)
		return err
	})
	if cloud.KindOf(err) != cloud.Transient && f.Caller.Starting.Err() == nil {
		f.refused.Do(func() {
			f.Log.LogAttrs(context.Background(), slog.LevelWarn, "tasks cannot be followed",
				slog.String("errCode", cloud.ErrorOf(err).Code), slog.String("error", err.Error()))
		})
	}
	q.answer(task, err, state.Made > 0)
	return 0, false
}

// GiveUp leaves the task pending: there is no time to ask for it.
func (q *Question) GiveUp(reason error) { q.answer(TaskState{}, reason, false) }

func (q *Question) answer(task TaskState, failure error, asked bool) {
	for _, a := range q.asking {
		q.follower.end(a, task, failure, asked)
	}
}

const (
	taskLimit  = 7 * 24 * time.Hour // the age after which a task is not followed any more
	leastDelay = 30 * time.Second
)

// end publishes what a follow-up comes to: the end of its task only if DBS was asked.
func (f *Follower) end(a asking, task TaskState, failure error, asked bool) {
	e := Ending{Outcome: Pending, Data: a.followUp.Result.Data, Age: time.Since(a.followUp.Created)}
	e.Data.BackupSetDownloadStatus = events.Truncate(task.Status, events.MaxAnswerID)
	kind := ""
	switch finished, failed := events.TaskEnd(task.Status, e.Age); {
	case finished:
		e.Outcome, kind = Finished, events.TypeTaskFinished
	case failed:
		e.Outcome, kind = Stopped, events.TypeTaskStopped
		e.Data.ErrMessage = task.ErrMessage
	case e.Age > taskLimit && asked:
		e.Outcome, kind = Unfinished, events.TypeTaskUnfinished
		e.Data.ErrCode = cloud.ErrorOf(failure).Code
	}
	published := func(err error) {
		e.Err = err
		a.done(e)
	}
	if e.Outcome == Pending && f.Source == nil {
		f.gone.Do(func() {
			f.Log.WarnContext(context.Background(), "tasks are not followed any more: SOURCE_QUEUE is not set")
		})
		a.done(e)
		return
	}
	if e.Outcome == Pending {
		e.Delay = Delay(a.followUp.TaskID, e.Age, time.Now())
		f.Source.Add(outbox.Message{Body: a.followUp.Encode(), Delay: e.Delay}, published)
		return
	}
	e.Data.BackupPlanID = cmp.Or(e.Data.BackupPlanID, task.BackupPlanID)
	e.Data.BackupSetDataSize = task.DataSize
	if !task.FinishTime.IsZero() {
		e.Data.BackupSetDownloadFinishTime = task.FinishTime.UnixMilli()
	}
	result := a.followUp.End(kind, time.Now(), e.Data)
	e.Data = result.Data // bounded, whatever DBS answered
	f.Results.Add(outbox.Message{Body: f.Encoding.Encode(result)}, published)
}

// Delay returns the delay of the follow-up of a task of the given age: until the next
// multiple of a step that grows with the age, offset by a hash of the task ID, and at
// least half a minute. Whatever doubles the follow-ups of a task (a crash, a batch that
// is delivered again), its copies thus fall due in the same second, arrive in one
// batch, and become one.
func Delay(taskID string, age time.Duration, now time.Time) time.Duration {
	step := time.Hour
	switch {
	case age < 10*time.Minute:
		step = time.Minute
	case age < time.Hour:
		step = 5 * time.Minute
	case age < 24*time.Hour:
		step = 15 * time.Minute
	}
	offset := time.Duration(crc32.ChecksumIEEE([]byte(taskID))) * time.Second
	after := time.Duration(now.Unix())*time.Second + offset + leastDelay - time.Second
	return leastDelay - time.Second + step - after%step
}
