package handler_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/outbox"
)

func TestRecord_ForgetsTheOldestAndTheirKeys(t *testing.T) {
	entries, keys := handler.FilledRecord(100_000, 50_000)
	assert.Greater(t, entries, 300)
	assert.Less(t, entries, 700)
	assert.LessOrEqual(t, keys, 2*entries+2, "the keys of what is forgotten")
}

func TestHandler_RemembersWithinBounds(t *testing.T) {
	h := handler.New(handler.Config{Concurrency: 4}, handler.Ports{Tasks: forgetfulDBS{}, Results: discardQueue{}, DeadLetters: discardQueue{}}, discard)
	name := strings.Repeat("😀", 1000)
	before := heap()
	for round := range 180 {
		bodies := make([]string, 100)
		for i := range bodies {
			bodies[i] = fmt.Sprintf(`{"BackupSetJobId":"job","BackupSetId":"%d-%d-%s"}`, round, i, name)
		}
		_, err := h.Handle(t.Context(), "", []byte(strings.ReplaceAll(string(batch(bodies...)), "event-", fmt.Sprintf("%d-", round))))
		require.NoError(t, err)
	}
	grown := int64(heap()) - int64(before)
	runtime.KeepAlive(h)
	assert.Less(t, grown, int64(16<<20), "18,000 names of 4,000 bytes")
}

func TestHandler_KeepsNoBodyOfAnEventThatHasEnded(t *testing.T) {
	const many, size = 1000, 20_000
	d := deploy(func(c *handler.Config) { c.Concurrency = 1 })
	var bodies []string
	for i := range many {
		bodies = append(bodies, fmt.Sprintf(`{"BackupSetId":"job","BackupSetName":"%d","more":%q}`, i, strings.Repeat("x", size)))
	}
	payload := batch(bodies...)
	var before, after uint64
	d.dbs.before = func(context.Context, events.Request) error {
		switch d.dbs.total {
		case 1:
			before = heap()
		case many:
			after = heap()
		}
		return nil
	}
	_, err := d.handle(t, time.Minute, payload)
	require.NoError(t, err)
	runtime.KeepAlive(bodies)
	runtime.KeepAlive(payload)
	assert.Less(t, int64(after)-int64(before), int64(many*size/2))
}

func heap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // the first moves pools to their victim caches
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// forgetfulDBS and discardQueue keep nothing.
type forgetfulDBS struct{}

func (forgetfulDBS) CreateTask(context.Context, events.Request) (handler.Task, error) {
	return handler.Task{ID: "1jydacm000001", RequestID: "D6E068C3-25BC-455A-85FE-45F0B22ECB1F"}, nil
}

type discardQueue struct{ inspected }

func (discardQueue) Send(_ context.Context, messages []outbox.Message) []error {
	return make([]error, len(messages))
}

// A task that was created is known, in whichever message its event comes again.
func TestHandler_ACreatedTaskIsKnownInAnyMessage(t *testing.T) {
	d := deploy(nil)
	for _, message := range []string{"first", "second"} {
		_, err := d.Handle(t.Context(), "", fmt.Appendf(nil,
			`[{"messageId":%q,"messageBody":"{\"specversion\":\"1.0\",\"id\":\"inner\",\"data\":{\"BackupSetId\":\"a\",\"BackupSetName\":\"b\"}}"}]`, message))
		require.NoError(t, err)
	}
	assert.Equal(t, 1, d.dbs.total)
	assert.Len(t, d.results.messages, 1)
}

// What looks alike only when it is written without gaps is not the same.
func TestHandler_ARepeatIsTheSameInEachPart(t *testing.T) {
	for name, bodies := range map[string][2]string{
		"IDs that run together": {`{"BackupSetId":"a","BackupSetName":"bc","ClientToken":"t"}`, `{"BackupSetId":"ab","BackupSetName":"c","ClientToken":"t"}`},
		"another token":         {`{"BackupSetId":"a","BackupSetName":"b","ClientToken":"t"}`, `{"BackupSetId":"a","BackupSetName":"b","ClientToken":"u"}`},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(nil)
			summary, err := d.Handle(t.Context(), "", stream(element{ID: "1", Body: bodies[0]}, element{ID: "1", Body: bodies[1]}))
			require.NoError(t, err)
			assert.Zero(t, summary.AlreadyDone)
			assert.Equal(t, 2, summary.Created+summary.Failed)
		})
	}
}

func TestHandler_ARepeatSaysWhatIsKnownOfTheTask(t *testing.T) {
	d := deploy(nil)
	twice := batch(item(1))
	for range 2 {
		summary, err := d.Handle(t.Context(), "", twice)
		require.NoError(t, err)
		assert.Equal(t, "task-1", summary.Results[0].BackupSetDownloadTaskID)
		assert.Equal(t, "D6E068C3", summary.Results[0].RequestID)
	}
	require.Len(t, d.lines(t, "event already done"), 1)
	assert.NotContains(t, d.lines(t, "event already done")[0], "attempts")
}

func TestHandler_ARepeatInABatchMadeNoAttempts(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "", stream(element{ID: "1", MessageID: "1", Body: item(1)}, element{ID: "1", MessageID: "1", Body: item(1)}))
	require.NoError(t, err)
	assert.NotContains(t, d.lines(t, "event already done")[0], "attempts")
}

func TestRecord_HoldsTwentyThousandEventsAndNotManyMore(t *testing.T) {
	entries, _ := handler.FilledRecord(handler.RecordLimit, 100_000)
	assert.Greater(t, entries, 20_000)
	assert.Less(t, entries, 40_000)
	assert.Equal(t, 1, handler.RefilledRecord(100_000, 10_000), "what is put again takes no more room")
}
