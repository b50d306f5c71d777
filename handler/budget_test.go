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
)

// hang blocks until ctx ends, as a call to a service that does not answer.
func hang(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestHandler_AnswersBeforeTheDeadline(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute} {
		for name, arrange := range map[string]func(*deployment){
			"DBS hangs": func(d *deployment) {
				d.dbs.before = func(ctx context.Context, _ events.Request) error { return hang(ctx) }
			},
			"the result queue hangs": func(d *deployment) { d.results.before = hang },
			"both hang": func(d *deployment) {
				d.dbs.before = func(ctx context.Context, _ events.Request) error { return hang(ctx) }
				d.results.before = hang
			},
			"the dead-letter queue hangs": func(d *deployment) { d.deadLetters.before = hang },
			"DBS fails all the time": func(d *deployment) {
				d.dbs.before = func(context.Context, events.Request) error { return transient("InternalError") }
			},
		} {
			t.Run(fmt.Sprintf("%s, %v", name, timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := deploy(nil)
					arrange(d)
					ctx, cancel := context.WithTimeout(t.Context(), timeout)
					defer cancel()
					_, err := d.Handle(ctx, "", batch(append(items(20), "rubbish")...))
					var redelivery *handler.RedeliveryError
					require.ErrorAs(t, err, &redelivery)
					require.NoError(t, ctx.Err(), "answered in time")
				})
			})
		}
	}
}

func TestHandler_PublishesWhatIsFinishedBeforeItFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(ctx context.Context, request events.Request) error {
			if request.ClientToken == "event-7" {
				return hang(ctx)
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		summary, err := d.Handle(ctx, "", batch(items(20)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		assert.Contains(t, err.Error(), "1 of 20 events are open")
		assert.Contains(t, err.Error(), "event event-7 (mysql-bin.000007)")
		assert.Equal(t, 19, summary.Created)
		assert.Len(t, d.results.messages, 19)
	})
}

func TestHandler_BoundsTheErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.dbs.before = func(context.Context, events.Request) error {
			return &handler.ServiceError{Service: "DBS", Code: strings.Repeat("C", 5000), Message: strings.Repeat("中", 5000)}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := d.Handle(ctx, "", batch(items(500)...))
		require.Error(t, err)
		assert.Less(t, len(err.Error()), 4500)
		assert.Contains(t, err.Error(), "and 490 more")
	})
}

func TestHandler_NamesTheEventsThatAServiceAnsweredForFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 2 })
		d.dbs.before = func(ctx context.Context, _ events.Request) error {
			<-ctx.Done()
			return &handler.ServiceError{Service: "DBS", Code: "Timeout", Message: "no answer from dbs within 7s", Err: context.Cause(ctx)}
		}
		_, err := d.handle(t, 10*time.Second, batch(items(40)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		before, _, _ := strings.Cut(err.Error(), "; event event-2")
		assert.Equal(t, 2, strings.Count(before, "no answer from dbs within 7s"), err.Error())
		assert.Equal(t, "Timeout", d.lines(t, "events left open for redelivery")[0]["errCode"])
	})
}
