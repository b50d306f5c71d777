package handler

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
)

// creation is a call that creates a download task.
type creation struct {
	batch   *batch
	request events.Request

	// Used only by the goroutine that makes the current attempt.
	state   attempt.State
	started time.Time // of the first attempt

	// Guarded by the lock of duplicates, until answer is set.
	waiting []*delivery // events with the same request
	rivals  []*delivery // events with the same ClientToken and another request
	answer  *answer     // nil until the call has ended
}

// answer is what became of a call, for every event that shares it.
type answer struct {
	task      Task
	failure   error
	permanent bool // the failure ends the events
	attempts  int
	took      time.Duration // from the first attempt to the last answer
}

// Attempt implements work.
func (c *creation) Attempt() (wait time.Duration, again bool) {
	if c.started.IsZero() {
		c.started = time.Now()
	}
	var task Task
	wait, again, err := c.batch.caller.Attempt(&c.state, func(ctx context.Context) (err error) {
		task, err = c.batch.handler.ports.Tasks.CreateTask(ctx, c.request)
		return err
	}, slog.String("clientToken", c.request.ClientToken))
	if !again {
		c.end(task, err)
	}
	return wait, again
}

// GiveUp implements work: the call ends with its last failure if it was made.
func (c *creation) GiveUp(reason error) { c.end(Task{}, cmp.Or(c.state.Last, reason)) }

func (c *creation) end(task Task, failure error) {
	b := c.batch
	if cloud.KindOf(failure) == cloud.OperatorFault {
		b.stop(failure)
	}
	got := answer{task: task, failure: failure, permanent: cloud.KindOf(failure) == cloud.Permanent, attempts: c.state.Made}
	if !c.started.IsZero() {
		got.took = time.Since(c.started)
	}
	waiting, rivals := b.duplicates.end(c, got, c.state.RefusedForGood())
	for _, d := range waiting {
		b.settle(d, *c.answer)
	}
	for _, d := range rivals {
		if next := b.join(d); next != nil {
			b.dispatcher.repeat(next, 0)
		}
	}
}
