package handler_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
)

func TestHandler_TheSameEventMakesOneTask(t *testing.T) {
	event := func(id, token string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"data":{"BackupSetId":"a","BackupSetName":"b","ClientToken":%q}}`, id, token)
	}
	for name, c := range map[string]struct {
		payload                     string
		latency                     time.Duration // of DBS
		created, alreadyDone, tasks int
		results                     int
	}{
		"twice in a batch":               {"[" + event("1", "") + "," + event("1", "") + "]", 0, 1, 1, 1, 1},
		"twice, slow to be answered":     {"[" + event("1", "") + "," + event("1", "") + "]", time.Second, 1, 1, 1, 1},
		"two events with one token":      {"[" + event("1", "t") + "," + event("2", "t") + "]", 0, 2, 0, 1, 2},
		"one token, slow to be answered": {"[" + event("1", "t") + "," + event("2", "t") + "]", time.Second, 2, 0, 1, 2},
		"two events":                     {"[" + event("1", "") + "," + event("2", "") + "]", 0, 2, 0, 2, 2},
		"three, one of them repeated":    {"[" + event("1", "t") + "," + event("2", "t") + "," + event("1", "t") + "]", 0, 2, 1, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.dbs.before = func(context.Context, events.Request) error {
					time.Sleep(c.latency)
					return nil
				}
				summary, err := d.Handle(t.Context(), "", []byte(c.payload))
				require.NoError(t, err)
				assert.Equal(t, c.created, summary.Created)
				assert.Equal(t, c.alreadyDone, summary.AlreadyDone)
				assert.Equal(t, c.tasks, d.dbs.total, "DBS calls")
				assert.Len(t, d.results.messages, c.results)
				tasks := map[string]bool{}
				for _, result := range d.results.results(t) {
					tasks[result.Data.BackupSetDownloadTaskID] = true
				}
				assert.Len(t, tasks, c.tasks)
			})
		})
	}
}

func TestHandler_ARepeatEndsAsItsEventEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error { return transient("ServiceUnavailable") }
		twice := stream(element{ID: "1", MessageID: "1", Body: item(1)}, element{ID: "1", MessageID: "1", Body: item(1)})
		summary, err := d.handle(t, 10*time.Second, twice)
		require.ErrorContains(t, err, "2 of 2 events are open")
		assert.Zero(t, summary.AlreadyDone)

		d.dbs.before = func(context.Context, events.Request) error { return permanent("Param.NotFound") }
		summary, err = d.handle(t, 10*time.Second, twice)
		require.NoError(t, err)
		assert.Equal(t, 1, summary.Failed)
		assert.Equal(t, 1, summary.AlreadyDone)
		assert.Equal(t, "Param.NotFound", summary.Results[1].ErrCode)
		assert.Len(t, d.deadLetters.messages, 1)
	})
}

// An event under the token of another one, with another request, waits for it.
func TestHandler_DecidesAConflictWhenTheFirstCallHasEnded(t *testing.T) {
	wrong, corrected := `{"BackupSetId":"a","BackupSetName":"wrong","ClientToken":"t"}`, `{"BackupSetId":"a","BackupSetName":"b","ClientToken":"t"}`
	for name, c := range map[string]struct {
		first                error // what DBS says to the first event
		created, failed, all int
		open                 string
	}{
		"the first created a task":  {nil, 1, 1, 1, ""},
		"the first failed for good": {permanent("Param.NotFound"), 1, 1, 2, ""},
		"the first is open":         {transient("ServiceUnavailable"), 0, 0, 0, "2 of 2 events are open"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.dbs.before = func(_ context.Context, request events.Request) error {
					time.Sleep(time.Second)
					if request.BackupSetName == "wrong" {
						return c.first
					}
					return nil
				}
				summary, err := d.handle(t, 10*time.Second, stream(element{ID: "1", MessageID: "1", Body: wrong}, element{ID: "2", MessageID: "2", Body: corrected}))
				if c.open != "" {
					require.ErrorContains(t, err, c.open)
					for _, line := range d.lines(t, "event open, to be delivered again") {
						assert.Equal(t, "ServiceUnavailable", line["errCode"])
					}
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, c.created, summary.Created)
				assert.Equal(t, c.failed, summary.Failed)
				assert.Len(t, d.dbs.tasks, c.created)
				if c.all > 0 {
					assert.Equal(t, c.all, d.dbs.total)
				}
			})
		})
	}
}

func TestHandler_ALateEventSharesTheAnswerToItsRequest(t *testing.T) {
	d := deploy(func(c *handler.Config) { c.Concurrency = 1 }) // the first call ends before the third event is read
	d.dbs.before = func(_ context.Context, request events.Request) error {
		if request.ClientToken == "t" {
			return permanent("Param.NotFound")
		}
		return nil
	}
	same, other := `{"BackupSetId":"a","BackupSetName":"b","ClientToken":"t"}`, `{"BackupSetId":"a","BackupSetName":"c","ClientToken":"u"}`
	summary, err := d.Handle(t.Context(), "", stream(element{ID: "1", MessageID: "1", Body: same},
		element{ID: "2", MessageID: "2", Body: other}, element{ID: "3", MessageID: "3", Body: same}))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Created)
	assert.Equal(t, 2, summary.Failed)
	assert.Equal(t, 2, d.dbs.total)
}

func TestHandler_RejectsOneTokenForTwoRequests(t *testing.T) {
	d := deploy(nil)
	first, second := `{"BackupSetId":"a","BackupSetName":"b"}`, `{"BackupSetId":"a","BackupSetName":"c"}`
	payload := fmt.Sprintf(`[{"specversion":"1.0","id":"1","data":{"messageBody":%q}},{"specversion":"1.0","id":"1","data":{"messageBody":%q}}]`, first, second)
	summary, err := d.Handle(t.Context(), "", []byte(payload))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Created)
	assert.Equal(t, 1, summary.Failed)
	assert.Equal(t, []string{second}, d.deadLetters.messages)
	results := d.results.results(t)
	require.Len(t, results, 2, "the failure must not be taken for a repeat of the success")
	assert.Equal(t, "task-1", results["1"].Data.BackupSetDownloadTaskID)
	for id, result := range results {
		if id != "1" {
			assert.Equal(t, events.CodeConflict, result.Data.ErrCode)
			assert.Equal(t, "1", result.Data.EventID)
		}
	}
}

func TestHandler_EveryEventHasAResultIDOfItsOwn(t *testing.T) {
	d := deploy(nil)
	body := `{"BackupSetId":"a","BackupSetName":"b","ClientToken":"t"}`
	other := `{"BackupSetId":"a","BackupSetName":"c","ClientToken":"t"}`
	payload := fmt.Sprintf(`[{"specversion":"1.0","id":"1","data":{"messageBody":%q}},{"specversion":"1.0","id":"2","data":{"messageBody":%q}},{"specversion":"1.0","id":"3","data":{"messageBody":%q}}]`, body, other, other)
	_, err := d.Handle(t.Context(), "", []byte(payload))
	require.NoError(t, err)
	results := d.results.results(t)
	require.Len(t, results, 3)
	for _, id := range []string{"2", "3"} {
		assert.Equal(t, events.CodeConflict, results[id].Data.ErrCode)
	}
}

func TestHandler_AConflictStaysOneAcrossDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		payload := []byte(`[{"specversion":"1.0","id":"1","data":{"messageBody":"{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\"}"}},{"specversion":"1.0","id":"1","data":{"messageBody":"{\"BackupSetId\":\"a\",\"BackupSetName\":\"c\"}"}}]`)
		d.deadLetters.before = func(context.Context) error { return transient("InternalError") }
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Handle(ctx, "", payload)
		require.Error(t, err)
		d.deadLetters.before = nil
		summary, err := d.Handle(t.Context(), "", payload)
		require.NoError(t, err)
		assert.Equal(t, 1, summary.AlreadyDone)
		assert.Equal(t, 1, summary.Failed)
		assert.Equal(t, 1, d.dbs.total, "the second event never reaches DBS")
		assert.Len(t, d.results.results(t), 2)
	})
}

func TestHandler_AFailureOfAnEarlierDeliveryTakesNoToken(t *testing.T) {
	d := deploy(nil)
	wrong := element{ID: "1", MessageID: "1", Body: `{"BackupSetId":"a","BackupSetName":"wrong","ClientToken":"t"}`}
	d.dbs.before = func(context.Context, events.Request) error { return permanent("Param.NotFound") }
	_, err := d.Handle(t.Context(), "", stream(wrong))
	require.NoError(t, err)
	d.dbs.before = nil
	corrected := element{ID: "2", MessageID: "2", Body: `{"BackupSetId":"a","BackupSetName":"b","ClientToken":"t"}`}
	summary, err := d.Handle(t.Context(), "", stream(wrong, corrected))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.AlreadyDone)
	assert.Equal(t, 1, summary.Created)
}

func TestHandler_AnotherDataFormatIsAnotherRequest(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "", stream(element{ID: "1", Body: `{"BackupSetId":"a","BackupSetName":"b"}`}))
	require.NoError(t, err)
	summary, err := d.Handle(t.Context(), "", stream(element{ID: "1", Body: `{"BackupSetId":"a","BackupSetName":"b","BackupSetDataFormat":"SQL"}`}))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed, "DBS refuses the token")
	assert.Len(t, d.deadLetters.messages, 1)
}

// Events of one token follow each other: each waits for the one before it.
func TestHandler_EventsOfOneTokenFollowEachOther(t *testing.T) {
	for name, c := range map[string]struct {
		refused         []string // by DBS
		created, failed int
		calls           int
	}{
		"the first takes the token": {nil, 50, 50, 1},
		"the second takes it":       {[]string{"a"}, 50, 50, 2},
		"the token fits none":       {[]string{"a", "b"}, 0, 100, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.dbs.before = func(_ context.Context, request events.Request) error {
					time.Sleep(20 * time.Millisecond)
					if slices.Contains(c.refused, request.BackupSetName) {
						return permanent("Param.NotFound")
					}
					return nil
				}
				var all []element
				for i := range 100 {
					id := strconv.Itoa(i)
					all = append(all, element{ID: id, MessageID: id, Body: fmt.Sprintf(
						`{"BackupSetId":"set","BackupSetName":%q,"ClientToken":"t"}`, string("ab"[i%2]))})
				}
				summary, err := d.handle(t, time.Minute, stream(all...))
				require.NoError(t, err)
				assert.Equal(t, c.created, summary.Created)
				assert.Equal(t, c.failed, summary.Failed)
				assert.Equal(t, c.calls, d.dbs.total)
				assert.Len(t, d.results.results(t), 100)
				assert.Len(t, d.deadLetters.messages, c.failed)
			})
		})
	}
}

// A payload of more events than are told apart at a time is handled whole. The benchmark
// shows what that saves: the row of the different numbers.
func TestHandler_APayloadOfManyEventsIsHandledInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		const numbers = 40_000
		payload := []byte("[" + item(1))
		for i := range numbers {
			payload = strconv.AppendInt(append(payload, ','), int64(i), 10)
		}
		payload = append(payload, ","+item(1)+"]"...)
		summary, err := d.Handle(t.Context(), "", payload)
		require.NoError(t, err)
		assert.Equal(t, numbers, summary.Failed)
		assert.Equal(t, 1, summary.Created)
		assert.Equal(t, 1, summary.AlreadyDone, "the same event again, in another part")
		assert.Equal(t, 1, d.dbs.total)
		assert.Len(t, d.deadLetters.messages, numbers)
	})
}

// Bodies that no queue could hold are not kept: the requests tell the messages apart.
func TestHandler_TwoLargeMessagesOfOneIDAreTwo(t *testing.T) {
	d := deploy(nil)
	large := func(set string) element {
		return element{ID: "1", MessageID: "1", Body: fmt.Sprintf(`{"BackupSetId":"job","BackupSetName":%q,"ClientToken":%q,"padding":%q}`,
			set, set, strings.Repeat("x", 400_000))}
	}
	summary, err := d.Handle(t.Context(), "", stream(large("a"), large("b"), large("a")))
	require.NoError(t, err)
	assert.Equal(t, 2, summary.Created)
	assert.Equal(t, 1, summary.AlreadyDone)
}

// The parts of a large payload follow each other: at the first event of the second all of
// the first has ended, and is published.
func TestHandler_APartEndsBeforeTheNextBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		payload := []byte("[" + item(1))
		for i := range 20_000 - 1 {
			payload = strconv.AppendInt(append(payload, ','), int64(i), 10)
		}
		payload = append(payload, ","+item(2)+"]"...)
		d.dbs.before = func(_ context.Context, request events.Request) error {
			if request.BackupSetName == "mysql-bin.000001" {
				time.Sleep(time.Second)
				return nil
			}
			d.results.mu.Lock()
			defer d.results.mu.Unlock()
			assert.Len(t, d.results.messages, 20_000)
			return nil
		}
		summary, err := d.Handle(t.Context(), "", payload)
		require.NoError(t, err)
		assert.Equal(t, 2, summary.Created)
	})
}
