package follow_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
	"increment-backup-download/handler/follow"
	"increment-backup-download/handler/outbox"
)

// fakeTasks knows the state of tasks by their ID.
type fakeTasks struct {
	states map[string]follow.TaskState
	fail   error

	mu    sync.Mutex
	asked []string
}

func (f *fakeTasks) TaskState(_ context.Context, taskID string) (follow.TaskState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, taskID)
	return f.states[taskID], f.fail
}

// fakeQueue keeps what is sent to it.
type fakeQueue struct {
	refuse error

	mu       sync.Mutex
	messages []outbox.Message
}

func (f *fakeQueue) Send(_ context.Context, messages []outbox.Message) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	answers := make([]error, len(messages))
	for i := range answers {
		answers[i] = f.refuse
	}
	if f.refuse == nil {
		f.messages = append(f.messages, messages...)
	}
	return answers
}

func (f *fakeQueue) Size(body string) int { return len(body) }

// invocation is one with a follower, for a minute.
type invocation struct {
	*follow.Follower
	tasks           *fakeTasks
	results, source *fakeQueue
	log             *bytes.Buffer
}

func begin(t *testing.T) *invocation {
	t.Helper()
	in := &invocation{tasks: &fakeTasks{states: map[string]follow.TaskState{}}, results: &fakeQueue{}, source: &fakeQueue{}, log: &bytes.Buffer{}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	shared, release := attempt.NewInvocation(ctx, 0, slog.New(slog.NewJSONHandler(in.log, nil)))
	t.Cleanup(release)
	in.Follower = &follow.Follower{
		Caller: shared.CallDBS(attempt.NewLimits(4, 0).NewPacer(4)),
		Tasks:  in.tasks, Results: outbox.New(shared, in.results), Source: outbox.New(shared, in.source),
		Log: shared.Log,
	}
	return in
}

// created returns the TaskCreated result of a task that was created the given time ago.
func created(taskID string, ago time.Duration) events.Result {
	event := events.Event{ID: "event-1", Request: events.Request{
		BackupSetID: "t4yh0g0g0001", BackupSetName: "mysql-bin.000054", ClientToken: "event-1"}}
	data := events.NewResultData(event)
	data.BackupSetDownloadTaskID, data.RequestID = taskID, "R-1"
	source := events.Source{Region: "cn-hangzhou", AccountID: "1234567890123456", FunctionName: "increment-backup-download"}
	return events.NewResult(events.TypeTaskCreated, "event-1", event, source, time.Now().Add(-ago), data)
}

// answer answers follow-ups of tasks of the given age, and returns what they came to.
func (in *invocation) answer(age time.Duration, taskIDs ...string) []follow.Ending {
	var endings []follow.Ending
	var mu sync.Mutex
	for _, id := range taskIDs {
		in.Take(events.NewFollowUp(created(id, age)), func(e follow.Ending) {
			mu.Lock()
			defer mu.Unlock()
			endings = append(endings, e)
		})
	}
	for _, q := range in.Questions {
		_, again := q.Attempt()
		if again {
			panic("a question is asked once")
		}
	}
	in.Results.Flush()
	if in.Source != nil {
		in.Source.Flush()
	}
	return endings
}

func TestFollower_SendsTheFirstFollowUpOnTheGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		result := created("task-1", 0)
		accepted := false
		in.Start(result, func(err error) { accepted = err == nil })
		in.Source.Flush()
		assert.True(t, accepted)
		require.Len(t, in.source.messages, 1)
		message := in.source.messages[0]
		assert.Equal(t, follow.Delay("task-1", 0, time.Now()), message.Delay)
		var got map[string]any
		require.NoError(t, json.Unmarshal([]byte(message.Body), &got))
		assert.Equal(t, "dbs:IncrementBackupSetDownloadTask:FollowUp", got["type"])
		assert.Equal(t, result.ID, got["id"])
		assert.Equal(t, result.Source, got["source"])
		assert.Equal(t, result.Subject, got["subject"])
		assert.Equal(t, result.Time, got["time"], "when the task was created")
	})
}

