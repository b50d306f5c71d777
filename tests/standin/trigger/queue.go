// Package trigger holds stand-ins for the triggers of the function: the EventBridge
// event stream that delivers an MNS queue (batches, synchronous, and a failed batch
// whole again), and the timer of Function Compute.
package trigger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/mns"
)

// A batch is bounded by the body of a synchronous invocation, too. The messages that
// are received together may come to maxGroup bytes, if each character is escaped and
// each message is delivered twice.
const (
	maxPayload = 32 << 20
	groupSize  = 16
	maxGroup   = groupSize * 2 * (6*65536 + 1024)
)

// pollInterval is how often Run looks at an empty queue.
const pollInterval = 50 * time.Millisecond

// Trigger delivers the messages of a queue.
type Trigger struct {
	Queue     *mns.Service
	Source    string // the queue to deliver from
	BatchSize int    // messages in a batch, at the most
	// Deliver delivers one payload; an error delivers the batch again.
	Deliver func(ctx context.Context, payload []byte) error
	// Retries bounds the deliveries of a batch after the first; 0 means 176, as
	// EXPONENTIAL_DECAY_RETRY has.
	Retries int
	// FirstWait is the wait before the second delivery; it doubles up to 512 times
	// that. 0 means a second, as the service waits.
	FirstWait time.Duration
	// Duplicate says whether a message is delivered once more with its batch, as
	// at-least-once delivery may.
	Duplicate func() bool
	// DeadLetters is the queue that takes a batch that was given up: the whole payload
	// as one message, since a batch fails as a whole. Which form it has in the service
	// is not documented. Without such a queue, a batch that is given up ends Drain and
	// Run with an error.
	DeadLetters string
	// Delivered, if set, is called after each delivery.
	Delivered func(Delivery)
}

// Delivery is one delivery of a batch.
type Delivery struct {
	Messages []mns.Message
	Attempt  int // from 1
	Took     time.Duration
	Err      error         // of the delivery
	Wait     time.Duration // until the next attempt; 0 if there is none
}

// GaveUp reports whether the batch failed and is not delivered again.
func (d Delivery) GaveUp() bool { return d.Err != nil && d.Wait == 0 }

// event is a message as EventBridge wraps it.
type event struct {
	Data            data   `json:"data"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	SpecVersion     string `json:"specversion"`
	Type            string `json:"type"`
	DataContentType string `json:"datacontenttype"`
	Time            string `json:"time"`
	Subject         string `json:"subject"`
	AccountID       string `json:"aliyunaccountid"`
}

type data struct {
	RequestID   string `json:"requestId"`
	MessageID   string `json:"messageId"`
	MessageBody string `json:"messageBody"`
}

// Payload returns the event stream payload that carries messages.
func (t *Trigger) Payload(messages []mns.Message) []byte {
	encoded := make([][]byte, 0, len(messages))
	for _, m := range messages {
		encoded = append(encoded, t.encode(m)...)
	}
	return join(encoded)
}

// encode returns a message as an element of the payload, or twice.
func (t *Trigger) encode(m mns.Message) [][]byte {
	element, err := json.Marshal(event{
		Data:            data{RequestID: standin.Random(24), MessageID: m.ID, MessageBody: m.Body},
		ID:              m.ID,
		Source:          "acs:mns",
		SpecVersion:     "1.0",
		Type:            "mns:Queue:SendMessage",
		DataContentType: "application/json; charset=utf-8",
		Time:            time.UnixMilli(m.EnqueueTime).UTC().Format("2006-01-02T15:04:05.999Z"),
		Subject:         strings.Join([]string{"acs:mns", t.Queue.Region, t.Queue.AccountID, "queues/" + t.Source}, ":"),
		AccountID:       t.Queue.AccountID,
	})
	if err != nil {
		panic(err)
	}
	if t.Duplicate != nil && t.Duplicate() {
		return [][]byte{element, element}
	}
	return [][]byte{element}
}

func join(elements [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(elements, []byte{','})...), ']')
}

// Drain delivers until nothing in the queue can be received now, and returns how many deliveries were
// made and how many of them failed.
func (t *Trigger) Drain(ctx context.Context) (deliveries, failed int, err error) {
	for {
		batch, payload := t.receive()
		if len(batch) == 0 {
			return deliveries, failed, nil
		}
		made, bad, err := t.deliver(ctx, batch, payload)
		deliveries += made
		failed += bad
		if err != nil {
			return deliveries, failed, err
		}
	}
}

// DrainDelayed is Drain until no message is delayed either.
func (t *Trigger) DrainDelayed(ctx context.Context) (deliveries, failed int, err error) {
	for {
		made, bad, err := t.Drain(ctx)
		deliveries += made
		failed += bad
		if _, _, delayed := t.Queue.Counts(t.Source); err != nil || delayed == 0 && made == 0 {
			return deliveries, failed, err
		}
		if made == 0 && !pause(ctx, pollInterval) {
			return deliveries, failed, ctx.Err()
		}
	}
}

// Run delivers what is in the queue and what arrives, until ctx ends, which is no
// error.
func (t *Trigger) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		batch, payload := t.receive()
		if len(batch) == 0 {
			pause(ctx, pollInterval)
			continue
		}
		if _, _, err := t.deliver(ctx, batch, payload); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// deliver delivers a batch until that succeeds or the batch is given up, and
// returns how many deliveries were made, and how many of them failed.
func (t *Trigger) deliver(ctx context.Context, batch []mns.Message, payload []byte) (made, failed int, err error) {
	retries, wait := t.Retries, t.FirstWait
	if retries == 0 {
		retries = 176
	}
	if wait == 0 {
		wait = time.Second
	}
	longest := 512 * wait
	for {
		started := time.Now()
		failure := t.Deliver(ctx, payload)
		made++
		if failure != nil {
			failed++
		}
		delivery := Delivery{Messages: batch, Attempt: made, Took: time.Since(started), Err: failure}
		if failure != nil && made <= retries {
			delivery.Wait = wait
		}
		if t.Delivered != nil {
			t.Delivered(delivery)
		}
		switch {
		case failure == nil:
			t.delete(batch)
			return made, failed, nil
		case delivery.GaveUp() && t.DeadLetters == "":
			return made, failed, fmt.Errorf("the batch failed %d times, the last time: %w", made, failure)
		case delivery.GaveUp():
			if _, err := t.Queue.Put(t.DeadLetters, string(payload)); err != nil {
				return made, failed, err
			}
			t.delete(batch)
			return made, failed, nil
		}
		if !pause(ctx, wait) {
			return made, failed, fmt.Errorf("%w; the last delivery failed: %w", ctx.Err(), failure)
		}
		wait = min(2*wait, longest)
	}
}

func (t *Trigger) delete(batch []mns.Message) {
	for _, m := range batch {
		t.Queue.Delete(t.Source, m.ReceiptHandle)
	}
}

// receive takes the next batch from the queue, and returns its payload as well.
func (t *Trigger) receive() (batch []mns.Message, payload []byte) {
	var elements [][]byte
	size := 0
	for len(batch) < t.BatchSize && size+maxGroup <= maxPayload {
		group := t.Queue.Receive(t.Source, min(groupSize, t.BatchSize-len(batch)))
		if len(group) == 0 {
			break
		}
		for _, m := range group {
			for _, element := range t.encode(m) {
				elements = append(elements, element)
				size += len(element) + 1
			}
		}
		batch = append(batch, group...)
	}
	return batch, join(elements)
}

// pause waits, and reports whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
