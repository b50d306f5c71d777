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

func TestHandler_StopsEarlyOnAnOperatorFault(t *testing.T) {
	t.Run("of DBS", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(_ context.Context, request events.Request) error {
				time.Sleep(time.Millisecond)
				switch request.ClientToken {
				case "event-10":
					return operatorFault("Forbidden.RAM")
				case "event-9":
					time.Sleep(time.Second) // in flight: it may finish
				}
				return nil
			}
			bodies := items(100)
			bodies[90] = "rubbish" // after the fault
			summary, err := d.Handle(t.Context(), "", batch(bodies...))
			var fault *handler.OperatorFaultError
			require.ErrorAs(t, err, &fault)
			assert.Contains(t, err.Error(), "Forbidden.RAM")
			assert.Equal(t, 1, strings.Count(err.Error(), "fix it"), "said once, not for each event")
			assert.Contains(t, d.log.String(), `"level":"ERROR","msg":"operator fault"`)
			assert.Contains(t, d.log.String(), `"errCode":"Forbidden.RAM"`)
			assert.LessOrEqual(t, d.dbs.total, 15, "calls after the fault")
			assert.Contains(t, d.results.results(t), "event-9", "what was in flight is published")
			assert.Len(t, d.results.messages, summary.Created)
			assert.Empty(t, d.deadLetters.messages)
			assert.Equal(t, 100, summary.Events)
		})
	})
	t.Run("of the result queue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.dbs.before = func(context.Context, events.Request) error { time.Sleep(time.Millisecond); return nil }
			sends := 0
			d.results.before = func(context.Context) error { sends++; return operatorFault("QueueNotExist") }
			_, err := d.Handle(t.Context(), "", batch(items(400)...))
			var fault *handler.OperatorFaultError
			require.ErrorAs(t, err, &fault)
			assert.Contains(t, err.Error(), "QueueNotExist")
			assert.Less(t, d.dbs.total, 40, "calls whose results could not be published")
			assert.Equal(t, 1, sends, "requests to a queue that does not exist")
		})
	})
	t.Run("of the dead-letter queue", func(t *testing.T) {
		d := deploy(nil)
		d.deadLetters.before = func(context.Context) error { return operatorFault("QueueNotExist") }
		summary, err := d.Handle(t.Context(), "", batch("rubbish", item(1)))
		var fault *handler.OperatorFaultError
		require.ErrorAs(t, err, &fault)
		assert.Len(t, d.results.messages, summary.Created, "the failure is not published before its dead letter")
	})
}

func TestHandler_AFaultEndsTheWaitsOfOtherEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		started := time.Now()
		d.dbs.before = func(context.Context, events.Request) error {
			if time.Since(started) < 30*time.Second {
				return transient("ServiceUnavailable")
			}
			time.Sleep(time.Millisecond)
			return operatorFault(fmt.Sprintf("Forbidden.%d", time.Since(started).Milliseconds()))
		}
		_, err := d.handle(t, 5*time.Minute, batch(items(50)...))
		var fault *handler.OperatorFaultError
		require.ErrorAs(t, err, &fault)
		assert.Less(t, time.Since(started), 35*time.Second)
		waiting := 0
		for _, line := range d.lines(t, "event open, to be delivered again") {
			if line["errCode"] == "ServiceUnavailable" {
				waiting++
			}
		}
		assert.Greater(t, waiting, 40, "each with its own last failure")
	})
}

func TestHandler_AnOperatorFaultSaysCauseAndFixOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error {
			return &cloud.Error{Kind: cloud.OperatorFault, Service: "DBS", Code: "NoPermission", HTTPStatusCode: 403, RequestID: "R-1",
				Message: "You are not authorized. " + strings.Repeat("words ", 100), Fix: "grant dbs:X to the function's role " + strings.Repeat("x", 300)}
		}
		var bodies []string
		for i := range 100 {
			bodies = append(bodies, fmt.Sprintf(`{"BackupSetId":"x","BackupSetName":"%s%d"}`, strings.Repeat("n", 500), i))
		}
		_, err := d.handle(t, time.Minute, batch(bodies...))
		var fault *handler.OperatorFaultError
		require.ErrorAs(t, err, &fault)
		text := err.Error()
		assert.LessOrEqual(t, len(text), 500)
		assert.Contains(t, text, "DBS NoPermission (HTTP 403): You are not authorized.")
		assert.Equal(t, 1, strings.Count(text, "grant dbs:X"))
		assert.Contains(t, text, "100 of 100 events are open: event-")
		assert.Equal(t, 3, strings.Count(text, "event-"), "three names, however long the rest is")
	})
}

func TestServe_ADeadlineThatHasPassedNamesTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
		defer cancel()
		for name, payload := range map[string]string{"events": string(batch(item(1))), "check": `{"Check":{}}`, "discovery": `{"Discover":{}}`} {
			_, err := d.Serve(ctx, "", []byte(payload))
			var fault *handler.OperatorFaultError
			require.ErrorAs(t, err, &fault, name)
			assert.Contains(t, err.Error(), "DeadlinePassed: the deadline of the invocation, 1999-12-31T23:00:00Z, had passed when it began, at 2000-01-01T00:00:00Z", name)
			assert.Contains(t, err.Error(), "clock", name)
		}
		assert.Zero(t, d.dbs.total)
		assert.Equal(t, "DeadlinePassed", d.lines(t, "operator fault")[0]["errCode"])
	})
}

func TestHandler_ReportsTheFirstFaultOfSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(_ context.Context, request events.Request) error {
			if request.ClientToken == "event-0" {
				time.Sleep(time.Millisecond) // the others are in flight
				return operatorFault("First")
			}
			time.Sleep(time.Second)
			return operatorFault("Second")
		}
		_, err := d.handle(t, time.Minute, batch(items(4)...))
		require.ErrorContains(t, err, "operator fault: DBS First")
		assert.Equal(t, 4, d.dbs.total)
	})
}

func TestServe_ADeadlineThatHasPassedCountsNoEvents(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Hour))
	defer cancel()
	_, err := deploy(nil).Serve(ctx, "", batch(item(1)))
	assert.NotContains(t, err.Error(), "events are open")
}
