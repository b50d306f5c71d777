// Package outbox publishes messages to one queue, in batches, each message with a
// delay of its own.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"increment-backup-download/handler/attempt"
	"increment-backup-download/handler/cloud"
)

// Limits of one BatchSendMessage request to MNS. See
// https://help.aliyun.com/document_detail/35135.html.
const (
	MaxMessages = 16
	MaxBytes    = 64 << 10 // of all bodies, and so of one
)

// publishers is how many batches an outbox sends at once: 64 messages in the time
// of one request. At 16 calls in flight that keeps up as long as MNS takes less
// than four times as long as DBS.
const publishers = 4

// linger is how long the first message of a batch waits for others.
const linger = time.Second

// maxUnderWay bounds the bytes of messages taken but not ended, and of what is kept with
// each: the memory that a queue may cost while it does not answer.
const (
	maxUnderWay = 4 << 20
	overhead    = 1 << 10
)

// maxAlone is how many messages go alone at most because their batches are refused with
// an unknown code: more are no fault of single messages.
const maxAlone = 10 * MaxMessages

// Message is a message for a queue.
type Message struct {
	Body  string
	Delay time.Duration // until the queue shows it: whole seconds, at most seven days
}

// Queue publishes messages to one queue of MNS.
type Queue interface {
	// Send publishes 1 to 16 messages of at most 64 KB in all, and returns an answer
	// for each, in order: nil only if the queue has accepted the message. A single
	// oversized body is passed on and rejected. Send may be called by many goroutines
	// at once, must make one attempt, return soon after ctx ends, and classify its
	// failures as *cloud.Error; any other error is transient. Delivery is
	// at-least-once: a message answered with an error may have been accepted.
	Send(ctx context.Context, messages []Message) []error
	// Size returns how many bytes a body takes in a message: a body that XML cannot
	// carry goes in base64.
	Size(body string) int
}

// queued is a message on its way. done is called once: with nil when the queue has
// accepted it, else with the reason why it was given up.
type queued struct {
	Message
	size int
	done func(error)
}

// Outbox publishes messages to one queue in full batches while more are coming, and
// what it has a second after the first message that waits. After an operator fault of
// its own queue it sends nothing more. It is safe for concurrent use.
type Outbox struct {
	calls  context.Context // whoever adds waits no longer than this
	queue  Queue
	caller attempt.Caller
	slots  chan struct{}
	sends  sync.WaitGroup
	alone  atomic.Int32 // messages that went alone because of an unknown refusal

	mu       sync.Mutex // guards what follows
	pending  []queued
	bytes    int           // pending
	underWay int           // bytes of all messages that have not ended
	room     chan struct{} // closed when there is room again; nil if nobody waits for it
	timer    *time.Timer   // cuts the pending messages
	stopped  error
}

// New returns an outbox that publishes until the invocation's time for it ends.
func New(invocation *attempt.Invocation, queue Queue) *Outbox {
	o := &Outbox{calls: invocation.Calls, queue: queue, slots: make(chan struct{}, publishers), caller: *invocation.CallMNS()}
	o.timer = time.AfterFunc(linger, o.cut)
	o.timer.Stop() // until a message waits
	return o
}

// Stop makes the outbox give up what it has not yet sent, for the given reason.
func (o *Outbox) Stop(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped == nil {
		o.stopped = reason
	}
	o.makeRoomLocked()
}

// Add takes a message, and calls done once: with nil when the queue has accepted it,
// else with the reason why it was given up. While too much is under way Add waits, so
// that its caller creates no more, until the time for calls ends; then it gives the
// message up.
func (o *Outbox) Add(m Message, done func(error)) {
	one := queued{m, o.queue.Size(m.Body), done}
	o.mu.Lock()
	for o.underWay > maxUnderWay && o.stopped == nil {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-o.calls.Done():
			done(context.Cause(o.calls))
			return
		}
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	if o.bytes+one.size > MaxBytes {
		o.cutLocked()
	}
	if len(o.pending) == 0 {
		o.timer.Reset(linger)
	}
	o.pending = append(o.pending, one)
	o.bytes += one.size
	o.underWay += one.size + overhead
	if len(o.pending) == MaxMessages {
		o.cutLocked()
	}
}

