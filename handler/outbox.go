package handler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Limits of one BatchSendMessage request to MNS.
const (
	maxBatch      = 16
	maxBatchBytes = 64 << 10
)

// publishers is how many batches an outbox has under way at once: 64 messages in
// the time of one request. At 16 calls in flight that keeps up as long as MNS takes
// less than four times as long as DBS.
const publishers = 4

// message is a queue message on its way. done is called once: with nil when the
// queue has accepted it, else with the reason why it was given up.
type message struct {
	body string
	done func(error)
}

// outbox publishes messages to one queue in full batches, while more are coming,
// and what is left when it is flushed. It is safe for concurrent use.
//
// After an operator fault of its own queue it sends nothing more.
type outbox struct {
	ctx     context.Context
	queue   Queue
	slots   chan struct{}
	sending sync.WaitGroup

	mu      sync.Mutex
	waiting []message
	bytes   int
	fault   error
}

func newOutbox(ctx context.Context, queue Queue) *outbox {
	return &outbox{ctx: ctx, queue: queue, slots: make(chan struct{}, publishers)}
}

// stop makes the outbox give up, with the reason, what it has not yet sent.
func (o *outbox) stop(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fault == nil {
		o.fault = reason
	}
}

func (o *outbox) stopped() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fault
}

// add takes a message, and never waits for the queue.
func (o *outbox) add(m message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes+len(m.body) > maxBatchBytes {
		o.cut()
	}
	o.waiting = append(o.waiting, m)
	o.bytes += len(m.body)
	if len(o.waiting) == maxBatch {
		o.cut()
	}
}

// flush sends what is waiting, and returns when all that was added is done with.
func (o *outbox) flush() {
	o.mu.Lock()
	o.cut()
	o.mu.Unlock()
	o.sending.Wait()
}

// cut sends the waiting messages off as a batch. The caller holds mu.
func (o *outbox) cut() {
	batch := o.waiting
	o.waiting, o.bytes = nil, 0
	if len(batch) == 0 {
		return
	}
	o.sending.Go(func() {
		select {
		case o.slots <- struct{}{}:
			o.send(batch)
			<-o.slots
		case <-o.ctx.Done():
			giveUp(batch, context.Cause(o.ctx))
		}
	})
}

// send publishes a batch; what the queue refuses for now, and only that, is sent
// again. What it refuses for good in company is tried alone: one message must not
// take others with it.
func (o *outbox) send(batch []message) {
	var alone []message
	defer func() {
		for _, m := range alone {
			o.send([]message{m})
		}
	}()
	err := retry(o.ctx, publishTimeout, func(ctx context.Context) error {
		if fault := o.stopped(); fault != nil {
			return fault
		}
		bodies := make([]string, len(batch))
		for i, m := range batch {
			bodies[i] = m.body
		}
		var again []message
		var reason error
		for i, err := range o.results(ctx, bodies) {
			switch {
			case err == nil, kindOf(err) == Permanent && len(batch) == 1:
				batch[i].done(err)
			case kindOf(err) == Permanent:
				alone = append(alone, batch[i])
			default:
				again = append(again, batch[i])
				// An operator fault outweighs: trying again is of no use then.
				if reason == nil || kindOf(err) == OperatorFault {
					reason = err
				}
			}
		}
		if kindOf(reason) == OperatorFault {
			o.stop(reason)
		}
		batch = again
		return reason
	}, func(error, time.Duration) {})
	giveUp(batch, err)
}

// results sends bodies and returns one answer for each, whatever the port does.
func (o *outbox) results(ctx context.Context, bodies []string) []error {
	answers := o.queue.Send(ctx, bodies)
	if len(answers) == len(bodies) {
		return answers
	}
	err := fmt.Errorf("the queue answered for %d of %d messages", len(answers), len(bodies))
	answers = make([]error, len(bodies))
	for i := range answers {
		answers[i] = err
	}
	return answers
}

func giveUp(batch []message, err error) {
	if err == nil {
		err = errors.New("not published")
	}
	for _, m := range batch {
		m.done(err)
	}
}
