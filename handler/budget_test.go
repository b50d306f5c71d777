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

func TestHandler_ReadsNoFurtherOnceItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(func(c *handler.Config) { c.Concurrency = 1 })
		ctx, cancel := context.WithCancel(t.Context())
		d.dbs.before = func(context.Context, events.Request) error {
			synctest.Wait() // the second event waits for a worker
			cancel()
			return context.Canceled
		}
		summary, err := d.Handle(ctx, "", batch(items(20)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		assert.Equal(t, 2, summary.Events)
		assert.Contains(t, err.Error(), "2 of 2 events are open, and there was no time to read the others")
	})
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
			return &cloud.Error{Service: "DBS", Code: strings.Repeat("C", 5000), Message: strings.Repeat("中", 5000)}
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
			return &cloud.Error{Service: "DBS", Code: "Timeout", Message: "no answer from dbs within 7s", Err: context.Cause(ctx)}
		}
		_, err := d.handle(t, 10*time.Second, batch(items(40)...))
		var redelivery *handler.RedeliveryError
		require.ErrorAs(t, err, &redelivery)
		before, _, _ := strings.Cut(err.Error(), "; event event-2")
		assert.Equal(t, 1, strings.Count(before, "no answer from dbs within 7s"), err.Error())
		assert.Equal(t, 1, strings.Count(before, ": Timeout"), "a code without its reason again: %v", err)
		assert.Equal(t, "Timeout", d.lines(t, "events left open for redelivery")[0]["errCode"])
		codes := map[any]int{}
		for _, line := range d.lines(t, "event open, to be delivered again") {
			codes[line["errCode"]]++
		}
		assert.Equal(t, map[any]int{"Timeout": 2, "NotTried": 38}, codes)
	})
}

func TestHandler_CallsGoOnUntilThePublishingReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		started := time.Now()
		d.dbs.before = func(context.Context, events.Request) error {
			if time.Since(started) < 278*time.Second {
				return transient("ServiceUnavailable")
			}
			return nil
		}
		// One second is for the answer, ten are for publishing.
		summary, err := d.handle(t, 5*time.Minute, batch(items(50)...))
		if err != nil {
			require.ErrorContains(t, err, "are open")
		}
		assert.Greater(t, summary.Created, 20)
	})
}

func TestHandler_LeavesTimeToPublishAfterTheLastCall(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		t.Run(fmt.Sprint(timeout), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := deploy(nil)
				d.dbs.before = func(ctx context.Context, request events.Request) error {
					if request.ClientToken == "event-7" {
						return hang(ctx)
					}
					return nil
				}
				d.results.before = func(ctx context.Context) error { return answerAfter(ctx, timeout/10) }
				summary, err := d.handle(t, timeout, batch(items(20)...))
				require.Error(t, err)
				assert.Equal(t, 19, summary.Created)
			})
		})
	}
}

func TestHandler_LeavesMoreTimeToAnswerALargerPayload(t *testing.T) {
	for _, n := range []int{1, 10_000} {
		synctest.Test(t, func(t *testing.T) {
			d := deploy(nil)
			d.results.before = hang
			payload := batch(items(n)...)
			deadline := time.Now().Add(5 * time.Minute)
			_, err := d.handle(t, 5*time.Minute, payload)
			require.Error(t, err)
			left := time.Until(deadline) - time.Second
			assert.InDelta(t, float64(len(payload))*300e-9, left.Seconds(), 0.001)
		})
	}
}

func TestHandler_OpenEventsDoNotDrownTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deploy(nil)
		d.results.before = hang
		_, err := d.handle(t, time.Minute, batch(items(10_000)...))
		require.Error(t, err)
		assert.Len(t, d.lines(t, "event open, to be delivered again"), 100)
		more := d.lines(t, "more events open, without a line of their own")
		require.Len(t, more, 1)
		assert.InDelta(t, 10_000, more[0]["open"], 0)
		assert.Contains(t, err.Error(), "10000 of 10000 events are open")
	})
}

// A payload that there was no time to read must come again.
func TestHandler_WhatIsNotReadFailsTheInvocation(t *testing.T) {
	d := deploy(nil)
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := d.Handle(ctx, "", batch(item(1)))
	var redelivery *handler.RedeliveryError
	require.ErrorAs(t, err, &redelivery)
	assert.Contains(t, err.Error(), "no time to read the others")
}