// makeRoomLocked releases the callers that wait in Add.
func (o *Outbox) makeRoomLocked() {
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// end ends a message.
func (o *Outbox) end(m queued, err error) {
	m.done(err)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.underWay -= m.size + overhead; o.underWay <= maxUnderWay {
		o.makeRoomLocked()
	}
}

// Flush sends the rest, and returns when all that was added has ended. Nothing may be
// added meanwhile.
func (o *Outbox) Flush() {
	o.cut()
	o.sends.Wait()
}

// cut sends the pending messages off.
func (o *Outbox) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cutLocked()
}

// cutLocked sends the pending messages off as a batch.
func (o *Outbox) cutLocked() {
	messages := o.pending
	o.pending, o.bytes = nil, 0
	if len(messages) == 0 {
		return
	}
	o.timer.Stop()
	o.sends.Go(func() { o.deliver(messages) })
}

// deliver sends a batch, and sends again only what the queue refuses for now, until
// nothing is left or there is no time.
func (o *Outbox) deliver(messages []queued) {
	b := &batch{outbox: o, messages: messages}
	defer b.release()
	caller := o.caller
	caller.Gate = b
	if err := caller.Do(b.send, slog.Int("messages", len(messages))); err != nil {
		for _, m := range b.messages {
			if cloud.ErrorOf(err).Unrecognized && len(b.messages) > 1 && o.alone.Add(1) <= maxAlone {
				o.deliverAlone(m)
			} else {
				o.end(m, err)
			}
		}
	}
}

// deliverAlone sends a message that is refused as part of a batch: alone it cannot
// block the others.
func (o *Outbox) deliverAlone(m queued) {
	o.sends.Go(func() { o.deliver([]queued{m}) })
}

// batch is a batch on its way: the messages that the queue has not accepted yet. As
// the gate of its attempts it takes one of the outbox's slots.
type batch struct {
	outbox   *Outbox
	messages []queued
	partly   bool // the queue has taken a part of the last attempt
	holds    bool // a slot
}

// Enter implements [attempt.Gate].
func (b *batch) Enter(ctx context.Context) (int, error) {
	if !b.holds {
		select {
		case b.outbox.slots <- struct{}{}:
			b.holds = true
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	b.outbox.mu.Lock()
	defer b.outbox.mu.Unlock()
	return 0, b.outbox.stopped
}

// Leave implements [attempt.Gate]. If the queue has taken a part of the batch, the rest
// holds no slot while it waits, so that it delays no other batch. If it has taken
// nothing, the others would fare no better and add to the queue's load.
func (b *batch) Leave(int, error) {
	if b.partly {
		b.release()
	}
}

func (b *batch) release() {
	if b.holds {
		<-b.outbox.slots
		b.holds = false
	}
}

// send makes one attempt. It finishes the messages that the queue accepts, and one
// that it refuses for good if that was sent alone. Its error is why the others
// are left.
func (b *batch) send(ctx context.Context) (reason error) {
	messages := make([]Message, len(b.messages))
	for i, m := range b.messages {
		messages[i] = m.Message
	}
	b.partly = false
	answers := b.outbox.queue.Send(ctx, messages)
	if len(answers) != len(messages) {
		return fmt.Errorf("the queue answered for %d of %d messages", len(answers), len(messages))
	}
	var again []queued
	for i, m := range b.messages {
		err := answers[i]
		switch {
		case err == nil, cloud.KindOf(err) == cloud.Permanent && len(messages) == 1:
			b.outbox.end(m, err)
		case cloud.KindOf(err) == cloud.Permanent:
			b.outbox.deliverAlone(m)
		default:
			again = append(again, m)
			// An operator fault outweighs the rest: sending again is of no use then.
			if reason == nil || cloud.KindOf(err) == cloud.OperatorFault {
				reason = err
			}
		}
	}
	b.partly = len(again) < len(messages)
	b.messages = again
	if cloud.KindOf(reason) == cloud.OperatorFault {
		b.outbox.Stop(reason)
	}
	return reason
}
