package handler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/follow"
	"increment-backup-download/handler/outbox"
)

// fakeStates knows the state of tasks; all run until finished is set.
type fakeStates struct {
	before func() error // may refuse a call

	mu       sync.Mutex
	finished bool
	calls    int
}

func (f *fakeStates) TaskState(context.Context, string) (follow.TaskState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.before != nil {
		if err := f.before(); err != nil {
			return follow.TaskState{}, err
		}
	}
	if f.finished {
		return follow.TaskState{Status: "finish"}, nil
	}
	return follow.TaskState{Status: "running"}, nil
}

// delayedQueue is a source queue: it holds messages back for their delay.
type delayedQueue struct {
	inspected
	before func() error // may refuse a request
	after  func() error // may lose the answer

	mu       sync.Mutex
	messages []dueMessage
	sent     int
}

type dueMessage struct {
	element
	due time.Time
}

func (q *delayedQueue) Send(_ context.Context, messages []outbox.Message) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	answers := make([]error, len(messages))
	fail := func(err error) []error {
		for i := range answers {
			answers[i] = err
		}
		return answers
	}
	if q.before != nil {
		if err := q.before(); err != nil {
			return fail(err)
		}
	}
	for _, m := range messages {
		q.add(m.Body, m.Delay)
	}
	if q.after != nil {
		return fail(q.after())
	}
	return answers
}

func (q *delayedQueue) add(body string, delay time.Duration) {
	q.sent++
	id := fmt.Sprintf("message-%d", q.sent)
	q.messages = append(q.messages, dueMessage{
		element{ID: id, MessageID: id, Time: time.Now().UTC().Format(time.RFC3339Nano), Body: body}, time.Now().Add(delay)})
}

// take returns up to n messages that are due.
func (q *delayedQueue) take(n int) (due []element) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var left []dueMessage
	for _, m := range q.messages {
		if len(due) < n && !m.due.After(time.Now()) {
			due = append(due, m.element)
		} else {
			left = append(left, m)
		}
	}
	q.messages = left
	return due
}

// followed is a deployment that follows its tasks.
type followed struct {
	*deployment
	source *delayedQueue
	states *fakeStates
}

func deployFollowed() *followed {
	d := &followed{deployment: deploy(nil), source: &delayedQueue{}, states: &fakeStates{}}
	d.restart()
	return d
}

func (d *followed) restart() {
	d.withPorts(nil, func(ports *handler.Ports) { ports.Source, ports.States = d.source, d.states })
}

func TestFollow_ATaskToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		summary, err := d.handle(t, time.Minute, batch(item(54)))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Created)
		require.Len(t, d.source.messages, 1)

		time.Sleep(2 * time.Minute)
		summary, err = d.handle(t, time.Minute, stream(d.source.take(10)...))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Pending)
		assert.Equal(t, 1, summary.Events)
		assert.Equal(t, "pending", summary.Results[0].Outcome)
		require.Len(t, d.lines(t, "task pending"), 1)
		assert.Equal(t, "DEBUG", d.lines(t, "task pending")[0]["level"])
		assert.Equal(t, "running", d.lines(t, "task pending")[0]["status"])
		assert.NotZero(t, d.lines(t, "task pending")[0]["delaySeconds"])

		d.states.finished = true
		time.Sleep(2 * time.Minute)
		summary, err = d.handle(t, time.Minute, stream(d.source.take(10)...))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Finished)
		assert.Empty(t, d.source.messages, "the chain has ended")
		line := d.lines(t, "task finished")[0]
		assert.Equal(t, "INFO", line["level"])
		assert.Equal(t, "event-0", line["eventId"])
		assert.Equal(t, "task-1", line["taskId"])
		assert.Equal(t, "mysql-bin.000054", line["backupSetName"])
		assert.InDelta(t, 4, line["ageMinutes"], 1)
		require.Len(t, d.results.messages, 2)
		assert.Contains(t, d.results.messages[1], "TaskFinished")
	})
}

