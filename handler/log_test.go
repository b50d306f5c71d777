package handler_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"increment-backup-download/events"
	"increment-backup-download/handler"
	"increment-backup-download/handler/cloud"
)

func TestHandler_LogsEachEventAndASummary(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "1-request", batch(item(1), "rubbish secret body", strings.Replace(item(2), "COMPLETED", "INIT", 1)))
	require.NoError(t, err)
	var lines []map[string]any
	for line := range strings.Lines(d.log.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		assert.Equal(t, "1-request", fields["requestId"])
		lines = append(lines, fields)
	}
	require.Len(t, lines, 4)
	find := func(text string) map[string]any {
		for _, line := range lines {
			if line["msg"] == text {
				return line
			}
		}
		t.Fatalf("no line %q in %v", text, lines)
		return nil
	}
	created := find("task created")
	assert.Equal(t, "INFO", created["level"])
	for field, want := range map[string]any{"eventId": "event-0", "clientToken": "event-0", "backupSetId": "t4yh0g0g0001",
		"backupSetName": "mysql-bin.000001", "taskId": "task-1", "dbsRequestId": "D6E068C3", "attempts": 1.0} {
		assert.Equal(t, want, created[field], field)
	}
	assert.Contains(t, created, "durationMs")
	failed := find("event failed")
	assert.Equal(t, "ERROR", failed["level"])
	assert.Equal(t, events.CodeMalformed, failed["errCode"])
	assert.Equal(t, "INFO", find("event ignored: the backup set is not complete")["level"])
	done := find("invocation done")
	for _, count := range []string{"created", "failed", "ignored", "attempts"} {
		assert.InDelta(t, 1, done[count], 0, count)
	}
	assert.NotContains(t, d.log.String(), "secret body")
}

func TestHandler_SaysWhatIsOpenAndForHowLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.before = func(context.Context) error { return transient("InternalServerError") }
		at := func(age time.Duration) string { return time.Now().Add(-age).UTC().Format(time.RFC3339) }
		_, err := d.handle(t, 10*time.Second, stream(
			element{ID: "old", MessageID: "old", Time: at(3 * time.Hour), Body: item(1)},
			element{ID: "new", MessageID: "new", Time: at(time.Minute), Body: item(2)}))
		require.Error(t, err)
		assert.Contains(t, err.Error(), "its result is not published")
		assert.Regexp(t, `task task-[12] exists, DBS RequestId D6E068C3`, err.Error(), "of the one that is named first")
		lines := d.lines(t, "event open, to be delivered again")
		require.Len(t, lines, 2)
		for _, line := range lines {
			assert.Equal(t, "InternalServerError", line["errCode"])
			assert.NotEmpty(t, line["taskId"])
			assert.Equal(t, "D6E068C3", line["dbsRequestId"])
			if line["eventId"] == "old" {
				assert.Equal(t, "ERROR", line["level"])
				assert.InDelta(t, 180, line["ageMinutes"], 1)
			} else {
				assert.Equal(t, "WARN", line["level"])
				assert.NotContains(t, line, "ageMinutes")
			}
		}
		assert.InDelta(t, 180, d.lines(t, "events left open for redelivery")[0]["oldestOpenMinutes"], 1)
	})
}

func TestHandler_NamesTheSetAndTheStatusOfWhatItIgnores(t *testing.T) {
	d := deploy(nil)
	summary, err := d.Handle(t.Context(), "", batch(strings.Replace(item(58), "COMPLETED", " filling", 1)))
	require.NoError(t, err)
	require.Len(t, summary.Results, 1)
	entry := summary.Results[0]
	assert.Equal(t, "ignored", entry.Outcome)
	assert.Equal(t, "mysql-bin.000058", entry.BackupSetName)
	assert.Equal(t, " filling", entry.BackupStatus)
	lines := d.lines(t, "event ignored: the backup set is not complete")
	require.Len(t, lines, 1)
	assert.Equal(t, "mysql-bin.000058", lines[0]["backupSetName"])
	assert.Equal(t, " filling", lines[0]["backupStatus"])
}

// An event whose result is not published was tried.
func TestHandler_AnUnpublishedEventIsNotLoggedAsNotTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		_, err := d.handle(t, 20*time.Second, batch(items(100)...))
		require.Error(t, err)
		lines := d.lines(t, "event open, to be delivered again")
		require.Len(t, lines, 100)
		for _, line := range lines {
			assert.NotEqual(t, "NotTried", line["errCode"], line["error"])
		}
	})
}