func TestFollower_TellsByTheStatusWhatBecameOfATask(t *testing.T) {
	day := 24 * time.Hour
	throttled := &cloud.Error{Service: "DBS", Code: "Throttling.User", Throttled: true}
	for name, c := range map[string]struct {
		status  string
		age     time.Duration
		failure error
		outcome follow.Outcome
		kind    string // of the result; empty: none
	}{
		"finished":                 {"finish", time.Minute, nil, follow.Finished, events.TypeTaskFinished},
		"in any case, with spaces": {" FINISH ", time.Minute, nil, follow.Finished, events.TypeTaskFinished},
		"finished after a month":   {"finish", 30 * day, nil, follow.Finished, events.TypeTaskFinished},
		"stopped":                  {"stop", time.Minute, nil, follow.Stopped, events.TypeTaskStopped},
		"init, young":              {"init", 9 * time.Minute, nil, follow.Pending, ""},
		"init, ten minutes":        {"init", 10 * time.Minute, nil, follow.Stopped, events.TypeTaskStopped},
		"running":                  {"running", time.Minute, nil, follow.Pending, ""},
		"not listed":               {"", time.Minute, nil, follow.Pending, ""},
		"refused":                  {"", time.Minute, &cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission", HTTPStatusCode: 403}, follow.Pending, ""},
		"running for a week":       {"running", 7*day + time.Minute, nil, follow.Unfinished, events.TypeTaskUnfinished},
		"throttled for a week":     {"", 7*day + time.Minute, throttled, follow.Unfinished, events.TypeTaskUnfinished},
		"running for almost that":  {"running", 7*day - time.Minute, nil, follow.Pending, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := begin(t)
				in.tasks.fail = c.failure
				if c.status != "" {
					in.tasks.states["task-1"] = follow.TaskState{Status: c.status, BackupPlanID: "qhnuhyw30001", ErrMessage: "out of disk",
						DataSize: 237837, FinishTime: time.UnixMilli(1642044001000)}
				}
				endings := in.answer(c.age, "task-1")
				require.Len(t, endings, 1)
				require.NoError(t, endings[0].Err)
				assert.Equal(t, c.outcome, endings[0].Outcome)
				assert.Equal(t, []string{"task-1"}, in.tasks.asked, "one attempt")
				if c.kind == "" {
					assert.Empty(t, in.results.messages)
					require.Len(t, in.source.messages, 1)
					assert.Equal(t, events.NewFollowUp(created("task-1", c.age)).Encode(), in.source.messages[0].Body, "the same again")
					assert.Equal(t, follow.Delay("task-1", c.age, time.Now()), in.source.messages[0].Delay)
					return
				}
				assert.Empty(t, in.source.messages)
				require.Len(t, in.results.messages, 1)
				var result events.Result
				require.NoError(t, json.Unmarshal([]byte(in.results.messages[0].Body), &result))
				assert.Equal(t, c.kind, result.Type)
				assert.Equal(t, "event-1", result.ID)
				assert.Equal(t, "R-1", result.Data.RequestID, "of the request that created the task")
				if c.status != "" {
					assert.Equal(t, c.status, result.Data.BackupSetDownloadStatus)
					assert.Equal(t, "qhnuhyw30001", result.Data.BackupPlanID)
					assert.EqualValues(t, 237837, result.Data.BackupSetDataSize)
					assert.EqualValues(t, 1642044001000, result.Data.BackupSetDownloadFinishTime)
				} else {
					assert.Equal(t, "Throttling.User", result.Data.ErrCode)
				}
				assert.Equal(t, c.outcome == follow.Stopped, result.Data.ErrMessage == "out of disk")
			})
		})
	}
}

// DBS may have finished the task since it was asked last.
func TestFollower_GivesNoTaskUpThatWasNotAskedFor(t *testing.T) {
	for name, ask := range map[string]func(*follow.Question){
		"given up":       func(q *follow.Question) { q.GiveUp(attempt.ErrTimeUsedUp) },
		"no time to ask": func(q *follow.Question) { q.Attempt() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := begin(t)
				over, cancel := context.WithCancel(t.Context())
				cancel()
				in.Caller.Starting = over
				var ended follow.Ending
				in.Take(events.NewFollowUp(created("task-1", 8*24*time.Hour)), func(e follow.Ending) { ended = e })
				ask(in.Questions[0])
				in.Source.Flush()
				assert.Empty(t, in.tasks.asked)
				assert.Equal(t, follow.Pending, ended.Outcome)
				assert.Len(t, in.source.messages, 1)
			})
		})
	}
}

func TestFollower_AsksOnceForATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		in.tasks.states["task-1"] = follow.TaskState{Status: "finish"}
		assert.Len(t, in.answer(time.Minute, "task-1", "task-2", "task-1"), 3)
		assert.ElementsMatch(t, []string{"task-1", "task-2"}, in.tasks.asked)
		assert.Len(t, in.results.messages, 2, "two events with one ClientToken have one task and two ends")
	})
}