func TestFollow_WithoutASourceQueueAllIsAsBefore(t *testing.T) {
	d := deploy(nil)
	summary, err := d.handle(t, time.Minute, batch(items(3)...))
	require.NoError(t, err)
	assert.Equal(t, 3, summary.Created)
	assert.Len(t, d.results.messages, 3)
}

func TestFollow_CopiesInABatchAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		_, err := d.handle(t, time.Minute, batch(item(54)))
		require.NoError(t, err)
		body := d.source.take(0)
		assert.Empty(t, body)
		copied := d.source.messages[0].Body
		d.source.add(copied, 0)
		d.source.add(copied, 0)
		time.Sleep(2 * time.Minute)
		summary, err := d.handle(t, time.Minute, stream(d.source.take(10)...))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Pending)
		assert.Equal(t, 2, summary.AlreadyDone)
		assert.Equal(t, 1, d.states.calls)
		assert.Len(t, d.source.messages, 1)
	})
}

func TestFollow_ARepeatOfAnEventStartsNoChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		for range 3 {
			_, err := d.handle(t, time.Minute, batch(item(54)))
			require.NoError(t, err)
		}
		assert.Len(t, d.source.messages, 1)
	})
}

// A follow-up's call fails no invocation, stops no creation, and comes after the calls
// of all events.
func TestFollow_NeverStopsCreating(t *testing.T) {
	for name, failure := range map[string]error{
		"refused": operatorFault("NoPermission"), "throttled": throttled(0), "wrong": permanent("InvalidParameter"), "unknown": errors.New("odd"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deployFollowed()
				_, err := d.handle(t, time.Minute, batch(item(0)))
				require.NoError(t, err)
				time.Sleep(2 * time.Minute)
				due := d.source.take(10)

				var created atomic.Int32
				d.dbs.before = func(context.Context, events.Request) error { created.Add(1); return nil }
				d.states.before = func() error {
					assert.Greater(t, int(created.Load()), 20-4, "no event's call waits")
					return failure
				}
				for i := range 20 {
					due = append(due, element{ID: fmt.Sprint("new-", i), MessageID: fmt.Sprint("new-", i), Body: item(i + 1)})
				}
				summary, err := d.handle(t, time.Minute, stream(due...))
				require.NoError(t, err)
				assert.Equal(t, 20, summary.Created)
				assert.Equal(t, 1, summary.Pending)
				assert.Equal(t, 1, d.states.calls, "one attempt")
				assert.Len(t, d.source.messages, 21)
			})
		})
	}
}

// A follow-up's call comes after the last attempt of all events: one that hangs or is
// throttled holds a place, or lengthens a pause, that an event waits for.
func TestFollow_WaitsForEventsThatAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		_, err := d.handle(t, time.Minute, batch(items(20)...))
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		due := d.source.take(20)
		due = append(due, element{ID: "new", MessageID: "new", Body: item(20)})
		failures := 0
		d.dbs.before = func(context.Context, events.Request) error {
			if failures++; failures <= 6 {
				return transient("ServiceUnavailable")
			}
			return nil
		}
		d.states.before = func() error {
			assert.Len(t, d.dbs.tasks, 21, "the event has its task")
			return throttled(0)
		}
		summary, err := d.handle(t, 5*time.Minute, stream(due...))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Created)
		assert.Equal(t, 20, summary.Pending)
	})
}

