package mns

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"increment-backup-download/tests/standin"
)

// Attributes are the settable ones of a queue, with the service's bounds.
type Attributes struct {
	DelaySeconds           int
	MaximumMessageSize     int
	MessageRetentionPeriod int
	VisibilityTimeout      int
	PollingWaitSeconds     int
	LoggingEnabled         bool
}

// Defaults are the service's.
func Defaults() Attributes {
	return Attributes{MaximumMessageSize: 65536, MessageRetentionPeriod: 345600, VisibilityTimeout: 30}
}

func (a Attributes) check() *refusal {
	for _, bound := range []struct {
		name             string
		value, low, high int
	}{
		{"DelaySeconds", a.DelaySeconds, 0, 604800},
		{"MaximumMessageSize", a.MaximumMessageSize, 1024, 65536},
		{"MessageRetentionPeriod", a.MessageRetentionPeriod, 60, 604800},
		{"VisibilityTimeout", a.VisibilityTimeout, 1, 43200},
		{"PollingWaitSeconds", a.PollingWaitSeconds, 0, 30},
	} {
		if bound.value < bound.low || bound.value > bound.high {
			return invalid("The value of %s should between %d and %d", bound.name, bound.low, bound.high)
		}
	}
	return nil
}

// Message is a message as a consumer gets it. Times are epoch milliseconds.
type Message struct {
	ID               string
	Body             string
	BodyMD5          string
	ReceiptHandle    string
	EnqueueTime      int64
	FirstDequeueTime int64
	NextVisibleTime  int64
	DequeueCount     int
	Priority         int
	AccessKeyID      string // of the sender; empty for Put

	sequence int
}

// queue is guarded by its service's mutex.
type queue struct {
	name       string
	attributes Attributes
	created    time.Time
	modified   time.Time
	messages   []*Message // by priority, then by arrival
	sequence   int
	arrived    chan struct{} // closed and replaced when a message arrives
}

func bodyMD5(body string) string {
	sum := md5.Sum([]byte(body))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

func (q *queue) send(body string, delay time.Duration, priority int, now time.Time) *Message {
	q.sequence++
	m := &Message{
		ID: standin.Random(32), Body: body, BodyMD5: bodyMD5(body), EnqueueTime: now.UnixMilli(),
		NextVisibleTime: now.Add(delay).UnixMilli(), Priority: priority, sequence: q.sequence,
	}
	if delay > 0 {
		m.ReceiptHandle = q.handle(m)
	}
	at, _ := slices.BinarySearchFunc(q.messages, m, func(a, b *Message) int {
		if a.Priority != b.Priority {
			return a.Priority - b.Priority
		}
		return a.sequence - b.sequence
	})
	q.messages = slices.Insert(q.messages, at, m)
	close(q.arrived)
	q.arrived = make(chan struct{})
	return m
}

func (q *queue) handle(m *Message) string {
	return fmt.Sprintf("%d-%s-%s", m.Priority, m.ID, strconv.FormatInt(m.NextVisibleTime, 36)+"-"+strconv.Itoa(m.DequeueCount))
}

// receive returns up to n visible messages, and hides them for a while.
func (q *queue) receive(n int, now time.Time) []Message {
	q.expire(now)
	var received []Message
	for _, m := range q.messages {
		if len(received) == n {
			break
		}
		if m.NextVisibleTime > now.UnixMilli() {
			continue
		}
		m.DequeueCount++
		m.NextVisibleTime = now.UnixMilli() + int64(q.attributes.VisibilityTimeout)*1000
		if m.FirstDequeueTime == 0 {
			m.FirstDequeueTime = now.UnixMilli()
		}
		m.ReceiptHandle = q.handle(m)
		received = append(received, *m)
	}
	return received
}

func (q *queue) peek(n int, now time.Time) []Message {
	q.expire(now)
	var seen []Message
	for _, m := range q.messages {
		if len(seen) < n && m.NextVisibleTime <= now.UnixMilli() {
			seen = append(seen, *m)
		}
	}
	return seen
}

func (q *queue) expire(now time.Time) {
	oldest := now.UnixMilli() - int64(q.attributes.MessageRetentionPeriod)*1000
	q.messages = slices.DeleteFunc(q.messages, func(m *Message) bool { return m.EnqueueTime < oldest })
}

// find returns the message that a receipt handle stands for, while it is valid.
func (q *queue) find(handle string, now time.Time) (int, *refusal) {
	parts := strings.Split(handle, "-")
	if len(parts) != 4 {
		return 0, &refusal{400, "ReceiptHandleError", "The receipt handle you provide is not valid."}
	}
	for i, m := range q.messages {
		if m.ID == parts[1] {
			if m.ReceiptHandle != handle || m.NextVisibleTime <= now.UnixMilli() {
				break
			}
			return i, nil
		}
	}
	return 0, messageNotExist()
}

func (q *queue) remove(handle string, now time.Time) *refusal {
	i, refused := q.find(handle, now)
	if refused == nil {
		q.messages = slices.Delete(q.messages, i, i+1)
	}
	return refused
}

func (q *queue) counts(now time.Time) (active, inactive, delayed int) {
	for _, m := range q.messages {
		switch {
		case m.NextVisibleTime <= now.UnixMilli():
			active++
		case m.DequeueCount == 0:
			delayed++
		default:
			inactive++
		}
	}
	return active, inactive, delayed
}
