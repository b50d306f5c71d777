package handler_test

import (
	"context"
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

// unknown is a refusal in the form of DBS, with a code that no table has.
func unknown() error {
	return &cloud.Error{Service: "DBS", Code: "Odd.Code", Message: "odd", HTTPStatusCode: 400, Unrecognized: true}
}

func TestHandler_AnUnknownRefusalEndsWithTime(t *testing.T) {
	announcement := `{"specversion":"1.0","id":"job/mysql-bin.000054","source":"acs:dbs:cn-hangzhou:1234567890123456:backupplan/dbsqdss5tmh0001",` +
		`"type":"dbs:IncrementBackupSet:Completed","data":` + item(54) + `}`
	for name, c := range map[string]struct {
		body        string
		age         time.Duration // 0: the message has no time
		open        bool
		deadLetters int
	}{
		"a young message":         {item(1), 30 * time.Minute, true, 0},
		"a message of an hour":    {item(1), time.Hour, false, 1},
		"a message without time":  {item(1), 0, true, 0},
		"an announcement at once": {announcement, time.Minute, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.dbs.before = func(context.Context, events.Request) error { return unknown() }
				e := element{ID: "1", MessageID: "1", Body: c.body}
				if c.age > 0 {
					e.Time = time.Now().Add(-c.age).UTC().Format(time.RFC3339)
				}
				summary, err := d.handle(t, time.Minute, stream(e))
				assert.Equal(t, 3, d.dbs.total, "attempts")
				assert.Len(t, d.deadLetters.messages, c.deadLetters)
				if c.open {
					var redelivery *handler.RedeliveryError
					require.ErrorAs(t, err, &redelivery)
					assert.Empty(t, d.results.messages)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, 1, summary.Failed)
				require.Len(t, d.results.messages, 1)
				assert.Contains(t, d.results.messages[0], "Odd.Code")
				assert.Equal(t, "ERROR", d.lines(t, "event failed")[0]["level"])
			})
		})
	}
}

// Events that share a token and a request end alike, whatever their ages; a rival with
// another request gets a call of its own once the first has failed for good.
func TestHandler_EventsThatShareAnUnknownRefusalEndAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(_ context.Context, request events.Request) error {
			time.Sleep(time.Millisecond)
			if request.BackupSetName == "a" {
				return unknown()
			}
			return nil
		}
		body := func(name string) string {
			return fmt.Sprintf(`{"BackupSetId":"x","BackupSetName":%q,"ClientToken":"shared"}`, name)
		}
		at := func(age time.Duration) string { return time.Now().Add(-age).UTC().Format(time.RFC3339) }
		summary, err := d.handle(t, time.Minute, stream(
			element{ID: "young", MessageID: "1", Time: at(time.Minute), Body: body("a")},
			element{ID: "old", MessageID: "2", Time: at(2 * time.Hour), Body: body("a")},
			element{ID: "rival", MessageID: "3", Time: at(time.Minute), Body: body("b")}))
		require.NoError(t, err)
		assert.Equal(t, 2, summary.Failed)
		assert.Equal(t, 1, summary.Created)
		assert.Equal(t, 4, d.dbs.total)
	})
}

// The trigger delivers a batch again until it succeeds: a stream with one event that DBS
// refuses with an unknown code must not fail for a day.
func TestHandler_OneUnknownRefusalFailsFewInvocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(_ context.Context, request events.Request) error {
			if request.ClientToken == "odd" {
				return unknown()
			}
			return nil
		}
		payload := stream(element{ID: "odd", MessageID: "odd", Time: time.Now().UTC().Format(time.RFC3339), Body: item(0)},
			element{ID: "good", MessageID: "good", Body: item(1)})
		failed := 0
		for pause := time.Second; ; pause = min(2*pause, 512*time.Second) { // EXPONENTIAL_DECAY_RETRY of the trigger
			if _, err := d.handle(t, 5*time.Minute, payload); err == nil {
				break
			}
			failed++
			time.Sleep(pause)
		}
		assert.LessOrEqual(t, failed, 20)
		assert.Equal(t, []string{item(0)}, d.deadLetters.messages)
	})
}

func TestHandler_AnUnrecognizedRefusalGetsThreeAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(_ context.Context, request events.Request) error {
			if request.ClientToken == "event-7" {
				return &cloud.Error{Service: "DBS", Code: "Instance.Strange", HTTPStatusCode: 400, Unrecognized: true}
			}
			return nil
		}
		started := time.Now()
		summary, err := d.handle(t, 5*time.Minute, batch(items(100)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		assert.Contains(t, err.Error(), "Instance.Strange")
		assert.Equal(t, 3, d.dbs.calls["event-7"])
		assert.Equal(t, 99, summary.Created)
		assert.Less(t, time.Since(started), 5*time.Second)
		assert.Empty(t, d.deadLetters.messages, "it may be our table that is incomplete")
	})
}

func TestHandler_ARefusedAnnouncementIsNotDeadLettered(t *testing.T) {
	d := deploy(nil)
	d.dbs.before = func(context.Context, events.Request) error { return permanent("Param.NotFound") }
	announcement := `{"specversion":"1.0","id":"job/mysql-bin.000054","source":"acs:dbs:cn-hangzhou:1234567890123456:backupplan/dbsqdss5tmh0001",` +
		`"type":"dbs:IncrementBackupSet:Completed","data":` + item(54) + `}`
	summary, err := d.Handle(t.Context(), "", batch(announcement))
	require.NoError(t, err)
	assert.Equal(t, 1, summary.Failed)
	assert.Empty(t, d.deadLetters.messages, "DBS still has the set, and the next run would announce it again")
	assert.Equal(t, "Param.NotFound", d.results.results(t)["job/mysql-bin.000054"].Data.ErrCode)
	require.Len(t, d.lines(t, "event failed"), 1)
	assert.Equal(t, "ERROR", d.lines(t, "event failed")[0]["level"])

	// One that cannot be read is nobody's announcement.
	odd := strings.Replace(announcement, `"COMPLETED"`, `"ODD"`, 1)
	require.NotEqual(t, announcement, odd)
	_, err = d.Handle(t.Context(), "", batch(odd))
	require.NoError(t, err)
	require.Len(t, d.deadLetters.messages, 1)
	assert.Equal(t, odd, d.deadLetters.messages[0])
}
