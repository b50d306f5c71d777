package handler

import (
	"sync"
	"time"

	"increment-backup-download/events"
	"increment-backup-download/handler/cloud"
)

// duplicates knows the events of one batch that belong together: repeats of one
// event, which end as the first one ends, and events that share a ClientToken. It
// is safe for concurrent use.
type duplicates struct {
	mu        sync.Mutex // guards what follows, and all fates and calls
	fates     map[recordKey]*fate
	resultIDs map[string]bool
	calls     map[string]*call // by ClientToken
}

func newDuplicates() *duplicates {
	return &duplicates{fates: make(map[recordKey]*fate), resultIDs: make(map[string]bool), calls: make(map[string]*call)}
}

// fate is the end that an event of the batch shares with its repeats.
type fate struct {
	outcome outcome // empty until the event has ended
	left    outcomeData
	reason  error // why it is open
	repeats []*delivery
}

// call is one request to DBS, with the events that depend on its answer.
type call struct {
	request events.Request

	// Of the one goroutine that makes the attempt at hand.
	attempts attempts
	started  time.Time // of the first attempt
	due      time.Time // of the next one
	err      error     // of the last one

	waiting []*delivery // events with the same request
	rivals  []*delivery // events with the same ClientToken and another request
	ended   bool
	task    Task
	failure error
}

// admit gives an event the ID of its result and a fate, under the given keys. If
// the event repeats another one of the batch, it returns the fate of that one, and
// whether it has ended; if not, the event will be returned with its repeats.
func (b *duplicates) admit(d *delivery, keys ...recordKey) (first *fate, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		if known, ok := b.fates[key]; ok {
			if known.outcome == "" {
				known.repeats = append(known.repeats, d)
			}
			return known, known.outcome != ""
		}
	}
	d.fate = &fate{}
	for _, key := range keys {
		b.fates[key] = d.fate
	}
	// Two events that share an ID and differ otherwise must not have one result ID.
	if b.resultIDs[d.resultID] {
		d.resultID = d.event.OwnResultID()
	}
	b.resultIDs[d.resultID] = true
	return nil, false
}

// close notes how an event ended, and returns its repeats, which end alike.
func (b *duplicates) close(e end) []*delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	repeats := e.fate.repeats
	*e.fate = fate{outcome: e.outcome, left: outcomeOf(e.data), reason: e.reason}
	return repeats
}

// step is what an event's ClientToken asks for next.
type step int

const (
	stepCall     step = iota // make the call
	stepWait                 // another event's call decides
	stepSettle               // the call has ended: take its outcome
	stepConflict             // the call created a task for another request
	stepOpen                 // the call for another request ended, and may have created a task
)

// join returns the call for an event's ClientToken, and what to do with it.
func (b *duplicates) join(d *delivery) (*call, step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	token := d.event.Request.ClientToken
	c := b.calls[token]
	switch {
	case c != nil && c.request == d.event.Request && !c.ended:
		c.waiting = append(c.waiting, d)
		return c, stepWait
	case c != nil && c.request == d.event.Request:
		return c, stepSettle
	case c != nil && !c.ended:
		c.rivals = append(c.rivals, d)
		return c, stepWait
	case c != nil && c.failure == nil:
		return c, stepConflict
	case c != nil && cloud.KindOf(c.failure) != cloud.Permanent:
		return c, stepOpen
	}
	c = &call{request: d.event.Request, waiting: []*delivery{d}}
	b.calls[token] = c
	return c, stepCall
}

// end notes how a call ended, and returns the events that depend on it.
func (b *duplicates) end(c *call, task Task, failure error) (waiting, rivals []*delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.ended, c.task, c.failure = true, task, failure
	waiting, rivals = c.waiting, c.rivals
	c.waiting, c.rivals = nil, nil
	return waiting, rivals
}

// know notes the task that an earlier invocation created for a request, so that
// its ClientToken stays taken.
func (b *duplicates) know(request events.Request, done outcomeData) {
	if done.taskID == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls[request.ClientToken] == nil {
		b.calls[request.ClientToken] = &call{request: request, ended: true, task: Task{ID: done.taskID, RequestID: done.requestID}}
	}
}
