// Package trigger is a stand-in for the EventBridge event stream that delivers an
// MNS queue to the function: batches, synchronous, and a failed batch whole again.
package trigger

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"increment-backup-download/tests/standin"
	"increment-backup-download/tests/standin/mns"
)

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
}

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
	events := make([]event, 0, len(messages))
	for _, m := range messages {
		e := event{
			Data:            data{RequestID: standin.Random(24), MessageID: m.ID, MessageBody: m.Body},
			ID:              m.ID,
			Source:          "acs:mns",
			SpecVersion:     "1.0",
			Type:            "mns:Queue:SendMessage",
			DataContentType: "application/json; charset=utf-8",
			Time:            time.UnixMilli(m.EnqueueTime).UTC().Format("2006-01-02T15:04:05.999Z"),
			Subject:         strings.Join([]string{"acs:mns", t.Queue.Region, t.Queue.AccountID, "queues/" + t.Source}, ":"),
			AccountID:       t.Queue.AccountID,
		}
		events = append(events, e)
		if t.Duplicate != nil && t.Duplicate() {
			events = append(events, e)
		}
	}
	payload, err := json.Marshal(events)
	if err != nil {
		panic(err)
	}
	return payload
}

// Drain delivers until the queue is empty, and returns how many deliveries were
// made and how many of them failed.
func (t *Trigger) Drain(ctx context.Context) (deliveries, failed int, err error) {
	retries, firstWait := t.Retries, t.FirstWait
	if retries == 0 {
		retries = 176
	}
	if firstWait == 0 {
		firstWait = time.Second
	}
	for {
		batch := t.receive()
		if len(batch) == 0 {
			return deliveries, failed, nil
		}
		payload := t.Payload(batch)
		wait := firstWait
		for attempt := 0; ; attempt++ {
			deliveries++
			failure := t.Deliver(ctx, payload)
			if failure == nil {
				break
			}
			failed++
			if attempt == retries {
				return deliveries, failed, fmt.Errorf("the batch failed %d times, the last time: %w", attempt+1, failure)
			}
			select {
			case <-time.After(wait):
				wait = min(2*wait, 512*firstWait)
			case <-ctx.Done():
				return deliveries, failed, fmt.Errorf("%w; the last delivery failed: %w", ctx.Err(), failure)
			}
		}
		for _, m := range batch {
			t.Queue.Delete(t.Source, m.ReceiptHandle)
		}
	}
}

func (t *Trigger) receive() []mns.Message {
	var batch []mns.Message
	for len(batch) < t.BatchSize {
		more := t.Queue.Receive(t.Source, min(16, t.BatchSize-len(batch)))
		if len(more) == 0 {
			break
		}
		batch = append(batch, more...)
	}
	return batch
}