// Of more than a hundred open events the others are one line, an ERROR if one is old.
func TestHandler_OneLineForTheOtherOpenEventsKnowsTheOldest(t *testing.T) {
	for name, c := range map[string]struct {
		age   time.Duration // of the last event; 0: it has no time
		level string
	}{"old": {3 * time.Hour, "ERROR"}, "young": {time.Minute, "WARN"}, "unknown": {0, "WARN"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(func(c *handler.Config) { c.Concurrency = 1 })
				d.dbs.before = func(ctx context.Context, _ events.Request) error { <-ctx.Done(); return ctx.Err() }
				var all []element
				for i := range 103 {
					id := fmt.Sprint("event-", i)
					e := element{ID: id, MessageID: id, Body: item(i)}
					if i < 102 { // and after the oldest one without a time
						e.Time = time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
					}
					if i == 101 && c.age > 0 {
						e.Time = time.Now().Add(-c.age).UTC().Format(time.RFC3339)
					}
					all = append(all, e)
				}
				_, err := d.handle(t, 10*time.Second, stream(all...))
				require.Error(t, err)
				assert.Len(t, d.lines(t, "event open, to be delivered again"), 100)
				line := d.lines(t, "more events open, without a line of their own")[0]
				assert.Equal(t, c.level, line["level"])
				if c.level == "ERROR" {
					assert.InDelta(t, 180, line["ageMinutes"], 1)
				}
				assert.InDelta(t, 103, d.lines(t, "events left open for redelivery")[0]["open"], 0)
			})
		})
	}
}

func TestHandler_CountsOnlyThrottledAnswersAsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		answers := []error{transient("InternalError"), throttled(0), nil}
		d.dbs.before = func(context.Context, events.Request) (err error) {
			err, answers = answers[0], answers[1:]
			return err
		}
		_, err := d.handle(t, time.Minute, batch(item(1)))
		require.NoError(t, err)
		done := d.lines(t, "invocation done")[0]
		assert.InDelta(t, 3, done["attempts"], 0)
		assert.InDelta(t, 1, done["throttled"], 0)
		again := d.lines(t, "calling DBS again")
		require.Len(t, again, 2)
		assert.InDelta(t, 2, again[1]["attempts"], 0)
	})
}

// A message that does not say when it was sent is not old.
func TestHandler_AnOpenEventWithoutATimeHasNoAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error { return transient("ServiceUnavailable") }
		_, err := d.handle(t, 5*time.Second, batch(item(1)))
		require.Error(t, err)
		line := d.lines(t, "event open, to be delivered again")[0]
		assert.Equal(t, "WARN", line["level"])
		assert.NotContains(t, line, "ageMinutes")
		assert.NotContains(t, d.lines(t, "events left open for redelivery")[0], "oldestOpenMinutes")
	})
}

func TestHandler_ALongEventIDIsCutInTheLog(t *testing.T) {
	d := deploy(nil)
	_, err := d.Handle(t.Context(), "", stream(element{ID: strings.Repeat("i", 1000), MessageID: "1", Body: item(1)}))
	require.NoError(t, err)
	assert.Len(t, d.lines(t, "task created")[0]["eventId"], 256)
}

// What is not published names the request that created the task, not that to MNS.
func TestHandler_AnOpenEventNamesTheRequestOfItsTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.before = func(context.Context) error {
			return &cloud.Error{Service: "MNS", Code: "InternalServerError", RequestID: "MNS-1"}
		}
		_, err := d.handle(t, 5*time.Second, batch(item(1)))
		require.Error(t, err)
		assert.Equal(t, "D6E068C3", d.lines(t, "event open, to be delivered again")[0]["dbsRequestId"])
		line := d.lines(t, "events left open for redelivery")[0]
		assert.Equal(t, "WARN", line["level"])
		assert.Contains(t, line["error"], "its result is not published")
	})
}

func TestHandler_LogsHowLongAnEventTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error { time.Sleep(3 * time.Second); return nil }
		_, err := d.handle(t, time.Minute, batch(item(1)))
		require.NoError(t, err)
		assert.InDelta(t, 3000, d.lines(t, "task created")[0]["durationMs"], 1)
	})
}
