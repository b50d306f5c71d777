package handler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"increment-backup-download/handler/cloud"
)

// Limits of one BatchSendMessage request to MNS. See
// https://help.aliyun.com/document_detail/35135.html.
const (
	maxBatch      = 16
	maxBatchBytes = 64 << 10
)

// publishers is how many batches an outbox sends at once: 64 messages in the time
// of one request. At 16 calls in flight that keeps up as long as MNS takes less
// than four times as long as DBS.
const publishers = 4

// message is a queue message on its way. done is called once: with nil when the
// queue has accepted it, else with the reason why it was given up.
type message struct {
	body string
	done func(error)
}

// outbox publishes messages to one queue in full batches, while more are coming,
// and the rest when it is flushed. After an operator fault of its own queue it
// sends nothing more. It is safe for concurrent use.
type outbox struct {
	ctx      context.Context
	queue    Queue
	log      *callLog
	slots    chan struct{}
	sends    sync.WaitGroup
	patience *patience

	mu      sync.Mutex // guards what follows
	pending []message
	bytes   int
	stopped error
}

func newOutbox(ctx context.Context, queue Queue, log *callLog) *outbox {
	return &outbox{ctx: ctx, queue: queue, log: log, slots: make(chan struct{}, publishers), patience: newPatience(publishTimeout)}
}

// stop makes the outbox give up what it has not yet sent, for the given reason.
func (o *outbox) stop(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped == nil {
		o.stopped = reason
	}
}

// add takes a message, and never waits for the queue.
func (o *outbox) add(m message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes+len(m.body) > maxBatchBytes {
		o.cutLocked()
	}
	o.pending = append(o.pending, m)
	o.bytes += len(m.body)
	if len(o.pending) == maxBatch {
		o.cutLocked()
	}
}

// flush sends the rest, and returns when all that was added is done.
func (o *outbox) flush() {
	o.mu.Lock()
	o.cutLocked()
	o.mu.Unlock()
	o.sends.Wait()
}

// cutLocked sends the pending messages off as a batch.
func (o *outbox) cutLocked() {
	batch := o.pending
	o.pending, o.bytes = nil, 0
	if len(batch) == 0 {
		return
	}
	o.sends.Go(func() {
		select {
		case o.slots <- struct{}{}:
			o.deliver(batch)
			<-o.slots
		case <-o.ctx.Done():
			giveUp(batch, context.Cause(o.ctx))
		}
	})
}

// deliver sends a batch. A message that is refused for good as part of a batch is
// sent alone once, so that it cannot block the others.
func (o *outbox) deliver(batch []message) {
	for _, m := range o.repeat(batch) {
		o.repeat([]message{m})
	}
}

// repeat sends a batch, and what is refused for now, and only that, again, until
// nothing is left or there is no time. It returns what to send alone.
func (o *outbox) repeat(batch []message) (alone []message) {
	state := attempts{shared: o.patience}
	for size := len(batch); ; {
		again, refused, err := o.send(&state, batch)
		alone = append(alone, refused...)
		if len(again) == 0 {
			return alone
		}
		if cloud.ErrorOf(err).Throttled {
			o.log.throttled.Add(1)
		}
		wait, more := state.next(o.ctx, err)
		if more {
			o.log.repeat("publishing again", state.made, wait, err, slog.Int("messages", len(again)))
			more = o.pause(wait, len(again) < size) == nil
		}
		if !more {
			giveUp(again, err)
			return alone
		}
		batch = again
	}
}

// pause waits before the next attempt of a batch. If the queue has taken a part of
// it, the rest holds no slot meanwhile, so that it delays no other batch. If it has
// taken nothing, the others would fare no better and add to the queue's load.
func (o *outbox) pause(wait time.Duration, partly bool) error {
	if partly {
		<-o.slots
		defer func() { o.slots <- struct{}{} }()
	}
	return sleep(o.ctx, wait)
}

// send sends a batch once. It finishes the messages that the queue accepts, and one
// that it refuses for good if that was sent alone. It returns what to send again,
// with the reason, and what to send alone.
func (o *outbox) send(state *attempts, batch []message) (again, alone []message, reason error) {
	o.mu.Lock()
	stopped := o.stopped
	o.mu.Unlock()
	if stopped != nil {
		return batch, nil, stopped
	}
	bodies := make([]string, len(batch))
	for i, m := range batch {
		bodies[i] = m.body
	}
	var answers []error
	_ = state.run(o.ctx, func(ctx context.Context) error {
		answers = o.queue.Send(ctx, bodies)
		return errors.Join(answers...)
	})
	if len(answers) != len(batch) {
		return batch, nil, fmt.Errorf("the queue answered for %d of %d messages", len(answers), len(batch))
	}
	for i, m := range batch {
		err := answers[i]
		switch {
		case err == nil, cloud.KindOf(err) == cloud.Permanent && len(batch) == 1:
			m.done(err)
		case cloud.KindOf(err) == cloud.Permanent:
			alone = append(alone, m)
		default:
			again = append(again, m)
			// An operator fault outweighs the rest: sending again is of no use then.
			if reason == nil || cloud.KindOf(err) == cloud.OperatorFault {
				reason = err
			}
		}
	}
	if cloud.KindOf(reason) == cloud.OperatorFault {
		o.stop(reason)
	}
	return again, alone, reason
}

func giveUp(batch []message, reason error) {
	for _, m := range batch {
		m.done(reason)
	}
}

// unpublishedError says that an event is open because its result or dead letter
// could not be published.
type unpublishedError struct {
	what string // result or dead letter
	task Task   // that exists; empty if none does
	err  error
}

func (e *unpublishedError) Error() string {
	text := "its " + e.what + " is not published: " + e.err.Error()
	if e.task.ID != "" {
		text += fmt.Sprintf("; task %s exists, DBS RequestId %s", e.task.ID, e.task.RequestID)
	}
	return text
}

func (e *unpublishedError) Unwrap() error { return e.err }