func TestFollower_WarnsOnceOfARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		in.tasks.fail = &cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission", HTTPStatusCode: 403, Fix: "grant dbs:X"}
		in.answer(time.Minute, "task-1", "task-2", "task-3")
		assert.Equal(t, 1, strings.Count(in.log.String(), "tasks cannot be followed"))
		assert.Contains(t, in.log.String(), "grant dbs:X")
		assert.Len(t, in.source.messages, 3)
	})
}

func TestFollower_SaysWhatIsNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		in.tasks.states["task-1"] = follow.TaskState{Status: "finish"}
		gone := &cloud.Error{Kind: cloud.OperatorFault, Service: "MNS", Code: "QueueNotExist"}
		in.results.refuse, in.source.refuse = gone, gone
		for _, e := range in.answer(time.Minute, "task-1", "task-2") {
			assert.ErrorContains(t, e.Err, "QueueNotExist")
		}
	})
}

func TestFollower_WithoutASourceQueueChainsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		in.Source = nil
		in.tasks.states["task-1"] = follow.TaskState{Status: "finish"}
		outcomes := map[follow.Outcome]int{}
		for _, e := range in.answer(time.Minute, "task-1", "task-2", "task-3") {
			require.NoError(t, e.Err)
			assert.Zero(t, e.Delay)
			outcomes[e.Outcome]++
		}
		assert.Equal(t, map[follow.Outcome]int{follow.Finished: 1, follow.Pending: 2}, outcomes)
		assert.Equal(t, 1, strings.Count(in.log.String(), "SOURCE_QUEUE is not set"))
	})
}

func TestDelay_EndsOnAGridThatCopiesShare(t *testing.T) {
	base := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	for age, step := range map[time.Duration]time.Duration{
		0: time.Minute, 10*time.Minute - 1: time.Minute,
		10 * time.Minute: 5 * time.Minute, time.Hour - 1: 5 * time.Minute,
		time.Hour: 15 * time.Minute, 24*time.Hour - 1: 15 * time.Minute,
		24 * time.Hour: time.Hour, 6 * 24 * time.Hour: time.Hour,
	} {
		due := map[int64]bool{}
		for s := range 3 * int(step/time.Second) {
			now := base.Add(time.Duration(s) * time.Second)
			delay := follow.Delay("1jydacm0001", age, now)
			assert.GreaterOrEqual(t, delay, 30*time.Second)
			assert.Less(t, delay, 30*time.Second+step)
			due[now.Add(delay).Unix()] = true
		}
		assert.LessOrEqual(t, len(due), 4, "of a step of %v", step)
		for at := range due {
			assert.Zero(t, (at-slices.Min(slices.Collect(maps.Keys(due))))%int64(step/time.Second), "of a step of %v", step)
		}
	}
	assert.NotEqual(t, follow.Delay("task-1", 0, base), follow.Delay("task-2", 0, base), "tasks do not fall due all at once")
}

func TestFollower_EndsAreInTheEncodingOfResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		in.Encoding = events.EncodingBase64
		in.tasks.states["task-1"] = follow.TaskState{Status: "finish"}
		in.answer(time.Minute, "task-1")
		text, err := base64.StdEncoding.DecodeString(in.results.messages[0].Body)
		require.NoError(t, err)
		assert.Contains(t, string(text), events.TypeTaskFinished)
	})
}

func TestFollower_BoundsWhatDBSAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		long := strings.Repeat("x", 5000)
		in.tasks.states["task-1"] = follow.TaskState{Status: "stop", ErrMessage: long, BackupPlanID: long}
		in.tasks.states["task-2"] = follow.TaskState{Status: long}
		for _, e := range in.answer(time.Minute, "task-1", "task-2") {
			assert.LessOrEqual(t, len(e.Data.ErrMessage), 1024)
			assert.LessOrEqual(t, len(e.Data.BackupPlanID), 128)
			assert.LessOrEqual(t, len(e.Data.BackupSetDownloadStatus), 128)
		}
	})
}

// A call that was never made is not refused.
func TestFollower_DoesNotWarnOfWhatStoppedTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		stopped, stop := context.WithCancelCause(t.Context())
		stop(&cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission"})
		in.Caller.Starting = stopped
		in.answer(time.Minute, "task-1")
		assert.NotContains(t, in.log.String(), "tasks cannot be followed")
	})
}

func TestFollower_NamesTheCodeOfARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := begin(t)
		in.tasks.fail = &cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission", HTTPStatusCode: 403}
		in.answer(time.Minute, "task-1")
		assert.Contains(t, in.log.String(), `"errCode":"NoPermission"`)
	})
}