func TestFollow_WhatCannotBePublishedIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		d.source.before = func() error { return operatorFault("QueueNotExist") }
		_, err := d.handle(t, time.Minute, batch(item(54)))
		var fault *handler.OperatorFaultError
		require.ErrorAs(t, err, &fault)
		assert.Contains(t, d.log.String(), "its follow-up is not published")
		assert.Contains(t, d.log.String(), "task-1")

		d.source.before = nil
		_, err = d.handle(t, time.Minute, batch(item(54)))
		require.NoError(t, err)
		assert.Len(t, d.dbs.tasks, 1)
		require.Len(t, d.source.messages, 1)

		d.states.finished = true
		d.results.before = func(context.Context) error { return transient("InternalServerError") }
		time.Sleep(2 * time.Minute)
		due := d.source.take(10)
		_, err = d.handle(t, time.Minute, stream(due...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		d.results.before = nil
		summary, err := d.handle(t, time.Minute, stream(due...))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Finished)
		summary, err = d.handle(t, time.Minute, stream(due...))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.AlreadyDone, "a message that is delivered again")
	})
}

func TestFollow_ABadFollowUpIsDeadLetteredWithoutAResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		bad := `{"specversion":"1.0","id":"1","source":"s","type":"dbs:IncrementBackupSetDownloadTask:FollowUp","data":{"BackupSetDownloadTaskId":"t"}}`
		summary, err := d.handle(t, time.Minute, batch(bad))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Failed)
		assert.Equal(t, []string{bad}, d.deadLetters.messages)
		assert.Empty(t, d.results.messages, "its event has one")
		assert.Equal(t, "ERROR", d.lines(t, "event failed")[0]["level"])

		_, err = d.handle(t, time.Minute, []byte(bad))
		var refused *handler.EventError
		require.ErrorAs(t, err, &refused, "by hand")
	})
}

// TestFollow_ChainsBecomeOne plays days of a source queue: batches that are delivered
// again, each time to a new instance; an event that stays stuck beside them; sends whose
// answer is lost, or that fail between a result and its follow-up. Once the faults are
// over each task has one live follow-up, and at the end each task has an end.
func TestFollow_ChainsBecomeOne(t *testing.T) {
	for seed := range 12 {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(seed), 11))
				d := deployFollowed()
				began := time.Now()
				faults := began.Add(time.Duration(1+random.IntN(12)) * time.Hour)
				over := func() bool { return time.Now().After(faults) }
				sometimes := func() error {
					if !over() && random.IntN(10) == 0 {
						return transient("InternalServerError")
					}
					return nil
				}
				d.source.before, d.source.after = sometimes, sometimes
				d.results.before = func(context.Context) error { return sometimes() }
				d.dbs.before = func(_ context.Context, request events.Request) error {
					if !over() && strings.Contains(request.BackupSetName, "stuck") {
						return transient("ServiceUnavailable")
					}
					return nil
				}
				for i := range 30 {
					name := fmt.Sprintf("mysql-bin.%06d", i)
					if i == 17 {
						name = "stuck"
					}
					d.source.add(fmt.Sprintf(`{"BackupSetId":"t4yh0g0g0001","BackupSetName":%q}`, name), time.Duration(random.IntN(7200))*time.Second)
				}
				// play delivers what is due, and again what fails, as the trigger does.
				play := func(until time.Time) {
					for time.Now().Before(until) {
						due := d.source.take(100)
						if len(due) == 0 {
							time.Sleep(time.Second)
							continue
						}
						for pause := time.Second; ; pause = min(2*pause, 512*time.Second) {
							d.restart()
							if _, err := d.handle(t, 5*time.Minute, stream(due...)); err == nil {
								break
							}
							time.Sleep(pause)
						}
					}
				}
				play(faults.Add(4 * time.Hour))
				chains := map[string]int{}
				for _, m := range d.source.messages {
					var f struct{ Data events.ResultData }
					require.NoError(t, json.Unmarshal([]byte(m.Body), &f))
					chains[f.Data.BackupSetDownloadTaskID]++
				}
				assert.Len(t, chains, 30)
				for task, n := range chains {
					assert.Equal(t, 1, n, task)
				}

				d.states.finished = true
				play(time.Now().Add(3 * time.Hour))
				assert.Empty(t, d.source.messages)
				ends := map[string]int{}
				for _, m := range d.results.messages {
					var r events.Result
					require.NoError(t, json.Unmarshal([]byte(m), &r))
					if r.Type == events.TypeTaskFinished {
						ends[r.Data.BackupSetDownloadTaskID]++
					}
				}
				assert.Len(t, ends, 30)
				assert.Len(t, d.dbs.tasks, 30)
			})
		})
	}
}

