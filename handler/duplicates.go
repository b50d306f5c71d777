package handler

import (
	"slices"
	"sync"

	"increment-backup-download/events"
)

// duplicates knows the events of one batch that belong together: repeats of one
// event, which end as the first one ends, and events that share a ClientToken. It
// is safe for concurrent use.
type duplicates struct {
	mu        sync.Mutex // guards what follows, and of deliveries and calls what they say
	first     map[recordKey]*delivery
	resultIDs map[string]bool
	calls     map[string]*creation // by ClientToken
}

func newDuplicates() *duplicates {
	return &duplicates{first: make(map[recordKey]*delivery), resultIDs: make(map[string]bool), calls: make(map[string]*creation)}
}

// admit gives an event the ID of its result, under the given keys. If the event
// repeats another one of the batch, it returns that one, and whether it has ended; if
// it has not, the event will be returned with its repeats.
func (s *duplicates) admit(d *delivery, keys []recordKey) (first *delivery, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if first := s.first[key]; first != nil {
			if first.ending == nil {
				first.repeats = append(first.repeats, d)
			}
			return first, first.ending != nil
		}
	}
	for _, key := range keys {
		s.first[key] = d
	}
	if d.event.FollowUp != nil {
		return nil, false // its result has the ID of the event whose task it follows
	}
	// Two events that share an ID and differ otherwise must not have one result ID.
	if s.resultIDs[d.resultID] {
		d.resultID = d.event.OwnResultID()
	}
	s.resultIDs[d.resultID] = true
	return nil, false
}

// close notes how an event ended, and returns its repeats, which end alike.
func (s *duplicates) close(d *delivery, e ending) []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	repeats := d.repeats
	d.ending, d.repeats = &e, nil
	return repeats
}

// join returns the call for an event's ClientToken, and whether the event has to wait for
// its end. If not, the call has ended, or is new and yet to be made. A call that failed for
// good leaves the token to another request.
func (s *duplicates) join(d *delivery) (c *creation, wait bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	request := d.event.Request
	c = s.calls[request.ClientToken]
	switch {
	case c == nil, c.request != request && c.answer != nil && c.answer.permanent:
		c = &creation{request: request, waiting: []*delivery{d}}
		s.calls[request.ClientToken] = c
	case c.answer != nil:
	case c.request == request:
		c.waiting = append(c.waiting, d)
		return c, true
	default:
		c.rivals = append(c.rivals, d)
		return c, true
	}
	return c, false
}

// end notes how a call ended, and returns the events that depend on it. A call that DBS
// keeps refusing with an unknown code has failed for good if one of them may end so.
func (s *duplicates) end(c *creation, a answer, refused bool) (waiting, rivals []*delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting, rivals = c.waiting, c.rivals
	a.permanent = a.permanent || refused && slices.ContainsFunc(waiting, (*delivery).mayEndRefused)
	c.answer, c.waiting, c.rivals = &a, nil, nil
	return waiting, rivals
}

// know notes the task that an earlier invocation created for a request, so that
// its ClientToken stays taken.
func (s *duplicates) know(request events.Request, earlier done) {
	if earlier.taskID == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[request.ClientToken] == nil {
		s.calls[request.ClientToken] = &creation{request: request,
			answer: &answer{task: Task{ID: earlier.taskID, RequestID: earlier.requestID}}}
	}
}