// endedStates says that every task has ended, in the way of its status.
type endedStates string

func (s endedStates) TaskState(context.Context, string) (follow.TaskState, error) {
	return follow.TaskState{Status: string(s), ErrMessage: "out of disk"}, nil
}

func TestFollow_ATaskWithoutAFileIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		status string
		after  time.Duration
		line   string
		kind   string
	}{
		"stopped":    {"stop", 2 * time.Minute, "task stopped", events.TypeTaskStopped},
		"unfinished": {"running", 8 * 24 * time.Hour, "task unfinished", events.TypeTaskUnfinished},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deployFollowed()
				d.withPorts(nil, func(p *handler.Ports) { p.Source, p.States = d.source, endedStates(c.status) })
				_, err := d.handle(t, time.Minute, batch(item(54)))
				require.NoError(t, err)
				time.Sleep(c.after)
				summary, err := d.handle(t, time.Minute, stream(d.source.take(10)...))
				require.NoError(t, err)
				assert.Equal(t, 1, summary.Stopped)
				require.Len(t, d.lines(t, c.line), 1)
				line := d.lines(t, c.line)[0]
				assert.Equal(t, "ERROR", line["level"])
				assert.Equal(t, c.status, line["status"])
				assert.InDelta(t, c.after.Minutes(), line["ageMinutes"], 1)
				assert.Empty(t, d.source.messages)
				assert.Contains(t, d.results.messages[1], c.kind)
			})
		})
	}
}

func TestFollow_AFailedEventStartsNoChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		summary, err := d.handle(t, time.Minute, batch("rubbish"))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Failed)
		assert.Empty(t, d.source.messages)
	})
}

func TestFollow_AChainThatCannotGoOnIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		_, err := d.handle(t, time.Minute, batch(item(54)))
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		due := d.source.take(10)
		d.source.before = func() error { return transient("InternalServerError") }
		_, err = d.handle(t, time.Minute, stream(due...))
		require.ErrorContains(t, err, "its follow-up is not published")
		d.source.before = nil
		summary, err := d.handle(t, time.Minute, stream(due...))
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Pending)
		assert.Len(t, d.source.messages, 1)
	})
}

// Follow-ups are one only if source, id and task are the same.
func TestFollow_DifferentFollowUpsInABatchAreKept(t *testing.T) {
	for name, replace := range map[string][2]string{
		"another source": {`"source":"acs:fc:`, `"source":"acs:other:`},
		"another id":     {`"id":"event-0"`, `"id":"event-9"`},
		"another task":   {`"task-1"`, `"task-9"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deployFollowed()
				_, err := d.handle(t, time.Minute, batch(item(54)))
				require.NoError(t, err)
				body := d.source.messages[0].Body
				other := strings.Replace(body, replace[0], replace[1], 1)
				require.NotEqual(t, body, other)
				d.source.add(other, 0)
				time.Sleep(2 * time.Minute)
				summary, err := d.handle(t, time.Minute, stream(d.source.take(10)...))
				require.NoError(t, err)
				assert.Equal(t, 2, summary.Pending)
				assert.Len(t, d.source.messages, 2)
			})
		})
	}
}

// An event that is delivered again beside the follow-up of its task keeps its result's id.
func TestFollow_TakesNoResultIDFromItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deployFollowed()
		_, err := d.handle(t, time.Minute, batch(item(54)))
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		due := append(d.source.take(10), element{ID: "event-0", MessageID: "event-0", Body: item(54)})
		d.restart()
		_, err = d.handle(t, time.Minute, stream(due...))
		require.NoError(t, err)
		require.Len(t, d.results.messages, 2)
		assert.Len(t, d.results.results(t), 1)
	})
}
